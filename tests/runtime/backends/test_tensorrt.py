"""TensorRT without a GPU: the real bindings where they work, and a fake CUDA that uses the memory of the CPU."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anon_runtime.backends import tensorrt as trt
from anon_runtime.backends.base import Placement, load_engine
from anon_runtime.errors import BackendError

# An exception in a destructor is an error, too.
pytestmark = [pytest.mark.packages, pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")]
runtime = pytest.importorskip("cuda.bindings.runtime")
SUCCESS = runtime.cudaError_t.cudaSuccess


@pytest.fixture(scope="module")
def bindings() -> Any:
    return trt.import_tensorrt("tensorrt-rtx")


class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that engines call, on plain memory.

    The names of the functions and the numbers of their arguments are compared with the real ones. Calls that would
    fail on a GPU fail here as well: work on a stream that is being captured, a graph whose context was changed, and
    an object that is released twice.

    Attributes:
        failing: the names of functions that return an error.
        alive: the objects that were created and not yet released, by kind.
    """

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.alive: dict[str, set[int]] = {"stream": set(), "graph": set(), "executable": set()}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.made = 0
        kinds = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr", "cudaStreamNonBlocking")
        for name in kinds:
            setattr(self, name, getattr(runtime, name))
        self.cudaGetErrorString = runtime.cudaGetErrorString

    def __getattr__(self, name: str) -> Any:
        real = getattr(runtime, name)  # this fails if the real module has no such function
        ours = getattr(self, f"_{name.removeprefix('cuda')}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            expected = real.__doc__.split("(")[1].split(")")[0]
            assert len(arguments) == len([a for a in expected.split(",") if a.strip()]), (name, expected)
            self.calls.append(name)
            if name in self.failing:
                if name == "cudaStreamEndCapture":  # a capture that fails has ended as well
                    self.recording = None
                kind = runtime.cudaError_t
                failure = kind.cudaErrorMemoryAllocation if name == "cudaMalloc" else kind.cudaErrorUnknown
                return failure, None
            result = ours(*arguments)
            return (SUCCESS,) if result is None else (SUCCESS, result)

        return call

    def _new(self, kind: str) -> int:
        self.made += 1
        self.alive[kind].add(self.made)
        return self.made

    def _GetLastError(self) -> None:  # noqa: N802
        pass

    def _DeviceGetAttribute(self, attribute: Any, _device: int) -> int:  # noqa: N802
        return 8 if attribute == runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor else 9

    def _StreamCreateWithFlags(self, flags: int) -> int:  # noqa: N802
        assert flags == runtime.cudaStreamNonBlocking
        return self._new("stream")

    def _StreamDestroy(self, stream: int) -> None:  # noqa: N802
        self.alive["stream"].remove(stream)

    def _StreamSynchronize(self, stream: int) -> None:  # noqa: N802
        assert stream in self.alive["stream"]
        assert self.recording is None

    def _Malloc(self, size: int) -> int:  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def _Free(self, address: int) -> None:  # noqa: N802
        del self.memory[address]

    def array(self, address: int, count: int) -> Any:
        """Numbers at an address, which may lie within a block."""
        start = max(start for start in self.memory if start <= address)
        return np.frombuffer(self.memory[start], np.float32, count, address - start)

    def _MemcpyAsync(self, to: int, source: int, size: int, kind: Any, stream: int) -> None:  # noqa: N802
        assert stream in self.alive["stream"]
        assert self.recording is None
        device = to if kind == runtime.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert size <= len(self.memory[device])
        ctypes.memmove(to, source, size)

    def _StreamBeginCapture(self, _stream: int, mode: Any) -> None:  # noqa: N802
        assert mode == runtime.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        assert self.recording is None
        self.recording = []

    def _StreamEndCapture(self, _stream: int) -> int:  # noqa: N802
        assert self.recording is not None
        graph = self._new("graph")
        self.graphs[graph], self.recording = self.recording, None
        return graph

    def _GraphInstantiate(self, graph: int, _flags: int) -> int:  # noqa: N802
        assert graph in self.alive["graph"]
        executable = self._new("executable")
        self.graphs[executable] = self.graphs[graph]
        return executable

    def _GraphDestroy(self, graph: int) -> None:  # noqa: N802
        self.alive["graph"].remove(graph)

    def _GraphExecDestroy(self, executable: int) -> None:  # noqa: N802
        self.alive["executable"].remove(executable)

    def _GraphLaunch(self, executable: int, stream: int) -> None:  # noqa: N802
        assert executable in self.alive["executable"]
        assert stream in self.alive["stream"]
        assert self.recording is None
        for work in self.graphs[executable]:
            work()


class FakeEngine:
    """A fake engine of TensorRT that adds one to ``x`` (1 to 8 rows of 3 numbers)."""

    def __init__(self, bindings: Any, cuda: FakeCuda) -> None:
        self.bindings, self.cuda = bindings, cuda
        self.refusing: set[str] = set()
        self.contexts: list[Any] = []
        self.runs = 0
        self.fails_in_capture = False
        self.capturable = True
        self.output_rows: int | None = None
        engine = self.engine = mock.create_autospec(bindings.ICudaEngine, instance=True)
        engine.num_io_tensors = 2
        engine.device_memory_size_v2 = 64
        engine.get_tensor_name.side_effect = ["x", "y"].__getitem__
        modes = {"x": bindings.TensorIOMode.INPUT, "y": bindings.TensorIOMode.OUTPUT}
        engine.get_tensor_mode.side_effect = modes.__getitem__
        engine.get_tensor_dtype.return_value = bindings.float32
        engine.get_tensor_shape.return_value = (-1, 3)
        engine.get_tensor_profile_shape.return_value = [(1, 3), (2, 3), (8, 3)]
        engine.create_runtime_config.side_effect = lambda: mock.create_autospec(bindings.IRuntimeConfig, instance=True)
        engine.create_execution_context.side_effect = self.create

    def create(self, how: Any) -> Any:
        """A context that uses the memory of the caller, and whose kernels are compiled before a graph is captured."""
        managed = self.bindings.ExecutionContextAllocationStrategy.USER_MANAGED
        if how != managed:
            how.set_execution_context_allocation_strategy.assert_called_once_with(managed)
            eager = self.bindings.DynamicShapesKernelSpecializationStrategy.EAGER
            assert how.dynamic_shapes_kernel_specialization_strategy == eager
        if "create" in self.refusing:
            return None
        context = mock.create_autospec(self.bindings.IExecutionContext, instance=True)
        state = SimpleNamespace(shape=(0, 3), addresses={}, memory=None, changes=0)

        def change(**facts: Any) -> None:
            vars(state).update(facts)
            state.changes += 1

        def set_shape(_name: str, shape: tuple[int, ...]) -> bool:
            change(shape=shape)
            return "shape" not in self.refusing

        def set_address(name: str, address: int) -> bool:
            change(addresses=state.addresses | {name: address})
            return "address" not in self.refusing

        context.set_input_shape.side_effect = set_shape
        context.set_tensor_address.side_effect = set_address
        context.set_device_memory.side_effect = lambda address, size: change(memory=(address, size))
        context.get_tensor_shape.side_effect = lambda _name: (self.output_rows or state.shape[0], 3)
        context.is_stream_capturable.side_effect = lambda _stream: self.capturable
        context.execute_async_v3.side_effect = lambda _stream: self.execute(state)
        self.contexts.append(context)
        return context

    def execute(self, state: Any) -> bool:
        address, size = state.memory
        assert size >= 64
        assert len(self.cuda.memory[address]) >= size
        changes, count = state.changes, int(np.prod(state.shape))

        def work() -> None:
            assert state.changes == changes, "the context of a graph was changed"
            x, y = (self.cuda.array(state.addresses[name], count) for name in "xy")
            y[:] = x + 1

        if self.cuda.recording is not None:
            self.cuda.recording.append(work)
            return not self.fails_in_capture
        self.runs += 1
        work()
        return "execute" not in self.refusing


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr("cuda.bindings.runtime", fake, raising=False)
    import cuda.bindings

    monkeypatch.setattr(cuda.bindings, "runtime", fake)
    return fake


@pytest.fixture
def network(bindings: Any, cuda: FakeCuda) -> FakeEngine:
    return FakeEngine(bindings, cuda)


Load = Callable[[], Any]


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def load(
    bindings: Any, network: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Load:
    """Load the network with TensorRT and with TensorRT for RTX, which also compiles kernels while it runs."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")
    loaded = mock.create_autospec(bindings.Runtime, instance=True)
    loaded.deserialize_cuda_engine.return_value = network.engine
    module = SimpleNamespace(
        Runtime=lambda _logger: loaded,
        ILogger=bindings.ILogger,
        Logger=bindings.Logger,
        TensorIOMode=bindings.TensorIOMode,
        nptype=bindings.nptype,
        __name__="tensorrt",
        __version__="x",
        ExecutionContextAllocationStrategy=bindings.ExecutionContextAllocationStrategy,
    )
    if request.param == "tensorrt-rtx":
        name = "DynamicShapesKernelSpecializationStrategy"
        setattr(module, name, getattr(bindings, name))
    monkeypatch.setattr(trt, "import_tensorrt", lambda _target: module)
    return lambda: trt.load(plan, request.param, Placement(gpu="sm_89"))


@pytest.fixture
def engine(load: Load) -> Any:
    return load()


def rows(count: int, start: float = 0) -> dict[str, Any]:
    return {"x": np.arange(count * 3, dtype=np.float32).reshape(count, 3) + np.float32(start)}


def check(engine: Any, count: int, start: float = 0) -> None:
    np.testing.assert_array_equal(engine(rows(count, start))["y"], rows(count, start)["x"] + 1)


def test_arrays_go_to_the_device_and_back(engine: Any) -> None:
    for count in (2, 4, 1, 2):
        check(engine, count, start=count)


def test_a_shape_that_comes_again_is_captured_and_replayed(engine: Any, cuda: FakeCuda) -> None:
    launches = []
    for k in range(4):
        cuda.calls.clear()
        check(engine, 2, k)
        launches.append(("cudaStreamBeginCapture" in cuda.calls, "cudaGraphLaunch" in cuda.calls))
    assert launches == [(False, False), (True, True), (False, True), (False, True)]
    assert cuda.alive["graph"] == set()
    assert len(cuda.alive["executable"]) == 1


def test_guidance_that_goes_on_and_off_keeps_both_shapes(engine: Any, cuda: FakeCuda, network: FakeEngine) -> None:
    for k in range(2):
        check(engine, 4, k)
        check(engine, 2, k)
    cuda.calls.clear()
    for k in range(5):
        check(engine, 4, k)
        check(engine, 2, k)
    assert set(cuda.calls) == {"cudaMemcpyAsync", "cudaGraphLaunch", "cudaStreamSynchronize"}
    assert network.runs == 2
    assert len(network.contexts) == 2


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 8), max_size=30))
def test_any_order_of_shapes_in_bounded_memory(load: Load, cuda: FakeCuda, counts: list[int]) -> None:
    engine = load()
    for start, count in enumerate(counts):
        check(engine, count, start)
        assert len(cuda.memory) <= 2 * trt.KEPT + 1, (
            "inputs and outputs of the kept shapes, and one block of working memory"
        )
        assert len(cuda.alive["executable"]) <= trt.KEPT
    del engine
    gc.collect()
    assert not cuda.memory
    assert not any(cuda.alive.values()), "everything is released with the engine"


def test_the_shape_that_was_not_used_for_longest_goes(engine: Any, cuda: FakeCuda, network: FakeEngine) -> None:
    for count in (1, 2, 3, 4, 1, 5, 1):
        check(engine, count)
    assert trt.KEPT == 4
    assert len(network.contexts) == 5
    check(engine, 2)
    assert len(network.contexts) == 6


def test_results_are_not_overwritten_by_the_next_run(engine: Any) -> None:
    first = engine(rows(2))["y"]
    copy = first.copy()
    engine(rows(2, 5))
    np.testing.assert_array_equal(first, copy)


BREAKS = ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "execute", "not capturable"]


@pytest.mark.parametrize("broken", BREAKS)
def test_where_no_graph_can_be_captured_launches_go_one_by_one(
    engine: Any, cuda: FakeCuda, network: FakeEngine, broken: str
) -> None:
    network.fails_in_capture, network.capturable = broken == "execute", broken != "not capturable"
    cuda.failing = {broken}
    for k in range(4):
        check(engine, 2, k)
    assert network.runs == 4
    assert cuda.calls.count("cudaStreamBeginCapture") <= 1
    assert cuda.recording is None
    assert not cuda.alive["graph"]
    assert not cuda.alive["executable"]
    # TensorRT would report an error that was not cleared as its own.
    assert ("cudaGetLastError" in cuda.calls) == (broken in BREAKS[:3])


@pytest.mark.parametrize("refused", ["shape", "address", "create", "execute", "cudaMalloc", "cudaMemcpyAsync"])
def test_what_tensorrt_or_cuda_refuses_is_an_error_and_leaves_nothing(
    load: Load, cuda: FakeCuda, network: FakeEngine, refused: str
) -> None:
    engine = load()
    check(engine, 2)
    before = len(cuda.memory)
    network.refusing = cuda.failing = {refused}
    for _ in range(2):
        with pytest.raises(BackendError):
            engine(rows(3))
    network.refusing = cuda.failing = set()
    gc.collect()
    assert len(cuda.memory) == before
    check(engine, 3)
    check(engine, 2)
    del engine
    gc.collect()
    assert not cuda.memory
    assert not any(cuda.alive.values())


def test_a_graph_that_fails_is_dropped(engine: Any, cuda: FakeCuda) -> None:
    for k in range(2):
        check(engine, 2, k)
    cuda.failing = {"cudaGraphLaunch"}
    with pytest.raises(BackendError, match="CUDA's GraphLaunch"):
        engine(rows(2))
    cuda.failing = set()
    gc.collect()
    assert not cuda.alive["executable"]
    for k in range(3):
        check(engine, 2, k)


def test_memory_that_is_not_there_is_named(load: Load, cuda: FakeCuda) -> None:
    cuda.failing = {"cudaMalloc"}
    with pytest.raises(BackendError, match=r"Malloc.*out of memory.*smaller .*batch.size"):
        load()
    gc.collect()
    assert not any(cuda.alive.values())


def test_outputs_without_a_size_are_an_error(engine: Any, network: FakeEngine) -> None:
    network.output_rows = -1
    with pytest.raises(BackendError, match=r"y has no size that follows from the inputs"):
        engine(rows(2))


def test_shapes_outside_of_the_profile_are_named(engine: Any) -> None:
    with pytest.raises(BackendError, match=r"x \[9, 3\] is outside of \[1, 3\] to \[8, 3\].*batch.size"):
        engine(rows(9))


@pytest.mark.parametrize("inputs", [{}, {"z": np.zeros((2, 3), np.float32)}, rows(2) | {"z": np.zeros(1)}])
def test_inputs_of_other_names_are_refused(engine: Any, inputs: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="its inputs are x"):
        engine(inputs)


def test_a_bound_engine_copies_nothing_and_is_captured(engine: Any, cuda: FakeCuda) -> None:
    x, y = (engine.memory.empty((4, 3), np.float32) for _ in "xy")
    launch = engine.bind({"x": x.rows(1, 3)}, {"y": y.rows(2, 4)})
    for k in range(3):
        engine.memory.write(x, rows(4, k)["x"])
        engine.memory.write(y, np.zeros((4, 3), np.float32))
        cuda.calls.clear()
        launch()
        assert not {"cudaMemcpyAsync", "cudaMalloc"} & set(cuda.calls)
        assert ("cudaGraphLaunch" in cuda.calls) == (k > 0)
        np.testing.assert_array_equal(engine.memory.read(y)[2:], rows(4, k)["x"][1:3] + 1)
        assert not engine.memory.read(y)[:2].any()
    del launch, x, y
    gc.collect()
    assert len(cuda.memory) == 1, "the working memory of the engine is left"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((2, np.float16), (2, np.float32), "it takes x as float32"),
        ((2, np.float32), (3, np.float32), r"its output y is float32\[2, 3\]"),
        ((2, np.float32), (2, np.float16), r"its output y is float32\[2, 3\]"),
        ((2, np.float32), None, "output y has no buffer"),
        ((9, np.float32), (9, np.float32), r"x \[9, 3\] is outside"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(
    engine: Any, x: tuple[int, Any], y: tuple[int, Any] | None, message: str
) -> None:
    inputs = {"x": engine.memory.empty((x[0], 3), x[1])}
    outputs = {} if y is None else {"y": engine.memory.empty((y[0], 3), y[1])}
    with pytest.raises(BackendError, match=message):
        engine.bind(inputs, outputs)


def test_a_bound_launch_that_fails_is_an_error(engine: Any, network: FakeEngine) -> None:
    x, y = (engine.memory.empty((2, 3), np.float32) for _ in "xy")
    launch = engine.bind({"x": x}, {"y": y})
    network.refusing = {"execute"}
    with pytest.raises(BackendError, match=r"refused x float32\[2, 3\].*execution failed"):
        launch()


def test_an_engine_for_another_gpu_says_so(cuda: FakeCuda, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="built for sm_80, this machine has sm_89; run `anon-export build"):
        trt.load(tmp_path / "model.plan", "tensorrt", Placement(gpu="sm_80"))


def test_a_plan_that_is_none_is_refused_with_tensorrts_reason(
    bindings: Any, cuda: FakeCuda, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The real library reads the header of the file without a GPU."""
    (tmp_path / "model.plan").write_bytes(b"plan" * 100)
    with pytest.raises(BackendError, match=r"cannot load it.*[Ss]erialization") as caught:
        trt.load(tmp_path / "model.plan", "tensorrt-rtx", Placement())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_machine_without_a_driver_is_named(tmp_path: Path) -> None:
    """The real CUDA runtime returns an error code here."""
    code, _ = runtime.cudaGetDeviceCount()
    if code == SUCCESS:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match=r"CUDA.*nvidia-smi"):
        load_engine("tensorrt-rtx", tmp_path / "model.plan")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"install `anon-engines\[tensorrt-rtx\]`"):
        trt.import_tensorrt("tensorrt-rtx")
    with pytest.raises(BackendError, match=r"install `anon-engines\[tensorrt\]`"):
        trt.import_tensorrt("tensorrt")
