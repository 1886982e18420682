"""Engines of TensorRT, or of TensorRT for RTX, on the first NVIDIA GPU."""

import ctypes
import importlib
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..bundle.manifest import TensorSpec
from ..errors import BackendError
from ..types import Array, Arrays, Engine
from .base import Placement, cannot_load, cannot_run
from .buffers import Buffer, Launch
from .cuda import Cuda, CudaMemory

T = TypeVar("T")
Buffers = Mapping[str, Buffer]

# The wheel that contains the libraries of TensorRT for RTX; once they are loaded, the bindings find them.
RTX_LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"
# The number of input shapes whose buffers and CUDA graphs an engine keeps: a full batch and the smaller last batch,
# each with and without guidance.
KEPT = 4


def import_tensorrt(target: str) -> Any:
    """Return the Python module of a target: ``tensorrt``, or ``tensorrt_rtx_bindings``, which has the same classes.

    Args:
        target: ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        BackendError: the module is not installed.
    """
    name = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}[target]
    try:
        if target == "tensorrt-rtx":
            _load_rtx_libraries()
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        fix = f"install `anon-engines[{target}]`"
        raise BackendError(f"target {target}", f"{name} cannot be imported ({error})", fix) from None


def _load_rtx_libraries() -> None:
    package = find_spec(RTX_LIBRARIES)
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"package {RTX_LIBRARIES} is not installed")
    folder = Path(package.submodule_search_locations[0])
    for pattern in ("libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*"):
        for library in sorted(folder.glob(pattern)):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def listen(trt: Any) -> tuple[Any, deque[str]]:
    """Return a logger for TensorRT, and the queue in which it keeps the latest errors.

    The errors are not printed but become part of our own messages, because TensorRT for RTX reports errors that mean
    nothing when there is no GPU.
    """
    errors: deque[str] = deque(maxlen=2)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append((message.splitlines() or [""])[0])

    return Logger(), errors


class _RefusedError(Exception):
    """TensorRT returned a value that stands for a failure."""


def _require(accepted: Any, what: str) -> None:
    if not accepted:
        raise _RefusedError(what)


class _Launch:
    """One set of buffers on the GPU, an execution context for them, and its CUDA graph.

    A captured graph is valid only as long as its execution context is not changed, so each launch has its own context.

    Args:
        cuda: the CUDA runtime.
        stream: the CUDA stream that everything runs on.
        context: an execution context with working memory, which knows the shapes of the inputs.
        inputs: the buffers of the inputs.
        outputs: the buffers of the outputs.

    Raises:
        _RefusedError: the engine does not take the buffers.
    """

    def __init__(self, cuda: Cuda, stream: Any, context: Any, inputs: Buffers, outputs: Buffers) -> None:
        self._cuda, self._stream, self._context = cuda, stream, context
        self.inputs, self.outputs = inputs, outputs
        self._held = ExitStack()
        _close_with(self, self._held)
        self._runs, self._graph = 0, None
        for name, buffer in {**inputs, **outputs}.items():
            _require(context.set_tensor_address(name, buffer.address), f"it does not take a buffer for {name}")

    def __call__(self) -> None:
        """Run the network once, and wait until it has finished."""
        self._run()
        self._cuda("StreamSynchronize", self._stream)

    def _run(self) -> None:
        """Start a run of the network.

        The first run is executed call by call, because the context does some initialization only then. The second run
        is captured as a CUDA graph, which it and all later runs launch.
        """
        if self._runs == 1:
            self._graph = self._capture()
        if self._graph is None:
            _require(self._execute(), "execution failed")
        else:
            self._cuda("GraphLaunch", self._graph, self._stream)
        self._runs += 1

    def _capture(self) -> Any:
        """Capture one run as a CUDA graph without executing it; return None if the network cannot be captured.

        A network with control flow, for example, cannot be captured.
        """
        api, capturable = self._cuda.api, getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(int(self._stream)):
            return None
        with ExitStack() as used:
            try:
                self._cuda("StreamBeginCapture", self._stream, api.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed)
                try:
                    recorded = self._execute()
                finally:  # a stream whose capture is not ended cannot be used any more
                    graph = self._cuda("StreamEndCapture", self._stream)
                    used.callback(api.cudaGraphDestroy, graph)
                executable = self._cuda("GraphInstantiate", graph, 0) if recorded else None
            except BackendError:
                api.cudaGetLastError()  # clears the error, which TensorRT would otherwise report as its own
                return None
        if executable is not None:
            self._held.callback(api.cudaGraphExecDestroy, executable)
        return executable

    def _execute(self) -> bool:
        return bool(self._context.execute_async_v3(int(self._stream)))


def _close_with(owner: object, held: ExitStack) -> None:
    """Release resources on the GPU when their owner is collected; at the end of a process, CUDA releases them all."""
    weakref.finalize(owner, held.close).atexit = False


class _TensorRtEngine:
    """An engine with one stream and one block of working memory; see `BoundEngine`.

    It keeps a `_Launch` for each of the latest input shapes whose arrays come from the memory of the processor.
    """

    def __init__(self, path: Path, trt: Any, cuda: Cuda) -> None:
        self._path, self._cuda, self._trt = path, cuda, trt
        logger, self._errors = listen(trt)
        # The runtime must not be freed before its engine.
        self._runtime = trt.Runtime(logger)
        self._engine = engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise cannot_load(path, trt.__name__, self._with_errors(f"version {trt.__version__} did not accept it"))
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        tensors = {name: self._describe(name) for name in names}
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._inputs = {name: np.dtype(tensors[name].dtype) for name in inputs}
        self.outputs = {name: tensor for name, tensor in tensors.items() if name not in inputs}
        self._launches: dict[tuple[tuple[int, ...], ...], _Launch] = {}
        held = ExitStack()
        _close_with(self, held)
        # This stream does not synchronize with the default stream. Other libraries use that one, and would break a
        # capture.
        self._stream = cuda("StreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)
        held.callback(cuda.api.cudaStreamDestroy, self._stream)
        self.memory = CudaMemory(cuda, self._stream)
        # All launches share this working memory, because they run one after the other. It is the largest part of the
        # memory that an engine needs.
        self._working = self.memory.empty((max(engine.device_memory_size_v2, 1),), np.uint8)
        held.callback(self._launches.clear)

    def _describe(self, name: str) -> TensorSpec:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))).name
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorSpec(name, dtype, tuple("free" if size < 0 else size for size in shape))

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        self._errors.clear()
        try:
            self._check_names(inputs)
            arrays = {name: np.asarray(inputs[name], dtype, order="C") for name, dtype in self._inputs.items()}
            shapes = tuple(array.shape for array in arrays.values())
            launch = self._launches.pop(shapes, None) or self._new_launch(arrays)
            for name, array in arrays.items():
                self.memory.write(launch.inputs[name], array)
            launch()
            results = {name: self.memory.read(buffer) for name, buffer in launch.outputs.items()}
        except _RefusedError as refused:
            raise cannot_run(self._path, self._trt.__name__, inputs, self._with_errors(str(refused))) from None
        self._launches[shapes] = launch  # the latest launch comes last; a launch that failed is not kept
        return results

    def bind(self, inputs: Buffers, outputs: Buffers) -> Launch:
        """See `BoundEngine.bind`."""

        def guarded(call: Callable[[], T]) -> T:
            self._errors.clear()
            try:
                return call()
            except _RefusedError as refused:
                raise cannot_run(self._path, self._trt.__name__, inputs, self._with_errors(str(refused))) from None

        launch = guarded(lambda: self._bind(inputs, outputs))
        return lambda: guarded(launch)

    def _bind(self, inputs: Buffers, outputs: Buffers) -> _Launch:
        self._check_names(inputs)
        for name, dtype in self._inputs.items():
            _require(inputs[name].dtype == dtype, f"it takes {name} as {dtype}")
        context = self._context(inputs)
        for name, tensor in self.outputs.items():
            # TensorRT writes an output of any size to the address that it is given.
            _require(name in outputs, f"output {name} has no buffer")
            wanted = (tuple(context.get_tensor_shape(name)), np.dtype(tensor.dtype))
            fits = (outputs[name].shape, outputs[name].dtype) == wanted
            _require(fits, f"its output {name} is {wanted[1]}{list(wanted[0])}")
        return _Launch(self._cuda, self._stream, context, inputs, outputs)

    def _check_names(self, inputs: Mapping[str, object]) -> None:
        _require(inputs.keys() == self._inputs.keys(), f"its inputs are {', '.join(self._inputs)}")

    def _new_launch(self, arrays: Arrays) -> _Launch:
        """Return a launch for new shapes; if too many are kept, the least recently used one is removed."""
        while len(self._launches) >= KEPT:
            del self._launches[next(iter(self._launches))]
        context = self._context(arrays)
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}
        for name, shape in shapes.items():
            _require(min(shape, default=0) >= 0, f"output {name} has no size that follows from the inputs")
        inputs = {name: self.memory.empty(array.shape, array.dtype) for name, array in arrays.items()}
        outputs = {name: self.memory.empty(shapes[name], tensor.dtype) for name, tensor in self.outputs.items()}
        return _Launch(self._cuda, self._stream, context, inputs, outputs)

    def _context(self, inputs: Mapping[str, Array | Buffer]) -> Any:
        """Return a new execution context with working memory for inputs of these shapes."""
        self._check_profile(inputs)
        context = self._new_context()
        _require(context, "it makes no execution context")
        context.set_device_memory(self._working.address, self._working.shape[0])
        for name, array in inputs.items():
            _require(context.set_input_shape(name, array.shape), f"it does not take {name} {list(array.shape)}")
        return context

    def _new_context(self) -> Any:
        managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        kinds = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kinds is None:
            return self._engine.create_execution_context(managed)
        # TensorRT for RTX compiles kernels for each new shape. By default it uses slower kernels until this is done,
        # and a captured graph would keep the slower ones.
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
        return self._engine.create_execution_context(config)

    def _check_profile(self, inputs: Mapping[str, Array | Buffer]) -> None:
        for name, array in inputs.items():
            if -1 not in tuple(self._engine.get_tensor_shape(name)):
                continue  # an input without free dimensions has no profile
            low, _, high = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
            shape = array.shape
            fits = len(low) == len(shape) and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))
            if not fits:
                why = f"{name} {list(shape)} is outside of {list(low)} to {list(high)}, which it was built for"
                fix = "use another `batch_size`, or build again with larger ranges"
                raise BackendError(str(self._path), why, fix)

    def _with_errors(self, what: str) -> str:
        return ": ".join([what, *self._errors])


def load(path: Path, target: str, placement: Placement) -> Engine:
    """Return an engine, loaded from a TensorRT plan; see `load_engine`.

    Raises:
        BackendError: there is no GPU, or the plan was built for another GPU architecture or another version of
            TensorRT.
    """
    cuda = Cuda()
    here = cuda.architecture()
    if placement.gpu not in (None, here):
        fix = f"run `anon-export build ... --target {target}` on this machine"
        raise BackendError(str(path), f"built for {placement.gpu}, this machine has {here}", fix)
    return _TensorRtEngine(path, import_tensorrt(target), cuda)
