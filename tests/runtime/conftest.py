"""Photos for folder runs, and an anonymizer whose engines compute each result only once."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.types import Array, Arrays, Engine, Request
from tests.runtime.runs import QUICK, images, run
from tests.runtime.stand_ins import StandInEngines


class CachingEngine:
    """An engine that returns the earlier result if it is called again with the same inputs."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._results = engine, dict[Any, Arrays]()

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        key = tuple(
            (name, a.shape, hashlib.sha256(np.ascontiguousarray(a).tobytes()).digest()) for name, a in inputs.items()
        )
        if key not in self._results:
            self._results[key] = self._engine(inputs)
        return {name: array.copy() for name, array in self._results[key].items()}


@pytest.fixture(scope="session")
def engines(anonymizer: Anonymizer) -> dict[str, Engine]:
    """Engines by role. Without the cache, these tests would spend most of their time on the same few photos."""
    engines, bundle = anonymizer.engines, anonymizer.engines.bundle
    by_path = {bundle.engine_path(role): CachingEngine(engines[role]) for role in bundle.manifest.engines}
    return {role: by_path[bundle.engine_path(role)] for role in bundle.manifest.engines}


@pytest.fixture(scope="session")
def people(anonymizer: Anonymizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of made-up people, painted by the demo; no test may change them."""
    folder = tmp_path_factory.mktemp("people")
    who, ages = ("white man", "asian woman", "black man"), range(20, 84, 8)
    kinds = [f"a {one}, {age} years old" for one in who for age in ages]
    requests = [Request(f"closeup portrait photo of {kind}", "", seed) for seed, kind in enumerate(kinds)]
    anonymizer = anonymizer.using(Settings(steps=6))
    for number, portrait in enumerate(anonymizer.generate(requests)):
        portrait.image.resize((192, 192), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def own_engines(anonymizer: Anonymizer, engines: dict[str, Engine]) -> StandInEngines:
    """Engines that a test may break."""
    return StandInEngines(anonymizer.engines.bundle, engines)


@pytest.fixture
def quick(own_engines: StandInEngines) -> Anonymizer:
    """An anonymizer of one step without guidance."""
    return Anonymizer.of(own_engines, QUICK)


@pytest.fixture
def photos(originals: Path, tmp_path: Path) -> Path:
    """A copy of the fourteen photos that a test may change."""
    return Path(shutil.copytree(originals, tmp_path / "photos"))


@pytest.fixture(scope="session")
def undisturbed(anonymizer: Anonymizer, originals: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the portraits of a run that nothing disturbs, by name."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert run(anonymizer.using(QUICK), originals, out) == 0
    return images(out)
