"""The judge recognizes people and sees faces, and what it does where there is none."""

from pathlib import Path

import numpy as np
import pytest

from anon_runtime.faces.decoding import read_photo
from benchmarks.evaluate.encoders import Dlib
from benchmarks.in_place_judge import SAME, Judge

pytestmark = pytest.mark.packages
pytest.importorskip("dlib")

FACE = 80.0, 40.0, 86.0, 86.0  # of the astronaut, in the part of the photo that is used here


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def picture(astronaut: Path) -> np.ndarray:
    return read_photo(astronaut)[20:260, 100:340].copy()


def test_a_person_is_recognized(judge: Judge, picture: np.ndarray) -> None:
    own, mirrored = judge.recognize(picture), judge.recognize(picture[:, ::-1])
    assert np.linalg.norm(own - mirrored) < SAME
    assert np.linalg.norm(own - judge.recognize(np.zeros_like(picture))) > SAME


def test_a_hidden_face_is_looked_for_where_it_was(judge: Judge, picture: np.ndarray) -> None:
    nothing = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    points = Dlib().locate(picture)
    expected = Dlib().embed(nothing, points)
    np.testing.assert_array_equal(judge.recognize(nothing, nothing, picture), expected)
    assert not np.array_equal(judge.recognize(nothing), expected)


def test_a_face_is_seen_in_its_place_only(judge: Judge, picture: np.ndarray) -> None:
    assert judge.sees(picture, FACE)
    assert not judge.sees(picture, (0, 120, 86, 86))
    assert not judge.sees(np.full_like(picture, 90), FACE)
