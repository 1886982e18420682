"""Figures of outputs in which is known what was changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from anon_runtime.faces.search import overlap
from anon_runtime.types import Box, Pixels
from benchmarks import in_place_metrics as metrics
from benchmarks.composites import Composite, make_composite
from benchmarks.in_place_metrics import Outcome
from tests.benchmarks.coded_people import make_backgrounds, make_people

SPECKLED = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
COMPOSITE = next(  # three or more faces, none of them so large that nothing is far from it
    one
    for one in (make_composite(make_people(12), make_backgrounds(), 0, number) for number in range(50))
    if len(one.faces) >= 3 and max(one.faces[-1].box[2:]) < 0.2 * max(one.pixels.shape)
)
BOXES = [face.box for face in COMPOSITE.faces]


def repaint(composite: Composite, *indices: int) -> Pixels:
    """An output in which all pixels of some faces are other ones."""
    output = composite.pixels.copy()
    for index in indices:
        output[composite.seen(index)] ^= 255
    return output


def test_faces_that_nobody_touched_are_untouched() -> None:
    for painted in ((), BOXES):  # whatever the method says
        assert metrics.outcomes(COMPOSITE, COMPOSITE.pixels, painted) == [Outcome("untouched", 1)] * len(BOXES)


def test_one_face_that_is_left_is_found() -> None:
    output = repaint(COMPOSITE, *range(1, len(BOXES)))
    first, *others = metrics.outcomes(COMPOSITE, output, BOXES)
    assert first == Outcome("untouched", 1)
    assert others == [Outcome("replaced", 0)] * (len(BOXES) - 1)


def test_a_face_without_a_new_one_is_removed() -> None:
    output = repaint(COMPOSITE, *range(len(BOXES)))
    found = metrics.outcomes(COMPOSITE, output, BOXES[1:])
    assert [one.fate for one in found] == ["removed", *["replaced"] * (len(BOXES) - 1)]


def test_a_change_beside_the_middle_is_none() -> None:
    index = len(BOXES) - 1
    output = COMPOSITE.pixels.copy()
    x, y, w, h = (round(value) for value in BOXES[index])
    output[y : y + h // 5, x : x + w] ^= 255
    found = metrics.outcomes(COMPOSITE, output, BOXES)[index]
    assert found.fate == "untouched"
    assert 0.7 < found.left < 1


def test_a_face_keeps_its_middle_and_is_untouched() -> None:
    """Of an ellipse, three quarters lie outside of its inner half."""
    index = len(BOXES) - 1
    x, y, w, h = BOXES[index]
    output = repaint(COMPOSITE, index)
    middle = np.s_[round(y + h / 4) : round(y + 3 * h / 4), round(x + w / 4) : round(x + 3 * w / 4)]
    output[middle] = COMPOSITE.pixels[middle]
    found = metrics.outcomes(COMPOSITE, output, BOXES)[index]
    assert found.fate == "untouched"
    assert found.left < 0.5


def test_a_face_whose_middle_is_hidden_is_judged_by_the_rest() -> None:
    owners, index = COMPOSITE.owners.copy(), len(BOXES) - 1
    _, y, _, h = (round(value) for value in BOXES[index])
    owners[y + h // 5 : y + h - h // 5] = 0
    composite = Composite(COMPOSITE.pixels, COMPOSITE.faces, owners)
    assert composite.seen(index).any()
    assert metrics.outcomes(composite, COMPOSITE.pixels, BOXES)[index].fate == "untouched"
    assert metrics.outcomes(composite, repaint(composite, index), BOXES)[index].fate == "replaced"


def test_a_changed_pixel_outside_counts() -> None:
    output = repaint(COMPOSITE, *range(len(BOXES)))
    assert metrics.changed_outside(COMPOSITE, output, ()) == 0
    ys, xs = np.mgrid[: output.shape[0], : output.shape[1]]
    nearest = np.min([np.hypot(xs - x - w / 2, ys - y - h / 2) / max(w, h) for x, y, w, h in BOXES], axis=0)
    row, column = np.unravel_index(nearest.argmax(), nearest.shape)
    assert nearest[row, column] > metrics.REACH
    output[row, column, 1] += 1
    assert metrics.changed_outside(COMPOSITE, output, ()) == 1
    around: Box = (float(column) - 5, float(row) - 5, 10, 10)
    assert metrics.changed_outside(COMPOSITE, output, [around]) == 0


def test_the_overlap_of_boxes() -> None:
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 2, 2)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_each_box_is_matched_once() -> None:
    assert metrics.match([(0, 0, 10, 10)], [(0, 0, 10, 8), (0, 0, 10, 9)]) == {0: 1}
    assert metrics.match([(0, 0, 10, 10), (1, 0, 10, 10)], [(0, 0, 10, 10)]) == {0: 0}
    assert metrics.match([(0, 0, 10, 10), (50, 0, 10, 10)], [(51, 0, 10, 10), (0, 8, 10, 10)]) == {1: 0}
    assert metrics.match([], [(0, 0, 1, 1)]) == metrics.match([(0, 0, 1, 1)], []) == {}


@given(st.lists(st.tuples(*[st.integers(1, 30)] * 4), max_size=6), st.lists(st.tuples(*[st.integers(1, 30)] * 4)))
def test_matches_overlap_and_are_distinct(boxes: list[Box], found: list[Box]) -> None:
    pairs = metrics.match(boxes, found)
    assert len({*pairs.values()}) == len(pairs)
    assert all(overlap(boxes[row], found[column]) >= metrics.OVERLAP for row, column in pairs.items())


def edit(picture: Pixels, new: Pixels) -> Pixels:
    """The picture with another block in its middle."""
    output = picture.copy()
    output[30:90, 40:120] = new[30:90, 40:120]
    return output


def test_an_unchanged_picture_has_no_seam() -> None:
    assert metrics.seam(SPECKLED, SPECKLED) == metrics.Seam(0, 0, 0)
    speck = SPECKLED.copy()
    speck[50:55, 50:55] ^= 255
    assert metrics.seam(SPECKLED, speck).pixels == 0


def test_the_border_of_the_picture_is_no_seam() -> None:
    assert metrics.seam(SPECKLED, 255 - SPECKLED).pixels == 0


def test_the_band_is_five_pixels_wide() -> None:
    found = metrics.seam(SPECKLED, edit(SPECKLED, 255 - SPECKLED))
    assert found.pixels == pytest.approx(5 * 2 * (60 + 80), rel=0.03)


def test_an_edge_in_a_smooth_picture_is_a_seam() -> None:
    ramp = np.repeat(np.linspace(0, 120, 160).round().astype(np.uint8)[None, :, None], 120, axis=0).repeat(3, axis=2)
    found = metrics.seam(ramp, edit(ramp, np.full_like(ramp, 240)))
    assert found.after > 5 * found.before


def test_blur_takes_sharpness_away_and_other_noise_does_not() -> None:
    blurred = ndimage.gaussian_filter(SPECKLED, (4, 4, 0))
    found = metrics.seam(SPECKLED, edit(SPECKLED, blurred))
    assert found.after < 0.8 * found.before
    other = metrics.seam(SPECKLED, edit(SPECKLED, SPECKLED[::-1, ::-1]))
    assert other.after == pytest.approx(other.before, rel=0.1)
