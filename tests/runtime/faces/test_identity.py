"""Embeddings, with networks of a few lines; tests/export/test_identity.py compares SFace with OpenCV's."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, IdentitySpec
from anon_runtime.errors import GenerationError, PhotoError
from anon_runtime.faces.detection import Face
from anon_runtime.faces.geometry import Reals
from anon_runtime.faces.identity import UNIT, IdentityEncoder, identity_crop, round_embedding
from anon_runtime.types import Array, Arrays, Pixels
from tests.conftest import pixels
from tests.runtime.stand_ins import MadeUpEngines

TEMPLATE = np.array(ARCFACE_TEMPLATE)
SPEC = IdentitySpec("blocks", 112, ARCFACE_TEMPLATE)


def face(landmarks: Reals) -> Face:
    return Face((0, 0, 1, 1), 0.9, landmarks.astype(np.float32))


def encoder(outputs: Any) -> IdentityEncoder:
    return IdentityEncoder(MadeUpEngines(face_identity=lambda inputs: {"embedding": np.asarray(outputs)}), SPEC)


@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([1, 2, 128, 512]), scale=st.floats(1e-30, 1e30))
def test_rounded_embeddings_keep_their_direction(seed: int, width: int, scale: float) -> None:
    vector = np.random.default_rng(seed).standard_normal(width)
    rounded = round_embedding(vector * scale)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded * UNIT, np.round(rounded * UNIT))
    np.testing.assert_allclose(rounded, vector / np.linalg.norm(vector), rtol=0, atol=0.5 / UNIT + 1e-9)


@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([128, 512]))
def test_similarities_do_not_depend_on_the_order_of_the_sum(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (round_embedding(rng.standard_normal(width) + 1) for _ in range(2))
    order = rng.permutation(width)
    shuffled = np.float32(0)
    for product in (one * other)[order]:  # one by one, in float32
        shuffled += product
    assert one @ other == shuffled == np.float32(one.astype(np.float64) @ other.astype(np.float64))


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ([[0.0, 0.0]], "it returned only zeros"),
        ([[1.0, np.nan]], "it returned NaN or infinity"),
        ([[1.0, -np.inf]], "it returned NaN or infinity"),
    ],
)
def test_outputs_without_a_direction_are_refused(outputs: Any, why: str) -> None:
    with pytest.raises(GenerationError, match=f"the face_identity engine on a face: {why}"):
        encoder(outputs).embed(np.zeros((112, 112, 3), np.uint8), face(TEMPLATE))


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 40.0), np.full((5, 2), np.nan), TEMPLATE * [np.inf, 1]])
def test_a_face_that_cannot_be_aligned_is_refused(landmarks: Reals) -> None:
    with pytest.raises(PhotoError, match=re.escape("lie in one place, so that it cannot be aligned and checked")):
        encoder([[1.0]]).embed(np.zeros((112, 112, 3), np.uint8), face(landmarks))


def test_a_face_goes_through_the_network_alone_and_aligned(astronaut: Path) -> None:
    shapes = []

    def network(inputs: Mapping[str, Array]) -> Arrays:
        shapes.append((inputs["image"].shape, inputs["image"].dtype, inputs["image"].flags.c_contiguous))
        return {"embedding": np.array([[3.0, 4.0]], np.float32)}

    embedding = IdentityEncoder(MadeUpEngines(face_identity=network), SPEC).embed(pixels(astronaut), face(TEMPLATE))
    np.testing.assert_array_equal(embedding, np.round(np.array([0.6, 0.8]) * UNIT) / UNIT)
    assert shapes == [((1, 3, 112, 112), np.dtype(np.float32), True)]


def test_a_face_that_lies_on_the_template_is_left_as_it_is(astronaut: Path) -> None:
    photo = pixels(astronaut)[60:260, 160:360]
    crop = identity_crop(photo, face(TEMPLATE + np.array([7, 5])), TEMPLATE, 112)
    np.testing.assert_allclose(crop, photo[5:117, 7:119].transpose(2, 0, 1), atol=0.01)


def smooth(scale: int) -> Pixels:
    """A picture without fine detail, in a multiple of 112 pixels."""
    centres = (np.arange(112 * scale) + 0.5) / scale
    waves = 127.5 + 100 * np.sin(centres[:, None] / 15 + centres / 20)
    return np.repeat(waves[..., None], 3, axis=2).round().astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7, 20])
def test_large_faces_are_averaged_and_stay_in_place(scale: int) -> None:
    small, landmarks = smooth(1), (TEMPLATE + 0.5) * scale - 0.5
    crop = identity_crop(smooth(scale), face(landmarks), TEMPLATE, 112)
    np.testing.assert_allclose(crop[:, 1:-1, 1:-1], small.transpose(2, 0, 1)[:, 1:-1, 1:-1], atol=1)
    fine = np.random.default_rng(0).integers(0, 256, (112 * scale, 112 * scale, 3), np.uint8)
    noisy = identity_crop(fine, face(landmarks), TEMPLATE, 112)
    assert noisy[:, 1:-1, 1:-1].std() < 1.5 * 255 / 12**0.5 / max(scale / 2, 1)


def test_outside_of_the_photo_is_black() -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    crop = identity_crop(white, face(TEMPLATE - np.array([40, 0])), TEMPLATE, 112)
    np.testing.assert_allclose(crop[:, 1:-1, 41:], 255, atol=0.01)
    np.testing.assert_allclose(crop[:, :, :39], 0, atol=0.01)


@given(angle=st.floats(-3, 3), scale=st.floats(0.3, 3))
def test_landmarks_lie_on_the_template_however_the_photo_is_turned(angle: float, scale: float) -> None:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    side = 400
    landmarks = (TEMPLATE - 56) @ turn.T + side / 2
    photo = np.zeros((side, side, 3), np.uint8)
    image = Image.fromarray(photo)
    reach = max(2, round(3 * scale))
    for x, y in landmarks.round().astype(int):
        image.paste((255, 255, 255), (x - reach, y - reach, x + reach + 1, y + reach + 1))
    crop = identity_crop(np.asarray(image), face(landmarks), TEMPLATE, 112)
    assert all(crop[0, round(y), round(x)] > 200 for x, y in TEMPLATE)
