"""Composites: what is said about their faces is what their pixels show."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from anon_runtime import Anonymizer
from anon_runtime.errors import UsageError
from anon_runtime.faces.detection import Face
from anon_runtime.types import Pixels
from benchmarks.composites import (
    ANGLE,
    HIDDEN,
    MOST,
    SIZES,
    Composite,
    make_composite,
    read_backgrounds,
    read_people,
)
from tests.benchmarks.coded_people import BOX, STEP, code, make_backgrounds, make_people

PEOPLE, BACKGROUNDS = make_people(MOST + 1), make_backgrounds()


@lru_cache(maxsize=64)
def compose(number: int, seed: int = 0) -> Composite:
    return make_composite(PEOPLE, BACKGROUNDS, seed, number)


def test_a_seed_and_a_number_give_one_picture() -> None:
    one, again = compose(3), make_composite(PEOPLE, BACKGROUNDS, 0, 3)
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.owners, again.owners)
    assert [face.box for face in one.faces] == [face.box for face in again.faces]
    for other in (compose(4), compose(3, seed=1)):
        assert one.pixels.shape != other.pixels.shape or not np.array_equal(one.pixels, other.pixels)


@settings(max_examples=8)
@given(st.integers(0, 2**20))
def test_faces_are_as_they_are_said_to_be(number: int) -> None:
    composite = compose(number)
    height, width = composite.pixels.shape[:2]
    assert 1 <= len(composite.faces) <= MOST
    assert len({face.person for face in composite.faces}) == len(composite.faces)
    for index, face in enumerate(composite.faces):
        x, y, w, h = face.box
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        assert abs(face.angle) <= ANGLE
        assert np.degrees(np.arctan2(*face.pose.matrix[::-1, 0])) == pytest.approx(face.angle)
        size = BOX[3] * np.hypot(*face.pose.matrix[:, 0]) / max(height, width)
        assert SIZES[0] - 1e-9 <= size <= SIZES[1] + 1e-9
        assert 0 <= face.hidden <= HIDDEN[1] + 1e-9
        seen = composite.seen(index)
        assert face.hidden == pytest.approx(max(0, 1 - seen.sum() / face.pose.area))
        rows, columns = np.nonzero(seen)
        assert y - 1 <= rows.min()
        assert rows.max() <= y + h
        assert x - 1 <= columns.min()
        assert columns.max() <= x + w


@settings(max_examples=8)
@given(st.integers(0, 2**20))
def test_a_pasted_face_is_where_it_is_said_to_be(number: int) -> None:
    """Each pixel says by its colours where it comes from, and whose it is."""
    composite = compose(number)
    for index, face in enumerate(composite.faces):
        # Where a pixel and its neighbours show the face, nothing is blended with anything else.
        scale = float(np.hypot(*face.pose.matrix[:, 0]))
        reach = 3 * int(np.ceil(1 + scale))
        rows, columns = np.nonzero(ndimage.binary_erosion(composite.seen(index), iterations=reach))
        x, y = face.pose.back(columns + 0.5, rows + 0.5)
        red, green, blue = composite.pixels[rows, columns].astype(float).T
        for colour, place in ((red, x), (green, y)):
            assert np.abs(colour + 0.5 - place).max(initial=0) <= 1.5 + 0.25 / scale  # Pillow rounds down
        assert np.abs(blue - code(face.person)).max(initial=0) < STEP / 2


@settings(max_examples=8)
@given(st.integers(0, 2**20))
def test_what_is_hidden_shows_something_else(number: int) -> None:
    composite = compose(number)
    for index, face in enumerate(composite.faces):
        whole = replace(face.pose, bar=None).face(np.s_[: composite.owners.shape[0], : composite.owners.shape[1]])
        hidden = ndimage.binary_erosion(whole & ~composite.seen(index), iterations=3)
        rows, columns = np.nonzero(hidden)
        x, y = face.pose.back(columns + 0.5, rows + 0.5)
        away = np.abs(composite.pixels[rows, columns, :2] + 0.5 - np.stack([x, y], axis=1)).max(axis=1)
        assert (away > 3).mean() > 0.9 if len(away) else True


def test_all_that_hides_faces_occurs() -> None:
    composites = [compose(number) for number in range(30)]
    faces = [(face, composite) for composite in composites for face in composite.faces]
    barred = [face for face, _ in faces if face.pose.bar is not None]
    cut = [
        face
        for face, composite in faces
        if face.pose.corners().min() < 0 or (face.pose.corners()[1] > composite.pixels.shape[1::-1]).any()
    ]
    others = [face for face, _ in faces if face.hidden >= HIDDEN[0] and face not in barred and face not in cut]
    assert len(barred) >= 10
    assert len(cut) >= 10
    assert len(others) >= 5
    assert all(face.hidden >= HIDDEN[0] - 0.02 for face in cut)
    assert {len(composite.faces) for composite in composites} >= {1, 2, 3}


def test_backgrounds_show_nobody(anonymizer: Anonymizer) -> None:
    backgrounds = read_backgrounds()
    assert len(backgrounds) == 7
    for background in backgrounds:
        assert background.shape[2] == 3
        assert anonymizer.reader.detect([background]) == [[]]


def test_photos_of_nobody_and_of_two_are_left_out(tmp_path: Path) -> None:
    for name, level in (("none", 0), ("one", 1), ("two", 2)):
        Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / f"{name}.png")

    def detect(photo: Pixels) -> list[Face]:
        return [Face((1, 2, 3, 4), 1, np.zeros((5, 2)))] * int(photo[0, 0, 0])

    [person] = read_people(tmp_path, detect)
    assert (person.name, person.box) == ("one", (1, 2, 3, 4))
    (tmp_path / "one.png").unlink()
    with pytest.raises(UsageError, match="exactly one face"):
        read_people(tmp_path, detect)
