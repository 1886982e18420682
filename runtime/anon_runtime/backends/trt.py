"""TensorRT engines, of TensorRT itself or of TensorRT for RTX, on the first NVIDIA GPU."""

import ctypes
import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Arrays, Engine, cannot_load, cannot_run

# The wheel that carries TensorRT for RTX's libraries; the bindings find them once they are loaded.
RTX_LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"


def import_tensorrt(target: str) -> Any:
    """The Python module of a target: ``tensorrt`` or, with the same classes, ``tensorrt_rtx_bindings``.

    Raises:
        BackendError: it is not installed.
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


class Cuda:
    """The few calls of CUDA's runtime that engines need; an error code becomes a `BackendError`."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:
            fix = "install `anon-engines[tensorrt]` or `anon-engines[tensorrt-rtx]`"
            raise BackendError("CUDA", "package cuda-bindings is not installed", fix) from None
        self.api: Any = runtime

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call ``cudaNAME``; returns its one result, or None."""
        code, *results = getattr(self.api, f"cuda{name}")(*arguments)
        if code != self.api.cudaError_t.cudaSuccess:
            reason = self.api.cudaGetErrorString(code)[1].decode()
            fix = "check the driver with `nvidia-smi`, or use a bundle for another target"
            raise BackendError(f"CUDA's {name}", reason, fix)
        return results[0] if results else None

    def architecture(self) -> str:
        """Of the first GPU, such as ``sm_89``."""
        kinds = self.api.cudaDeviceAttr
        major = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, 0)
        return f"sm_{major}{minor}"


class _TensorRtEngine:
    """Device buffers and a CUDA graph that live as long as the inputs keep their shapes."""

    def __init__(self, path: Path, trt: Any, cuda: Cuda) -> None:
        self._path, self._cuda, self._trt = path, cuda, trt
        # The runtime has to outlive its engine.
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise cannot_load(path, trt.__name__, f"version {trt.__version__} did not accept the plan")
        self._context = self._engine.create_execution_context()
        self._stream = cuda("StreamCreate")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = {n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self._inputs, self._outputs = [n for n in names if n in inputs], [n for n in names if n not in inputs]
        self._buffers: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._results: Arrays = {}
        self._runs, self._graph = 0, None

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> Arrays:
        arrays = {name: np.asarray(inputs[name], self._dtype(name), order="C") for name in self._inputs}
        shapes = {name: array.shape for name, array in arrays.items()}
        if shapes != self._shapes:
            self._check_profile(arrays)
            self._resize(arrays)
            self._shapes = shapes
        kinds = self._cuda.api.cudaMemcpyKind
        for name, array in arrays.items():
            self._copy(self._buffers[name], array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
        self._launch()
        for name, array in self._results.items():
            self._copy(array.ctypes.data, self._buffers[name], array.nbytes, kinds.cudaMemcpyDeviceToHost)
        self._cuda("StreamSynchronize", self._stream)
        return {name: array.copy() for name, array in self._results.items()}

    def _dtype(self, name: str) -> Any:
        return self._trt.nptype(self._engine.get_tensor_dtype(name))

    def _check_profile(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            low, _, high = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
            fits = len(low) == array.ndim and all(a <= n <= b for a, n, b in zip(low, array.shape, high, strict=True))
            if not fits:
                why = f"{name} {list(array.shape)} is outside of {list(low)} to {list(high)}, which it was built for"
                fix = "use another --batch-size, or build again with larger ranges"
                raise BackendError(str(self._path), why, fix)

    def _resize(self, arrays: Arrays) -> None:
        """New buffers for new shapes; what was captured with the old ones is dropped."""
        self.close()
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
        self._results = {
            name: np.empty(tuple(self._context.get_tensor_shape(name)), self._dtype(name)) for name in self._outputs
        }
        for name, array in {**arrays, **self._results}.items():
            self._buffers[name] = int(self._cuda("Malloc", max(array.nbytes, 1)))
            self._context.set_tensor_address(name, self._buffers[name])

    def _launch(self) -> None:
        """The first run of a shape goes call by call, the second one is captured, the others replay it."""
        if self._graph is None and self._runs > 0:
            relaxed = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
            self._cuda("StreamBeginCapture", self._stream, relaxed)
            self._execute()
            captured = self._cuda("StreamEndCapture", self._stream)
            self._graph = self._cuda("GraphInstantiate", captured, 0)
            self._cuda("GraphDestroy", captured)
        if self._graph is None:
            self._execute()
        else:
            self._cuda("GraphLaunch", self._graph, self._stream)
        self._runs += 1

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise cannot_run(self._path, self._trt.__name__, self._results, "execution failed")

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._cuda("MemcpyAsync", to, source, size, kind, self._stream)

    def close(self) -> None:
        """Free the buffers and the captured graph."""
        if self._graph is not None:
            self._cuda("GraphExecDestroy", self._graph)
        for address in self._buffers.values():
            self._cuda("Free", address)
        self._buffers, self._graph, self._runs, self._shapes = {}, None, 0, {}


def load(path: Path, target: str, _device: str | None, gpu: str | None, _threads: int | None = None) -> Engine:
    """Load a TensorRT plan.

    Raises:
        BackendError: there is no GPU, or the plan was built for another kind or another version of TensorRT.
    """
    cuda = Cuda()
    here = cuda.architecture()
    if gpu is not None and gpu != here:
        fix = f"run `anon-export build ... --target {target}` on this machine"
        raise BackendError(str(path), f"built for {gpu}, this machine has {here}", fix)
    return _TensorRtEngine(path, import_tensorrt(target), cuda)
