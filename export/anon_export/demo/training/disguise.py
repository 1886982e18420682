"""Disguises of aligned crops: other hair, covers, surroundings and light, so that networks read the face itself.

A label is removed where a disguise hides what it describes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from anon_runtime.faces.attributes import CELEBA

from ..networks import AROUND, COLOURS
from .data import Labels


@dataclass(frozen=True)
class Part:
    """An ellipse in FaRL's crop, in pixels, and the attributes that are visible in it.

    Attributes:
        centre, axes: the ellipse's centre and half axes, x and y.
        own: attributes that are visible inside.
        unsure: attributes that need both the inside and the outside.
    """

    centre: tuple[int, int]
    axes: tuple[int, int]
    own: tuple[str, ...]
    unsure: tuple[str, ...]


BELOW = ("Double_Chin", "Wearing_Necklace", "Wearing_Necktie")
_WHOLE = ("Blurry", "Chubby", "Double_Chin", "Oval_Face", "Pale_Skin")
FACE = Part((112, 132), (38, 46), tuple(n for n in CELEBA if n not in (*AROUND, *BELOW, *_WHOLE)), _WHOLE)
MOUTH = Part(
    (112, 152),
    (30, 20),
    (
        "5_o_Clock_Shadow",
        "Big_Lips",
        "Goatee",
        "Mouth_Slightly_Open",
        "Mustache",
        "No_Beard",
        "Smiling",
        "Wearing_Lipstick",
    ),
    ("Blurry", "Heavy_Makeup", "High_Cheekbones", "Male", "Sideburns", "Young"),
)
CHIN = 180  # its row
SWAPPED = 0.25  # share of images with another's face, and share with another's mouth
BENT, KNOTS, FURTHEST = 0.5, 8, 3  # share of bent images, control points per side, largest shift in pixels
SHAPES = (
    "Arched_Eyebrows",
    "Big_Lips",
    "Big_Nose",
    "Chubby",
    "Double_Chin",
    "High_Cheekbones",
    "Narrow_Eyes",
    "Oval_Face",
    "Pointy_Nose",
    "Smiling",
)
GRAY = 0.1  # share of the images without colour
GRAINS = (1, 2, 3, 6, 12, 30)  # numbers of spots of a texture along a side


def disguise(images: Tensor, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, Labels]:
    """Apply all disguises at random.

    Returns:
        The changed images and the remaining labels.

    Args:
        images: float32 (n, 3, side, side), RGB, -1..1, aligned as FaRL's crops are.
        labels: n of them.
        rng: random numbers.
    """
    for change in (swap, bend, cover, relight):
        images, labels = change(images, labels, rng)
    return images, labels


def swap(images: Tensor, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, Labels]:
    """Give some images another person's face and others another person's mouth, recoloured to match the skin."""
    images, attributes = images.clone(), labels.attributes.clone()
    ages, ethnicities = labels.ages.clone(), labels.ethnicities.clone()
    order, n = rng.permutation(len(images)), round(len(images) * SWAPPED)
    for part, hosts, guests in ((FACE, order[:n], order[-n:]), (MOUTH, order[n : 2 * n], order[:n])):
        mask = torch.sigmoid((1 - _radius(part.centre, part.axes, images.shape[-1])) * 12)
        before, after = ((images[who] * mask).sum(dim=(2, 3), keepdim=True) / mask.sum() for who in (guests, hosts))
        recoloured = images[guests] + _uniform(rng, n, 0.5, 1) * (after - before)
        images[hosts] = (recoloured * mask + images[hosts] * (1 - mask)).clamp(-1, 1)
        own, unsure = _columns(part.own), _columns(part.unsure)
        attributes[hosts[:, None], own] = attributes[guests[:, None], own]
        attributes[hosts[:, None], unsure] = torch.nan
        ages[hosts], ethnicities[hosts] = torch.nan, Labels.UNLABELLED
    return images, Labels(attributes, ages, ethnicities)


def bend(images: Tensor, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, Labels]:
    """Distort some images smoothly: faces get other shapes and expressions."""
    n, side = len(images), images.shape[-1]
    bent = torch.from_numpy(rng.random(n) < BENT)
    knots = torch.from_numpy(rng.standard_normal((n, 2, KNOTS, KNOTS), np.float32))
    shifts = functional.interpolate(knots, (side, side), mode="bicubic") * _uniform(rng, n, 0, FURTHEST) * 2 / side
    straight = functional.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 3, side, side], align_corners=False)
    grid = straight + shifts.permute(0, 2, 3, 1) * bent.view(-1, 1, 1, 1)
    attributes = labels.attributes.clone()
    attributes[bent.nonzero(), _columns(SHAPES)] = torch.nan
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved, Labels(attributes, labels.ages, labels.ethnicities)


def cover(images: Tensor, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, Labels]:
    """Cover the surroundings of the head, the hair (as a hat or a hood does) or the neck with random textures."""
    n, side = len(images), images.shape[-1]
    rows, columns = torch.arange(side).view(-1, 1), torch.linspace(-1, 1, side)
    centres = FACE.centre + rng.normal(0, 3, (n, 2))
    outside = _radius(centres - (0, 20), rng.uniform((65, 80), (95, 115), (n, 2)), side) > 1
    around = outside & (rows < torch.from_numpy(rng.choice([150, CHIN, side], (n, 1, 1))))
    outside = _radius(centres, rng.uniform((40, 46), (54, 66), (n, 2)), side) > 1
    hair = outside & (rows < torch.from_numpy(rng.choice([95, CHIN, side], (n, 1, 1))))
    line = CHIN + _uniform(rng, n, -2, 25)[:, 0] + _uniform(rng, n, -40, 40)[:, 0] * columns**2
    attributes = labels.attributes.clone()
    for where, share, unseen in ((around, 0.4, ()), (hair, 0.15, AROUND), (rows > line, 0.3, BELOW)):
        covered = torch.from_numpy(rng.random(n) < share)
        drawn = torch.stack([_texture(side, rng) for _ in range(n)])
        images = torch.where((where & covered.view(-1, 1, 1))[:, None], drawn, images)
        attributes[covered.nonzero(), _columns(unseen)] = torch.nan
    return images, Labels(attributes, labels.ages, labels.ethnicities)


def relight(images: Tensor, labels: Labels, rng: np.random.Generator) -> tuple[Tensor, Labels]:
    """Change brightness, colour, contrast, sharpness and noise. Some images become gray."""
    n = len(images)
    colourless = torch.from_numpy(rng.random(n) < GRAY)
    unit = (images / 2 + 0.5) ** _uniform(rng, n, -0.5, 0.5).exp()
    gray = unit.mean(dim=1, keepdim=True)
    colour = (unit - gray) * _uniform(rng, n, 0.4, 1.5) * torch.from_numpy(rng.uniform(0.9, 1.1, (n, 3, 1, 1))).float()
    unit = gray + colour * ~colourless.view(-1, 1, 1, 1)
    middle = unit.mean(dim=(1, 2, 3), keepdim=True)
    unit = middle + (unit - middle) * _uniform(rng, n, 0.7, 1.4)
    small = functional.interpolate(unit, scale_factor=float(rng.uniform(0.25, 0.6)), mode="bilinear", antialias=True)
    soft = functional.interpolate(small, unit.shape[-2:], mode="bilinear")
    noise = torch.from_numpy(rng.standard_normal(unit.shape, np.float32))
    unit = unit + _uniform(rng, n, -1, 1) * (unit - soft) + _uniform(rng, n, 0, 0.04) * noise
    attributes = labels.attributes.clone()
    attributes[colourless.nonzero(), _columns(COLOURS)] = torch.nan
    return (unit * 2 - 1).clamp(-1, 1), Labels(attributes, labels.ages, labels.ethnicities)


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1))).float()


def _texture(side: int, rng: np.random.Generator) -> Tensor:
    """One colour, a gradient, stripes, spots or noise, (3, side, side)."""
    spread, mode = rng.uniform(), "bilinear" if rng.random() < 0.6 else "nearest"
    spots = rng.uniform(-1, 1, (1, 3, *rng.choice(GRAINS, 2)))
    coarse = rng.uniform(-1, 1, (1, 3, 1, 1)) * (1 - spread) + spots * spread
    return functional.interpolate(torch.from_numpy(coarse).float(), (side, side), mode=mode)[0]


def _radius(centres: ArrayLike, axes: ArrayLike, side: int) -> Tensor:
    """Every pixel's distance from centres of ellipses (..., 2), in half axes (..., 2): (..., side, side)."""
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1)
    away = (places - np.asarray(centres)[..., None, None, :]) / np.asarray(axes)[..., None, None, :]
    return torch.from_numpy(np.hypot(away[..., 0], away[..., 1])).float()


def _columns(names: tuple[str, ...]) -> list[int]:
    return [CELEBA.index(name) for name in names]
