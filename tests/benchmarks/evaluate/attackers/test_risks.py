from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.evaluate import requirements
from benchmarks.evaluate.attackers import risks
from benchmarks.evaluate.attackers.risks import FEWEST_PORTRAITS, choose_people, evaluate_risks, measure
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.predictors import FaceEngines
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Vector


def make_study(originals: Vector, portraits: Vector, people: list[int], own: list[int]) -> Study:
    """A study of one method, of some of the originals."""
    images = {index: ImageFile(str(index), Path(str(index))) for index in own}

    def read(files: list[ImageFile], what: str) -> Vector:
        assert what == "ours"
        return portraits[[int(file.name) for file in files]]

    fake = SimpleNamespace(
        reading=originals,
        people=np.array(people),
        methods=[Method("ours", images)],
        reader=SimpleNamespace(read=read),
    )
    return cast(Study, fake)


def test_one_image_of_each_person_with_a_face_is_attacked() -> None:
    reading = np.zeros((6, 2))
    reading[0, 1] = np.nan
    assert choose_people(np.array([0, 0, 2, 0, 2, 5]), reading).tolist() == [1, 2, 5]
    assert choose_people(np.array([0, 0, 2, 0, 2, 5]), np.full((6, 2), np.nan)).tolist() == []


def test_of_many_people_some_are_drawn() -> None:
    rows = choose_people(np.arange(100), np.zeros((100, 2)), 10)
    assert len(set(rows.tolist())) == 10
    assert rows.tolist() == sorted(rows.tolist()) != list(range(10))
    assert rows.tolist() == choose_people(np.arange(100), np.zeros((100, 2)), 10).tolist()


def test_rows_of_originals_and_portraits_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos 1 and 4 show one person, photo 2 has no portrait, and photo 3 no face."""
    originals, portraits = np.arange(5.0)[:, None] + [[0, 0.5]], np.arange(5.0)[:, None] * [[10, 10]]
    originals[3] = np.nan
    monkeypatch.setattr(risks, "require", lambda *_: None)
    monkeypatch.setattr(risks, "measure", lambda a, b: {"a": a.tolist(), "b": b.tolist()})
    found = evaluate_risks(make_study(originals, portraits, [0, 1, 2, 3, 1], [4, 0, 3, 1]))
    assert found["methods"] == {"ours": {"a": [[4, 4.5], [0, 0.5]], "b": [[40, 40], [0, 0]]}}
    assert "Smiling" in found["inner"]
    assert "Bald" in found["outer"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(np.zeros((1, 2)), np.zeros((1, 2)), [0], [0])
    monkeypatch.setattr(requirements, "is_installed", lambda package: package != "anonymeter")
    assert evaluate_risks(study) == {
        "missing": "risks of WP216: missing: package anonymeter; pip install --no-deps anonymeter==1.1.0"
    }
    monkeypatch.setattr(risks, "require", lambda *_: None)

    class NoEngines:
        @property
        def reading(self) -> Any:
            raise requirements.MissingError("face engines", "missing", "name a bundle")

    assert evaluate_risks(cast(Study, NoEngines())) == {"missing": "face engines: missing; name a bundle"}


def test_portraits_without_faces_are_no_table() -> None:
    portraits = np.full((200, len(FaceEngines.columns)), np.nan)
    portraits[: FEWEST_PORTRAITS - 1] = 0
    assert measure(np.zeros_like(portraits), portraits) == {
        "missing": f"a face is found in {FEWEST_PORTRAITS - 1} portraits, and {FEWEST_PORTRAITS} are needed"
    }
