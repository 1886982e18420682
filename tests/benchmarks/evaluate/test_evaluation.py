"""The tables, for readings that are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluate import evaluation
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.predictors import FaceEngines, Fer, Predictor
from benchmarks.evaluate.types import Vector
from tests.benchmarks.evaluate.studies import FakeReader, make_study, save_all

N = 60


class KnownReader(FakeReader):
    """Gives each image the emotions of its number."""

    def __init__(self, readings: dict[str, Vector], emotions: Vector) -> None:
        super().__init__(readings)
        self._emotions = emotions

    def read_with(self, predictor: Predictor, images: Sequence[ImageFile], what: str) -> Vector:
        return self._emotions[[int(image.name) for image in images]]


@pytest.fixture
def only_fer(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_nothing(self: Fer) -> None: ...

    monkeypatch.setattr(Fer, "__init__", load_nothing)


def test_emotions_are_those_that_are_read_from_the_own_original(tmp_path: Path, only_fer: None) -> None:
    rng = np.random.default_rng(0)
    images = save_all(tmp_path / "photos", list(rng.integers(0, 256, (N, 8, 8, 3), np.uint8)))
    emotions = np.eye(len(Fer.emotions))[rng.integers(3, size=N)]
    copies = Method("copies", {number: images[number] for number in reversed(range(N))})
    others = Method("others", {number: images[(number + 1) % N] for number in range(N)})
    study = make_study(tmp_path, images, [copies, others], None)
    study.__dict__["reader"] = KnownReader({"originals": np.zeros((N, len(FaceEngines.columns)))}, emotions)
    found = evaluation.evaluate_utility(study)[Fer.name]
    assert found["copies"]["all"]["emotion AUC"] == {"value": 1, "of": 3}
    assert found["others"]["all"]["emotion AUC"]["value"] < 0.7
