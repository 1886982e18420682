"""The labelled photos: reading, splitting without near copies on both sides, and augmentation."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from anon_runtime.errors import UsageError
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from ... import near_copies

SIDE = 256
HELD_OUT = 0.2
SPLIT_SEED = 6
_POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")


@dataclass(frozen=True)
class Labels:
    """Labels of n faces.

    Attributes:
        attributes: float32 (n, 40), 0..1, in CelebA's order; NaN where there is no label.
        ages: float32 (n,), years; NaN where there is no label.
        ethnicities: int64 (n,), indices of `ETHNICITIES`; UNLABELLED where there is no label.
    """

    UNLABELLED: ClassVar[int] = -100  # the index that cross-entropy ignores

    attributes: Tensor
    ages: Tensor
    ethnicities: Tensor

    def at(self, *index: NDArray[np.int64]) -> "Labels":
        """The labels of some faces."""
        return Labels(self.attributes[index], self.ages[index], self.ethnicities[index])


@dataclass(frozen=True)
class Photos:
    """Labelled photos, n of them.

    Attributes:
        names: file names.
        pixels: uint8 (n, 3, 256, 256), RGB.
        boxes: float32 (n, 4): x, y, width, height of the face.
        landmarks: float32 (n, 5, 2), as `anon_runtime.faces.detection.Face` orders them.
        attributes: float32 (n, 40), 0 or 1, in CelebA's order; NaN where there is no label.
        ages: float32 (n,), years.
        ethnicities: int64 (n,), indices of `ETHNICITIES`.
    """

    names: tuple[str, ...]
    pixels: Tensor
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    attributes: Tensor
    ages: Tensor
    ethnicities: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def only(self, indices: NDArray[np.int64]) -> "Photos":
        """Some of the photos."""
        rows = torch.from_numpy(indices)
        return Photos(
            tuple(self.names[i] for i in indices),
            self.pixels[rows],
            self.boxes[indices],
            self.landmarks[indices],
            self.attributes[rows],
            self.ages[rows],
            self.ethnicities[rows],
        )

    def image(self, index: int) -> NDArray[np.uint8]:
        """One photo in the form that the runtime takes: uint8 (256, 256, 3)."""
        return np.ascontiguousarray(self.pixels[index].permute(1, 2, 0).numpy())


def load_photos(folder: Path) -> Photos:
    """Read ``labels.csv`` and the images below ``photos/``.

    Raises:
        UsageError: the folder or a file is missing.
    """
    try:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        images = [_read(folder / "photos" / row["file"]) for row in rows]
    except OSError as error:
        fix = "give a folder with labels.csv and photos/; the model card says where the images come from"
        raise UsageError(f"training data {folder}", error.strerror or str(error), fix) from None
    return Photos(
        names=tuple(row["file"] for row in rows),
        pixels=torch.from_numpy(np.stack(images)),
        boxes=np.array([[row[f"box_{key}"] for key in "xywh"] for row in rows], np.float32),
        landmarks=np.array([[(row[f"{p}_x"], row[f"{p}_y"]) for p in _POINTS] for row in rows], np.float32),
        attributes=torch.tensor([[float(row[name] or "nan") for name in CELEBA] for row in rows]),
        ages=torch.tensor([float(row["age"]) for row in rows]),
        ethnicities=torch.tensor([ETHNICITIES.index(row["ethnicity"]) for row in rows]),
    )


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def groups_of_copies(photos: Photos) -> NDArray[np.int64]:
    """The number of each photo's group (n,). Photos are in one group if a chain of near copies connects them."""
    thumbnails = functional.adaptive_avg_pool2d(photos.pixels.float(), near_copies.SIDE).flatten(1)
    return near_copies.group_copies(thumbnails.numpy())


def split(photos: Photos) -> tuple[Photos, Photos]:
    """Photos for training and held-out photos. Near copies are on the same side."""
    group = groups_of_copies(photos)
    order = np.random.default_rng(SPLIT_SEED).permutation(np.unique(group))
    held_out = np.isin(group, order[: round(HELD_OUT * len(order))])
    return photos.only(np.flatnonzero(~held_out)), photos.only(np.flatnonzero(held_out))


@dataclass(frozen=True)
class Jitter:
    """How strongly images are augmented: each number is the largest change in both directions.

    Attributes:
        shift: share of the side.
        scale: share of the size.
        turn: degrees.
        light: share of brightness, contrast and colour balance.
    """

    shift: float
    scale: float
    turn: float
    light: float


def vary(pixels: Tensor, size: int, jitter: Jitter, rng: np.random.Generator) -> Tensor:
    """Augment images: mirror, move, scale, turn and recolour them at random.

    Args:
        pixels: uint8 (n, 3, height, width).
        size: side of the result, with borders mirrored.
        jitter: how much.
        rng: random numbers.

    Returns:
        float32 (n, 3, size, size) in -1..1.
    """
    n = len(pixels)
    angle = np.deg2rad(rng.uniform(-jitter.turn, jitter.turn, n))
    zoom = np.exp(rng.uniform(-jitter.scale, jitter.scale, n))
    mirror = rng.choice([-1.0, 1.0], n)
    matrix = np.empty((n, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = np.cos(angle) * zoom * mirror, -np.sin(angle) * zoom
    matrix[:, 1, 0], matrix[:, 1, 1] = np.sin(angle) * zoom * mirror, np.cos(angle) * zoom
    matrix[:, :, 2] = rng.uniform(-2 * jitter.shift, 2 * jitter.shift, (n, 2))
    grid = functional.affine_grid(torch.from_numpy(matrix), [n, 3, size, size], align_corners=False)
    moved = functional.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False) / 127.5 - 1
    colour, brightness = rng.uniform(-1, 1, (n, 3, 1, 1)), rng.uniform(-1, 1, (n, 1, 1, 1))
    gain = 1 + jitter.light * (colour / 3 + brightness)
    lift = rng.uniform(-jitter.light, jitter.light, (n, 1, 1, 1)) / 2
    return (moved * torch.from_numpy(gain).float() + torch.from_numpy(lift).float()).clamp(-1, 1)
