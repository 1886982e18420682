"""The demo for TensorRT for RTX, which builds without a GPU: built once a test run."""

from collections.abc import Iterator

import pytest

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_runtime.bundle.bundle import Bundle


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What TensorRT measures goes into a folder of the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def rtx_bundle(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> Bundle:
    return build(BuildOptions("demo", "demo", tmp_path_factory.mktemp("rtx"), "demo", "tensorrt-rtx", deepcache=True))
