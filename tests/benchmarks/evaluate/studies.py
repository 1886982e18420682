"""Studies whose images are noise and whose readings are given, so that tests need no networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evaluate.labels import Labels
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.predictors import FaceEngines
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Mask, Vector


class FakeReader:
    """Gives the readings of each method by its name; NaN, no face, for a method without."""

    def __init__(self, readings: Mapping[str, Vector]) -> None:
        self._readings = readings

    def read(self, images: Sequence[ImageFile], what: str) -> Vector:
        return self._readings.get(what, np.full((len(images), len(FaceEngines.columns)), np.nan))


def make_study(
    folder: Path,
    images: Sequence[ImageFile],
    methods: Sequence[Method],
    rows: Sequence[Mapping[str, str]] | None,
    readings: Mapping[str, Vector] | None = None,
    held_out: Mask | None = None,
) -> Study:
    """A study with labels ``rows`` and with given readings."""
    labels = None if rows is None else Labels(rows)
    study = Study(images, methods, labels, held_out, folder / "no engines", folder / "cache")
    study.__dict__["reader"] = FakeReader(readings or {})
    return study


def save_all(folder: Path, pictures: Sequence[NDArray[np.uint8]]) -> list[ImageFile]:
    """Write pictures as files."""
    folder.mkdir(parents=True)
    found = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number:03}.png"
        Image.fromarray(picture).save(path)
        found.append(ImageFile(path.stem, path))
    return found
