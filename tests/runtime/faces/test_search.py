"""The search for all faces, with a detector that finds white squares of eight pixels or more."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime.faces.detection import SIDE, Detector, Face, detect
from anon_runtime.faces.geometry import Reals
from anon_runtime.faces.search import GAIN, LARGEST, LEVELS, OVERLAP, find_faces, intersection, merge, tiles
from anon_runtime.types import Array, Arrays, Pixels

LEAST = 8  # pixels of what the detector sees


def show(inputs: Mapping[str, Array]) -> Arrays:
    return {"image": inputs["image"]}


def find_squares(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    """Find the white rectangles; their rows and columns are those that hold white pixels, in one piece each."""
    white = np.asarray(outputs["image"])[0] > 200
    corners = [
        (x1, y1, x2, y2)
        for y1, y2 in _pieces(white.any(axis=1))
        for x1, x2 in _pieces(white[y1:y2].any(axis=0))
        if min(x2 - x1, y2 - y1) >= LEAST
    ]
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    landmarks = np.repeat(boxes[:, None, :2], 5, axis=1)
    return boxes, np.ones(len(boxes), np.float32), landmarks


def _pieces(flags: Array) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


SQUARES = Detector("image", 0.5, 0.5, find_squares)


def paint(height: int, width: int, *boxes: tuple[int, int, int]) -> Pixels:
    photo = np.zeros((height, width, 3), np.uint8)
    for x, y, side in boxes:
        photo[y : y + side, x : x + side] = 255
    return photo


def test_small_faces_are_found_in_tiles_and_large_ones_once() -> None:
    photo = paint(1500, 2600, (100, 80, 12), (1200, 700, 700), (2580, 1480, 16), (1000, 100, 60))
    assert len(detect(show, SQUARES, [photo], 0.5)[0]) == 2
    found = find_faces(show, SQUARES, photo, 0.5)
    np.testing.assert_allclose([face.box[2] for face in found], [700, 60, 16, 12], atol=3)
    np.testing.assert_allclose(
        [face.box[:2] for face in found], [(1200, 700), (1000, 100), (2580, 1480), (100, 80)], atol=5
    )
    np.testing.assert_allclose(found[3].landmarks, np.full((5, 2), (100, 80)), atol=3)


def test_a_small_photo_has_no_tiles() -> None:
    assert not list(tiles(200, 380))
    assert list(tiles(200, 420))


@settings(deadline=None)
@given(st.integers(100, 6000), st.floats(0.2, 1), st.data())
def test_every_small_face_lies_completely_in_a_tile_of_each_level(
    longer: int, aspect: float, data: st.DataObject
) -> None:
    height, width = max(16, int(longer * aspect)), longer
    by_level: dict[int, list[tuple[slice, slice]]] = {}
    for rows, columns in tiles(height, width):
        assert 0 <= rows.start < rows.stop <= height
        assert 0 <= columns.start < columns.stop <= width
        by_level.setdefault(columns.stop - columns.start, []).append((rows, columns))
    assert len(by_level) == sum(
        min(level, LARGEST * longer) >= GAIN * before for before, level in pairwise((SIDE, *LEVELS))
    )
    for size, some in by_level.items():
        side = data.draw(st.integers(1, min(int(size * OVERLAP) - 2, height)))
        x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
        assert any(r.start <= y and y + side <= r.stop and c.start <= x and x + side <= c.stop for r, c in some)


boxes = st.tuples(st.floats(0, 90), st.floats(0, 90), st.floats(1, 50), st.floats(1, 50))


@given(st.lists(boxes, max_size=8))
def test_faces_are_told_apart_and_none_is_lost(some: list[tuple[float, float, float, float]]) -> None:
    faces = [Face(box, 0.9, np.zeros((5, 2), np.float32)) for box in some]
    kept = merge(faces)
    assert all(one.area >= other.area for one, other in pairwise(kept))
    for face in faces:  # each is kept, or overlaps with a larger one that is kept
        near = [intersection(face.box, one.box) for one in kept if one.area >= face.area]
        assert any(shared >= 0.29 * face.area for shared in near)
    for i, one in enumerate(kept):
        for other in kept[i + 1 :]:
            shared = intersection(one.box, other.box)
            assert shared < 0.8 * other.area + 1e-6


def test_two_boxes_of_one_face_are_one() -> None:
    large, shifted, inside, beside = (0, 0, 40, 40), (8, 4, 38, 38), (10, 10, 6, 6), (39, 0, 40, 40)
    faces = [Face(box, 0.9, np.zeros((5, 2), np.float32)) for box in (inside, shifted, beside, large)]
    assert sorted(face.box for face in merge(faces)) == [large, beside]
