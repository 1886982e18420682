"""The benchmark of the guard measures what it says, on small numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import guard


def test_the_search_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SIZES", (100, 300))
    found = guard.measure_search(repeats=1)
    assert list(found) == ["100 people", "300 people"]
    assert found["300 people"]["MB"] == pytest.approx(300 * 128 * 4 / 1e6)
    assert all(value > 0 for row in found.values() for value in row.values())


def test_random_people_are_embeddings() -> None:
    people = guard.random_people(50, 3)
    assert np.linalg.norm(people, axis=1) == pytest.approx(np.ones(50), abs=0.01)
    assert np.array_equal(people * 2048, np.rint(people * 2048))


def test_planted_people_are_found(
    demo_bundle: Path, astronaut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(astronaut, tmp_path)
    monkeypatch.setattr(guard, "PORTRAITS", 3)
    monkeypatch.setattr(guard, "PLANTED", 1)
    found = guard.measure_planted(demo_bundle, tmp_path)
    assert found["planted, found"] == found["gallery"] == 1
    assert found["others"] == 2
    assert found["others, refused as another person"] == 0


def test_the_table_shows_both_runs(tmp_path: Path) -> None:
    part = {"inner AUC": {"value": 0.9}, "outer AUC": {"value": 0.8}}
    identity = {"Re-ID@1": {"value": 0.25, "low": 0.125, "high": 0.5, "of": 9}}
    evaluation = {
        "groups": {"held out": 10, "not held out": 12},
        "reid": {"dlib ResNet": {"methods": {"a": {"groups": {"held out": identity, "not held out": identity}}}}},
        "utility": {"face engines": {"a": {"all": part, "groups": {"held out": part}}}},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "report.json").write_text(json.dumps({"summary": {"words": {"alone": 1, "people": 4}}}))
    text = guard.table(tmp_path / "evaluation.json", [f"a={tmp_path}"])
    assert "| Re-ID@1, others | 25.0 (12.5-50.0) |" in text
    assert "| refused, trained on | 3 of 12 (25.0) |" in text
    assert "| words fit one person only | 1 of 4 (25) |" in text
    assert "| AUC inner and outer, all | 90.0 and 80.0 |" in text
