"""What becomes of each face of a photo."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anon_runtime.casting import KEEP_RATE, SMALLEST, agree, cast_faces, cast_portraits, face_of
from anon_runtime.errors import NoFaceError, PhotoError
from anon_runtime.faces.decoding import Decoded
from anon_runtime.faces.detection import Face
from anon_runtime.faces.reader import FoundFaces
from anon_runtime.guard.thresholds import find_threshold
from anon_runtime.types import Box, Description
from tests.runtime.guard.calibrations import calibration

PHOTO = Decoded(np.zeros((100, 200, 3), np.uint8))
MARKS = np.array([[1, 1], [3, 1], [2, 2], [1, 3], [3, 3]], np.float32)


def person(x: float, *embedding: float) -> Description:
    """A person whose face is a square of 40 pixels."""
    own = np.array(embedding, np.float32) if embedding else None
    return Description("", "", {}, (x, 10.0, 40.0, 40.0), {}, own, MARKS + np.float32(x))


class Reader:
    """A reader that has found some faces, and notes what it was asked for."""

    def __init__(self, *people: Description, others: tuple[Face, ...] = (), min_face: int = 0) -> None:
        self._found, self.options = FoundFaces(people, others), SimpleNamespace(min_face=min_face)
        self.smallest: list[int] = []
        self.careful: list[bool] = []

    def describe_faces(self, photo: Decoded, *, smallest: int, careful: bool = False) -> FoundFaces:
        self.smallest.append(smallest)
        self.careful.append(careful)
        return self._found


def cast(reader: Reader, photo: Decoded = PHOTO, **rules: Any) -> Any:
    return cast_faces(reader, photo, **rules)  # type: ignore[arg-type]


SMALL = Face((150.0, 50.0, 9.0, 9.0), 0.9, MARKS)


def test_every_face_is_replaced_or_filled() -> None:
    one, other = person(10), person(100)
    found = cast(reader := Reader(one, other, others=(SMALL,)))
    assert (found.people, found.filled, found.kept) == ((one, other), (SMALL,), ())
    assert (reader.smallest, reader.careful) == ([SMALLEST], [True])
    assert cast(Reader(others=(SMALL,))).filled == (SMALL,)


def test_min_face_is_a_limit_for_painting_and_not_for_filling() -> None:
    cast(reader := Reader(person(10), min_face=50))
    cast_portraits(reader, PHOTO)  # type: ignore[arg-type]
    assert reader.smallest == [50, 50]


def test_nobody_is_an_error() -> None:
    with pytest.raises(NoFaceError, match="no face was found"):
        cast(Reader())
    with pytest.raises(NoFaceError, match=f"no face of {SMALLEST} pixels"):
        cast_portraits(Reader(others=(SMALL,)), PHOTO)  # type: ignore[arg-type]


def test_a_photo_that_was_reduced_cannot_be_kept() -> None:
    with pytest.raises(PhotoError, match="too large to be kept"):
        cast(Reader(person(10)), Decoded(PHOTO.pixels, 2))


def test_people_who_agreed_are_kept() -> None:
    ours, theirs = person(10, 0.6, 0.8), person(100, 0.8, -0.6)
    agreed = agree(np.array([[0.6, 0.8]], np.float32), calibration())
    found = cast(Reader(theirs, ours), agreed=agreed)
    assert found.people == (theirs,)
    assert [face.box for face in found.kept] == [ours.face]
    assert not agreed.has(person(10))


def test_the_limit_is_strict_and_rises_with_the_number_of_people() -> None:
    one, many = (agree(np.ones((n, 1), np.float32), calibration()) for n in (1, 50))
    threshold = find_threshold(calibration(), KEEP_RATE)
    assert one.limit >= threshold.high >= threshold.value > find_threshold(calibration(), 1e-2).value
    assert many.limit >= one.limit


@pytest.mark.parametrize(
    ("boxes", "people", "filled", "kept"),
    [
        ([(12, 12, 38, 38)], [10.0], [], [100.0, 150.0]),
        ([(100, 10, 40, 40), (10, 10, 40, 40)], [10.0, 100.0], [], [150.0]),
        ([(149, 49, 10, 10)], [], [(149, 49, 10, 10)], [10.0, 100.0]),
        ([(60, 60, 20, 20)], [], [(60, 60, 20, 20)], [10.0, 100.0, 150.0]),
        ([(10, 10, 40, 40), (11, 11, 40, 40)], [10.0], [(11, 11, 40, 40)], [100.0, 150.0]),
    ],
)
def test_only_faces_in_given_boxes_are_replaced(
    boxes: list[Box], people: list[float], filled: list[Box], kept: list[float]
) -> None:
    """A box in which no face can be painted is filled, so that what it holds is gone in any case."""
    found = cast(Reader(person(10), person(100), others=(SMALL,)), boxes=boxes)
    assert [one.face[0] for one in found.people] == people
    assert [face.box for face in found.filled] == filled
    assert sorted(face.box[0] for face in found.kept) == kept


@pytest.mark.parametrize("box", [(200, 10, 40, 40), (10, 100, 5, 5), (-50, 10, 50, 40)])
def test_a_box_outside_of_the_photo_is_an_error(box: Box) -> None:
    with pytest.raises(PhotoError, match="outside of its 200 x 100 pixels"):
        cast(Reader(person(10)), boxes=[(10, 10, 40, 40), box])


def test_a_description_without_a_photo_has_no_face() -> None:
    with pytest.raises(RuntimeError):
        face_of(Description("", "", {}))
    assert face_of(person(10)).box == (10, 10, 40, 40)
