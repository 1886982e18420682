"""Fixtures for all tests: real photos from packages, and a demo bundle, which is built once or given by `--bundle`."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.bundle.manifest import MANIFEST

# The networks of the tests are small; with several threads, torch would be slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Programs in the background of a shell ignore Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# facer and DeepFace have their own environment, which `make test-packages` uses.
collect_ignore = [] if find_spec("facer") else ["facer"]

# The number of inputs that hypothesis generates for each test. Ten minutes of fuzzing, once before a release:
# cd tests/runtime; pytest --hypothesis-profile=long bundle/test_manifest.py faces/test_{attributes,decoding}.py
settings.register_profile("short", max_examples=300, deadline=None)
settings.register_profile("long", max_examples=50_000, deadline=None)
settings.register_profile("fast", max_examples=50, deadline=None)
settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bundle", type=Path, help="a demo bundle to test the runtime with, instead of building one")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--bundle") is not None:  # `make test-fast`
        settings.load_profile("fast")


@pytest.fixture(scope="session", autouse=True)
def quick_coverage() -> Iterator[None]:
    """Pause the measuring of coverage within `torch.onnx.export`, which takes twice as long if it is traced.

    Python 3.12 and newer measure without a trace function, and nothing is paused there.
    """
    if sys.gettrace() is None or find_spec("torch") is None:
        yield
        return
    import torch.onnx

    export = torch.onnx.export

    def untraced(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return export(*arguments, **options)
        finally:
            sys.settrace(tracer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", untraced)
        yield


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """NASA's photo of Eileen Collins, 512 x 512, with one face; a file of scikit-image."""
    return Path(str(files("skimage"))) / "data" / "astronaut.png"


@pytest.fixture(scope="session")
def coffee() -> Path:
    """A photo of a cup of coffee, 600 x 400, without a face; a file of scikit-image."""
    return Path(str(files("skimage"))) / "data" / "coffee.png"


@pytest.fixture(scope="session")
def originals(astronaut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen different photos of one face in two folders; no test may change them."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "deep").mkdir()
    # A narrow photo takes the detector less time.
    face = Image.open(astronaut).convert("RGB").crop((150, 30, 300, 250))
    for i in range(14):
        face.rotate(i - 7).save(folder / ("deep" if i % 3 == 0 else "") / f"{i}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def export_packages(request: pytest.FixtureRequest) -> None:
    """Skip a test with `--bundle`: torch, onnx and OpenCV (the extras `export` and `demo`) may be missing then."""
    if request.config.getoption("--bundle") is not None:
        pytest.skip("needs more packages than the runtime: `make test` runs it")


@pytest.fixture(scope="session")
def demo_model(export_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generator of the demo as a diffusers folder; no test may change it."""
    from anon_export.demo.weights import write_demo

    folder = tmp_path_factory.mktemp("models") / "demo"
    write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def demo_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo bundle as `anon-export build demo` makes it; no test may change it."""
    ready = request.config.getoption("--bundle")
    if ready is not None:
        return Path(ready).resolve()
    from anon_export.build.builder import build
    from anon_export.build.options import BuildOptions

    output = tmp_path_factory.mktemp("engines")
    return build(BuildOptions("demo", "demo", output, "demo")).path


@pytest.fixture(scope="session")
def anonymizer(demo_bundle: Path) -> Anonymizer:
    return Anonymizer.load(demo_bundle)


@pytest.fixture
def own_bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the demo bundle that a test may damage."""
    return Path(shutil.copytree(demo_bundle, tmp_path / "bundle"))


def edit_manifest(bundle: Path, **changes: object) -> None:
    """Overwrite top-level fields of a bundle's manifest."""
    path = bundle / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pixels(path: Path) -> np.ndarray:
    """An image file as an RGB array."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
