"""Paintings of photos for any seed and attempt; that they equal those of a run is tested with the attacker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.generator import Generator, TokenizedRequest
from anon_runtime.errors import BackendError
from anon_runtime.faces.reader import FaceReader
from anon_runtime.folder.identity import identify
from anon_runtime.guard.trial import Attempt
from anon_runtime.guard.words import DECADE
from anon_runtime.types import Portrait, Request
from benchmarks.evaluate.attackers.painter import Wanted, paint
from benchmarks.evaluate.pairs import ImageFile, find_images
from tests.conftest import pixels
from tests.runtime.runs import QUICK

FACTS = {"batched": False, "format": "png", "quality": 95}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory, astronaut: Path) -> list[ImageFile]:
    """Three images of a face."""
    folder = tmp_path_factory.mktemp("faces")
    with Image.open(astronaut) as photo:
        for i in range(3):
            photo.convert("RGB").crop((150, 30 - 10 * i, 300, 250)).save(folder / f"{i}.png")
    return find_images(folder)[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paintings")


@pytest.fixture(scope="module")
def quick(anonymizer: Anonymizer) -> Anonymizer:
    return anonymizer.using(QUICK)


def test_a_painting_is_that_of_the_photos_own_seed(quick: Anonymizer, faces: list[ImageFile], cache: Path) -> None:
    (painting,) = paint(quick, FACTS, faces, [Wanted(1, 7)], cache).values()
    written = quick.describe(faces[1].path)
    seed = identify(faces[1].path.read_bytes(), 7).seed
    (expected,) = quick.generate([Request(written.prompt, written.negative_prompt, seed)])
    np.testing.assert_array_equal(pixels(painting.path), np.asarray(expected.image))


def test_every_seed_photo_and_attempt_has_a_painting_of_its_own(
    quick: Anonymizer, faces: list[ImageFile], cache: Path
) -> None:
    wanted = [Wanted(0, 1), Wanted(0, 2), Wanted(1, 1), Wanted(0, 1, Attempt(1, 0)), Wanted(0, 1, Attempt(1, 1))]
    painted = paint(quick, FACTS, faces, wanted, cache)
    assert len({image.path for image in painted.values()}) == len(wanted)
    assert len({image.digest for image in painted.values()}) >= len(wanted) - 1  # a half decade's words may be equal
    again = paint(quick, {**FACTS, "steps": 2}, faces, wanted[:1], cache)
    assert again[wanted[0]].path != painted[wanted[0]].path


def test_attempts_that_leave_attributes_out_depend_on_everybody(
    anonymizer: Anonymizer, faces: list[ImageFile], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[Path] = []
    describe = FaceReader.describe_all

    def describe_all(self: FaceReader, photos: Sequence[Path]) -> list[Any]:
        described.extend(photos)
        return list(describe(self, photos))

    monkeypatch.setattr(FaceReader, "describe_all", describe_all)
    reporting = anonymizer.using(Settings(steps=1, guidance_scale=1, guard="report"))
    decade, fewer = Attempt(2, DECADE), Attempt(3, DECADE + 1)
    for count in (2, 3):
        for attempt, people in (decade, 1), (fewer, count):
            described.clear()
            paint(reporting, FACTS, faces[:count], [Wanted(0, 60, attempt)], cache)
            first = count == 2 or attempt == fewer
            assert len(described) == (people if first else 0), "the photos of others change nothing for a decade"


@pytest.mark.parametrize("batched", [False, True])
def test_batches_are_those_of_the_run(
    quick: Anonymizer, faces: list[ImageFile], cache: Path, monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    """A single image of a run with batches is painted twice."""
    sizes: list[int] = []
    generate = Generator.generate

    def counted(self: Generator, requests: Sequence[TokenizedRequest]) -> list[Portrait]:
        sizes.append(len(requests))
        return generate(self, requests)

    monkeypatch.setattr(Generator, "generate", counted)
    size = max(2, quick.engines.bundle.manifest.defaults.batch_size)
    wanted = [Wanted(0, 50, Attempt(number, 0)) for number in range(size + 1)]
    painted = paint(quick, {**FACTS, "batched": batched}, faces, wanted, cache)
    assert sizes == ([size, 2] if batched else [1] * (size + 1))
    assert list(painted) == wanted


def test_an_engine_that_always_fails_is_an_error(
    quick: Anonymizer, faces: list[ImageFile], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BackendError("the engine", "it is gone", "look for it")

    monkeypatch.setattr(type(quick.generator), "generate", fail)
    with pytest.raises(BackendError, match="it is gone"):
        paint(quick, FACTS, faces, [Wanted(0, 99, Attempt(number, 0)) for number in range(10)], cache)
