"""Heads in pictures: they come back as they were, and bars hide what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.composites import make_composite
from benchmarks.heads import make_bar, straighten
from tests.benchmarks.coded_people import BOX, SIDE, make_backgrounds, make_people

PEOPLE, BACKGROUNDS = make_people(13), make_backgrounds()


@pytest.mark.parametrize(("least", "most"), [(0.5, 1), (1, 2), (2, 5)])
def test_a_face_is_turned_back(least: float, most: float) -> None:
    """Where the head is opaque, the picture around a face is the person's photo again."""
    faces = (
        (one, face)
        for one in (make_composite(PEOPLE, BACKGROUNDS, 0, number) for number in range(200))
        for face in one.faces
        if face.hidden == 0
    )
    composite, face = next(pair for pair in faces if least <= np.hypot(*pair[1].pose.matrix[:, 0]) <= most)
    found = straighten(composite.pixels, face.pose)
    assert found.shape == (SIDE, SIDE, 3)
    ys, xs = np.mgrid[:SIDE, :SIDE]
    x, y, w, h = BOX
    inner = np.hypot((xs - x - w / 2) / w, (ys - y - h / 2) / h) < 0.45
    assert np.abs(found[inner].astype(int) - face.pose.person.pixels[inner]).max() <= 4


@given(st.integers(0, 2**20))
def test_a_bar_hides_a_part_of_a_face(seed: int) -> None:
    ys, xs = np.mgrid[-1:1:101j, -1:1:101j]
    share = make_bar(np.random.default_rng(seed), (0.1, 0.4)).covers(xs, ys)[np.hypot(xs, ys) < 1].mean()
    assert 0.07 <= share <= 0.43
