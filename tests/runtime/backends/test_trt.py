"""TensorRT without a GPU: the real bindings as far as they go, and a CUDA whose device memory is this machine's."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from anon_runtime.backends import load_engine, trt
from anon_runtime.errors import BackendError

pytestmark = pytest.mark.packages
runtime = pytest.importorskip("cuda.bindings.runtime")


@pytest.fixture(scope="module")
def bindings() -> Any:
    pytest.importorskip(trt.RTX_LIBRARIES)
    return trt.import_tensorrt("tensorrt-rtx")


class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that engines call, over plain memory; names and numbers of arguments
    are checked against the real ones.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []
        self.captured: list[Any] = []
        self.recording = False
        for name in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
            setattr(self, name, getattr(runtime, name))

    def __getattr__(self, name: str) -> Any:
        real = getattr(runtime, name)  # a name that the real module lacks fails here
        ours = getattr(self, f"_{name.removeprefix('cuda')}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            expected = real.__doc__.split("(")[1].split(")")[0]
            assert len(arguments) == len([a for a in expected.split(",") if a.strip()]), (name, expected)
            self.calls.append(name)
            result = ours(*arguments)
            return (runtime.cudaError_t.cudaSuccess,) if result is None else (runtime.cudaError_t.cudaSuccess, result)

        return call

    def _DeviceGetAttribute(self, attribute: Any, _device: int) -> int:  # noqa: N802
        return 8 if attribute == runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor else 9

    def _StreamCreate(self) -> int:  # noqa: N802
        return 1

    def _StreamSynchronize(self, _stream: int) -> None:  # noqa: N802
        pass

    def _Malloc(self, size: int) -> int:  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def _Free(self, address: int) -> None:  # noqa: N802
        del self.memory[address]

    def _MemcpyAsync(self, to: int, source: int, size: int, _kind: Any, _stream: int) -> None:  # noqa: N802
        ctypes.memmove(to, source, size)

    def _StreamBeginCapture(self, _stream: int, _mode: Any) -> None:  # noqa: N802
        self.recording = True

    def _StreamEndCapture(self, _stream: int) -> str:  # noqa: N802
        self.recording = False
        return "graph"

    def _GraphInstantiate(self, _graph: Any, _flags: int) -> str:  # noqa: N802
        return "executable"

    def _GraphDestroy(self, _graph: Any) -> None:  # noqa: N802
        pass

    def _GraphExecDestroy(self, _graph: Any) -> None:  # noqa: N802
        self.captured.clear()

    def _GraphLaunch(self, _graph: Any, _stream: int) -> None:  # noqa: N802
        for work in self.captured:
            work()


class FakeEngine:
    """An engine that adds one to ``x`` (1 to 4 rows of 3), in place of TensorRT's."""

    def __init__(self, bindings: Any, cuda: FakeCuda) -> None:
        self.cuda, self.shape, self.addresses = cuda, (0, 3), dict[str, int]()
        self.engine = mock.create_autospec(bindings.ICudaEngine, instance=True)
        self.engine.num_io_tensors = 2
        self.engine.get_tensor_name.side_effect = ["x", "y"].__getitem__
        modes = {"x": bindings.TensorIOMode.INPUT, "y": bindings.TensorIOMode.OUTPUT}
        self.engine.get_tensor_mode.side_effect = modes.__getitem__
        self.engine.get_tensor_dtype.return_value = bindings.float32
        self.engine.get_tensor_profile_shape.return_value = [(1, 3), (2, 3), (4, 3)]
        context = mock.create_autospec(bindings.IExecutionContext, instance=True)
        context.set_input_shape.side_effect = self.set_shape
        context.get_tensor_shape.side_effect = lambda _name: self.shape
        context.set_tensor_address.side_effect = self.addresses.__setitem__
        context.execute_async_v3.side_effect = self.execute
        self.engine.create_execution_context.return_value = context

    def set_shape(self, _name: str, shape: tuple[int, int]) -> bool:
        self.shape = shape
        return True

    def execute(self, _stream: int) -> bool:
        size = int(np.prod(self.shape))

        def work() -> None:
            x, y = (np.ctypeslib.as_array((ctypes.c_float * size).from_address(self.addresses[name])) for name in "xy")
            y[:] = x + 1

        if self.cuda.recording:
            self.cuda.captured.append(work)
        else:
            work()
        return True


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr("cuda.bindings.runtime", fake, raising=False)
    import cuda.bindings

    monkeypatch.setattr(cuda.bindings, "runtime", fake)
    return fake


@pytest.fixture
def engine(bindings: Any, cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")
    loaded = mock.create_autospec(bindings.Runtime, instance=True)
    loaded.deserialize_cuda_engine.return_value = FakeEngine(bindings, cuda).engine
    module = SimpleNamespace(
        Logger=bindings.Logger, Runtime=lambda _logger: loaded, TensorIOMode=bindings.TensorIOMode,
        nptype=bindings.nptype, __name__="tensorrt", __version__="x",
    )  # fmt: skip
    monkeypatch.setattr(trt, "import_tensorrt", lambda _target: module)
    return trt.load(plan, "tensorrt", None, "sm_89")


def rows(count: int, start: float = 0) -> dict[str, Any]:
    return {"x": np.arange(count * 3, dtype=np.float32).reshape(count, 3) + np.float32(start)}


def test_arrays_go_to_the_device_and_back(engine: Any, cuda: FakeCuda) -> None:
    for count in (2, 4, 1, 2):
        np.testing.assert_array_equal(engine(rows(count))["y"], rows(count)["x"] + 1)
        assert len(cuda.memory) == 2, "the buffers of other shapes were freed"
    engine.close()
    assert cuda.memory == {}


def test_a_shape_that_comes_again_is_captured_and_replayed(engine: Any, cuda: FakeCuda) -> None:
    launches = []
    for k in range(4):
        cuda.calls.clear()
        np.testing.assert_array_equal(engine(rows(2, k))["y"], rows(2, k)["x"] + 1)
        launches.append(("cudaStreamBeginCapture" in cuda.calls, "cudaGraphLaunch" in cuda.calls))
    assert launches == [(False, False), (True, True), (False, True), (False, True)]
    cuda.calls.clear()
    np.testing.assert_array_equal(engine(rows(3))["y"], rows(3)["x"] + 1)
    assert "cudaGraphExecDestroy" in cuda.calls and "cudaGraphLaunch" not in cuda.calls


def test_results_are_not_overwritten_by_the_next_run(engine: Any) -> None:
    first = engine(rows(2))["y"]
    copy = first.copy()
    engine(rows(2, 5))
    np.testing.assert_array_equal(first, copy)


def test_shapes_outside_of_the_profile_are_named(engine: Any) -> None:
    with pytest.raises(BackendError, match=r"x \[5, 3\] is outside of \[1, 3\] to \[4, 3\].*--batch-size"):
        engine(rows(5))


def test_an_engine_for_another_gpu_says_so(cuda: FakeCuda, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="built for sm_80, this machine has sm_89; run `anon-export build"):
        trt.load(tmp_path / "model.plan", "tensorrt", None, "sm_80")


def test_a_plan_of_another_version_is_refused(engine: Any, tmp_path: Path) -> None:
    engine._runtime.deserialize_cuda_engine.return_value = None
    with pytest.raises(BackendError, match="did not accept the plan"):
        trt.load(tmp_path / "model.plan", "tensorrt", None, "sm_89")


def test_a_machine_without_a_driver_is_named(tmp_path: Path) -> None:
    """The real CUDA runtime, which answers with an error code here."""
    code, _ = runtime.cudaGetDeviceCount()
    if code == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="CUDA.*nvidia-smi"):
        load_engine("tensorrt-rtx", tmp_path / "model.plan")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"install `anon-engines\[tensorrt-rtx\]`"):
        trt.import_tensorrt("tensorrt-rtx")
    with pytest.raises(BackendError, match=r"install `anon-engines\[tensorrt\]`"):
        trt.import_tensorrt("tensorrt")
