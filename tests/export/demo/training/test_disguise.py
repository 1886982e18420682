"""Disguises of the demo's training: what is covered, what is kept, and which labels go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anon_export.demo.networks import AROUND, COLOURS
from anon_export.demo.training.data import Labels
from anon_export.demo.training.disguise import BELOW, FACE, MOUTH, SHAPES, SWAPPED, bend, cover, disguise, relight, swap
from anon_runtime.faces.attributes import CELEBA

N, SIDE = 12, 224
SOME = settings(max_examples=10)  # each draws twelve images
SEEDS = st.integers(0, 2**32).map(np.random.default_rng)


def columns(names: tuple[str, ...]) -> list[int]:
    return [CELEBA.index(name) for name in names]


@pytest.fixture(scope="module")
def labels() -> Labels:
    """Of twelve faces: the score of every attribute, the age and the ethnicity are the face's number."""
    numbers = torch.arange(N)
    return Labels((numbers / 100)[:, None].repeat(1, len(CELEBA)), numbers.float(), numbers % 6)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Twelve flat images, from dark to light."""
    return torch.linspace(-0.6, 0.6, N).view(N, 1, 1, 1).repeat(1, 3, SIDE, SIDE)


@SOME
@given(SEEDS)
def test_a_face_in_other_hair_has_its_own_smile_and_the_others_hair(
    images: Tensor, labels: Labels, rng: np.random.Generator
) -> None:
    seen, left = swap(images, labels, rng)
    torch.testing.assert_close(seen[..., 0, 0], images[..., 0, 0])
    faces, mouths = (left.attributes[:, columns(part.unsure)].isnan().all(dim=1) for part in (FACE, MOUTH))
    assert faces.sum() == mouths.sum() == round(N * SWAPPED)
    assert not (faces & mouths).any()
    changed = (seen != images).any(dim=1)
    assert changed[faces, FACE.centre[1], FACE.centre[0]].all()
    assert not changed[~faces & ~mouths].any()
    assert left.ages[faces | mouths].isnan().all()
    assert (left.ethnicities[faces | mouths] == Labels.UNLABELLED).all()
    for part, rows in ((FACE, faces), (MOUTH, mouths)):
        inside, outside = left.attributes[rows, CELEBA.index("Smiling")], left.attributes[rows, CELEBA.index("Bangs")]
        assert (outside == labels.attributes[rows, 0]).all()
        assert (inside != outside).all()
        own = left.attributes[rows][:, columns(part.own)]
        assert (own == inside[:, None]).all()
    torch.testing.assert_close(left.attributes[~faces & ~mouths], labels.attributes[~faces & ~mouths])


@SOME
@given(SEEDS)
def test_bent_faces_lose_their_shapes(labels: Labels, rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.uniform(-1, 1, (N, 3, 8, 8))).float()
    images = torch.nn.functional.interpolate(images, (SIDE, SIDE), mode="bicubic")
    seen, left = bend(images, labels, rng)
    bent = left.attributes[:, columns(SHAPES)].isnan().all(dim=1)
    moved = (seen - images).abs().mean(dim=(1, 2, 3))
    assert (moved[~bent] < 1e-4).all()
    assert (moved[bent] > 1e-6).all()
    assert (left.attributes.isnan().any(dim=1) == bent).all()


@SOME
@given(SEEDS)
def test_covers_hide_what_loses_its_label_and_never_the_face(
    images: Tensor, labels: Labels, rng: np.random.Generator
) -> None:
    seen, left = cover(images, labels, rng)
    x, y = FACE.centre
    middle = slice(y - 20, y + 20), slice(x - 20, x + 20)
    assert (seen[..., middle[0], middle[1]] == images[..., middle[0], middle[1]]).all()
    hidden = (seen != images).any(dim=1)
    for names, row in ((AROUND, 60), (BELOW, SIDE - 1)):
        gone = left.attributes[:, columns(names)].isnan()
        assert (gone.all(dim=1) == gone.any(dim=1)).all()
        assert hidden[gone.all(dim=1), row].any(dim=-1).all()
    kept = [i for i, name in enumerate(CELEBA) if name not in (*AROUND, *BELOW)]
    assert (left.attributes[:, kept] == labels.attributes[:, kept]).all()
    assert (left.ages == labels.ages).all()
    assert (left.ethnicities == labels.ethnicities).all()


@SOME
@given(SEEDS)
def test_gray_images_lose_their_colours(labels: Labels, rng: np.random.Generator) -> None:
    noise = torch.from_numpy(rng.uniform(-1, 1, (N, 3, 32, 32))).float()
    seen, left = relight(noise, labels, rng)
    assert seen.shape == noise.shape
    assert seen.abs().max() <= 1
    gone = left.attributes.isnan()
    assert (gone[:, columns(COLOURS)] == gone.any(dim=1, keepdim=True)).all()


def test_disguises_differ(images: Tensor, labels: Labels) -> None:
    rng = np.random.default_rng(0)
    (first, left), (second, _) = disguise(images, labels, rng), disguise(images, labels, rng)
    assert first.shape == images.shape
    assert left.attributes.shape == labels.attributes.shape
    assert all((a - b).abs().mean() > 0.01 for a, b in zip(first, second, strict=True))
