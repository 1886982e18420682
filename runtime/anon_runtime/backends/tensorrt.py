"""Engines of TensorRT, or of TensorRT for RTX, on the first NVIDIA GPU."""

import ctypes
import importlib
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError
from ..types import Array, Arrays, Engine
from .base import Placement, cannot_load, cannot_run
from .cuda import Cuda

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
    """The resources for one set of input shapes: buffers on the GPU, an execution context, and its CUDA graph.

    A captured graph is valid only as long as its execution context is not changed, so each launch has its own context.

    Args:
        cuda: the CUDA runtime.
        stream: the CUDA stream that everything runs on.
        context: a new execution context with working memory.
        inputs: arrays of these shapes.
        outputs: the dtypes of the outputs by name.

    Raises:
        _RefusedError: the engine was built for other shapes.
        BackendError: the GPU has not enough memory.
    """

    def __init__(self, cuda: Cuda, stream: Any, context: Any, inputs: Arrays, outputs: Mapping[str, Any]) -> None:
        self._cuda, self._stream, self._context = cuda, stream, context
        self._held = ExitStack()
        _close_with(self, self._held)
        self._runs, self._graph = 0, None
        for name, array in inputs.items():
            _require(context.set_input_shape(name, array.shape), f"it does not take {name} {list(array.shape)}")
        self._outputs = {name: (tuple(context.get_tensor_shape(name)), dtype) for name, dtype in outputs.items()}
        for name, (shape, _) in self._outputs.items():
            _require(min(shape, default=0) >= 0, f"output {name} has no size that follows from the inputs")
        self._buffers = {name: self._bind(name, array) for name, array in {**inputs, **self._results()}.items()}

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run the network on inputs of these shapes."""
        results, kinds = self._results(), self._cuda.api.cudaMemcpyKind
        for name, array in inputs.items():
            self._copy(self._buffers[name], array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
        self._run()
        for name, array in results.items():
            self._copy(array.ctypes.data, self._buffers[name], array.nbytes, kinds.cudaMemcpyDeviceToHost)
        self._cuda("StreamSynchronize", self._stream)
        return results

    def _results(self) -> Arrays:
        return {name: np.empty(shape, dtype) for name, (shape, dtype) in self._outputs.items()}

    def _bind(self, name: str, array: Array) -> int:
        """Allocate a buffer for an array, bind it to the input or output of that name, and return its address."""
        address = int(self._cuda("Malloc", max(array.nbytes, 1)))
        self._held.callback(self._cuda.api.cudaFree, address)
        _require(self._context.set_tensor_address(name, address), f"it does not take a buffer for {name}")
        return address

    def _run(self) -> None:
        """Run the network once.

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

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._cuda("MemcpyAsync", to, source, size, kind, self._stream)


def _close_with(owner: object, held: ExitStack) -> None:
    """Release resources on the GPU when their owner is collected; at the end of a process, CUDA releases them all."""
    weakref.finalize(owner, held.close).atexit = False


class _TensorRtEngine:
    """An engine with one stream, one block of working memory, and a `_Launch` for each of the latest input shapes."""

    def __init__(self, path: Path, trt: Any, cuda: Cuda) -> None:
        self._path, self._cuda, self._trt = path, cuda, trt
        logger, self._errors = listen(trt)
        # The runtime must not be freed before its engine.
        self._runtime = trt.Runtime(logger)
        self._engine = engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise cannot_load(path, trt.__name__, self._with_errors(f"version {trt.__version__} did not accept it"))
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        dtypes = {name: trt.nptype(engine.get_tensor_dtype(name)) for name in names}
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._inputs = {name: dtypes[name] for name in inputs}
        self._outputs = {name: dtype for name, dtype in dtypes.items() if name not in inputs}
        self._launches: dict[tuple[tuple[int, ...], ...], _Launch] = {}
        held = ExitStack()
        _close_with(self, held)
        # This stream does not synchronize with the default stream. Other libraries use that one, and would break a
        # capture.
        self._stream = cuda("StreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)
        held.callback(cuda.api.cudaStreamDestroy, self._stream)
        # All launches share this working memory, because they run one after the other. It is the largest part of the
        # memory that an engine needs.
        self._size = max(engine.device_memory_size_v2, 1)
        self._memory = int(cuda("Malloc", self._size))
        held.callback(cuda.api.cudaFree, self._memory)
        held.callback(self._launches.clear)

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        self._errors.clear()
        try:
            _require(inputs.keys() == self._inputs.keys(), f"its inputs are {', '.join(self._inputs)}")
            arrays = {name: np.asarray(inputs[name], dtype, order="C") for name, dtype in self._inputs.items()}
            shapes = tuple(array.shape for array in arrays.values())
            launch = self._launches.pop(shapes, None) or self._new_launch(arrays)
            results = launch(arrays)
        except _RefusedError as refused:
            raise cannot_run(self._path, self._trt.__name__, inputs, self._with_errors(str(refused))) from None
        self._launches[shapes] = launch  # the latest launch comes last; a launch that failed is not kept
        return results

    def _new_launch(self, arrays: Arrays) -> _Launch:
        """Return a launch for new shapes; if too many are kept, the least recently used one is removed."""
        self._check_profile(arrays)
        while len(self._launches) >= KEPT:
            del self._launches[next(iter(self._launches))]
        context = self._new_context()
        _require(context, "it makes no execution context")
        context.set_device_memory(self._memory, self._size)
        return _Launch(self._cuda, self._stream, context, arrays, self._outputs)

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

    def _check_profile(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if -1 not in tuple(self._engine.get_tensor_shape(name)):
                continue  # an input without free dimensions has no profile
            low, _, high = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
            fits = len(low) == array.ndim and all(a <= n <= b for a, n, b in zip(low, array.shape, high, strict=True))
            if not fits:
                why = f"{name} {list(array.shape)} is outside of {list(low)} to {list(high)}, which it was built for"
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
