"""Fixtures with facer and DeepFace, and random weights where the packages look for trained ones.

The trained weights cannot be downloaded without a network connection, so the tests write He-initialised weights with a
fixed seed. If the folder in the variable ANON_ENGINES_WEIGHTS has a trained detector, the tests use it.
"""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from anon_export.cli import main
from anon_export.demo.generator import Architecture, write_generator
from anon_runtime import Anonymizer
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.faces.decoding import read_photo
from anon_runtime.types import Engine, Pixels
from benchmarks.random_face_weights import write_random_face_weights

TRAINED = Path(os.environ.get("ANON_ENGINES_WEIGHTS", Path(__file__).parents[3] / "shared" / "weights"))


@pytest.fixture(scope="session")
def random_face_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of torch and DeepFace with random weights; environment variables point there."""
    home = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home / "torch"))
        patch.setenv("DEEPFACE_HOME", str(home))
        patch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
        write_random_face_weights(TRAINED)
        yield home


@pytest.fixture(scope="session")
def bundle(random_face_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small model with the paper's face engines, built by the command."""
    folder = tmp_path_factory.mktemp("facer")
    write_generator(folder / "model", Architecture(64, 64, (32, 64), (16, 32, 32), 32))
    with pytest.raises(SystemExit) as caught:
        main(["build", str(folder / "model"), "--name", "paper", "--output", str(folder), "--quiet"])
    assert caught.value.code == 0
    return Bundle.open(folder / "paper")


@pytest.fixture(scope="session")
def engines(bundle: Bundle) -> dict[str, Engine]:
    """The face engines by role."""
    anonymizer = Anonymizer.of(Engines(bundle))
    return {role: anonymizer.engines[role] for role in bundle.manifest.engines if role.startswith("face")}


@pytest.fixture(scope="session")
def photos(astronaut: Path) -> list[Pixels]:
    """Photographs of several shapes, with and without faces."""
    data = Path(str(files("skimage"))) / "data"
    found = [read_photo(data / name) for name in ("astronaut.png", "camera.png", "coffee.png", "chelsea.png")]
    others = sorted((Path(__file__).parents[3] / "shared" / "sfhq40" / "photos").glob("*"))[:8]
    return found + [read_photo(path) for path in others]
