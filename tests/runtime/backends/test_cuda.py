import sys

import pytest

from anon_runtime.backends.cuda import Cuda
from anon_runtime.errors import BackendError


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of TensorRT cover the calls with the package."""
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"cuda-bindings is not installed; install `anon-engines\[tensorrt\]`"):
        Cuda()
