"""Engines of ONNX graphs in onnxruntime, on the CPU or on a GPU through its CUDA or TensorRT provider."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.manifest import TensorSpec
from ..errors import BackendError, first_line
from ..types import Array, Arrays, Engine
from .base import Placement, cache_folder, cannot_load, cannot_run, is_large
from .buffers import Buffer, Launch

# Some builds of onnxruntime (for example 1.32 for Linux) send usage data to Microsoft as soon as they are imported,
# with a number that identifies the machine. This line turns that off. A user who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# What a user without a GPU can do, by target.
OTHERWISE = {"onnxruntime": "use `device` cpu", "cuda": "use a bundle for processors"}
# onnxruntime's names for the dtypes of outputs that numpy calls otherwise.
DTYPES = {"float": "float32", "double": "float64"}
# The number of CUDA graphs that an engine captures. onnxruntime keeps each of them as long as the engine lives, so that
# engines which are asked for ever new shapes run without graphs in the end.
MOST_GRAPHS = 32
NO_GRAPH = "-1"  # onnxruntime's number for a run that is neither captured nor replayed
# While one thread captures a CUDA graph, CUDA refuses copies and allocations of all others.
_one_at_a_time = threading.RLock()


def session_arguments(path: Path, threads: int | None = None) -> dict[str, Any]:
    """Return the arguments of ``onnxruntime.InferenceSession`` for an engine, except its providers.

    Args:
        path: the file of the engine; files beside it whose names begin with its name hold weights.
        threads: the number of threads; None means one for each core.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0  # 0 means one for each core
    # Memory patterns do not help engines with free shapes: onnxruntime keeps the memory of a pattern in addition to the
    # memory that it uses, half a gigabyte more for the UNet.
    options.enable_mem_pattern = False
    # Every engine has its own threads. If idle threads wait in a loop (spin), they take the cores from the engine that
    # is running: with spinning on two cores, a folder took a third longer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An engine that is not large is loaded with prepacking and the NCHWc transformation: onnxruntime copies its weights
    # into layouts that suit the processor. This takes a moment for a small network, and calls of the demo's networks
    # then take a sixth to a quarter less time. For the UNet of Stable Diffusion, it takes ten times as long as loading
    # without it and gains less than the Winograd form does; besides, processes cannot share the memory pages of the
    # copies.
    large = is_large(path)
    if large:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return {"sess_options": options, "disabled_optimizers": ["NchwcTransformer"] if large else []}


class OrtMemory:
    """The memory of a device, as onnxruntime manages it; see `Memory`.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._values = import_onnxruntime().OrtValue

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """See `Memory.empty`."""
        kind = np.dtype(dtype)
        with _one_at_a_time:
            try:
                value = self._values.ortvalue_from_shape_and_type(list(shape), kind.type, self.device, 0)
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
                what = f"{kind} {list(shape)} on device {self.device}"
                fix = "use a smaller `batch_size`, or a GPU with more memory that is free"
                raise BackendError(what, first_line(error), fix) from None
        return Buffer(value.data_ptr(), shape, kind, value)

    def write(self, buffer: Buffer, array: Array) -> None:
        """See `Memory.write`."""
        owner: Any = buffer.owner
        with _one_at_a_time:
            owner.update_inplace(np.asarray(array, buffer.dtype, order="C"))

    def read(self, buffer: Buffer) -> Array:
        """See `Memory.read`."""
        owner: Any = buffer.owner
        with _one_at_a_time:
            array: Array = np.array(owner.numpy())  # the memory of a processor would be shared
        return array


class _OrtEngine:
    """An engine as a session of onnxruntime; see `BoundEngine`."""

    def __init__(self, path: Path, target: str, placement: Placement) -> None:
        self._ort = import_onnxruntime()
        device = placement.device or default_device()
        if PROVIDERS[device] not in self._ort.get_available_providers():
            fix = f"install `anon-engines[gpu]` in place of `anon-engines[cpu]`, or {OTHERWISE[target]}"
            raise BackendError(f"device {device}", f"this onnxruntime has no {PROVIDERS[device]}", fix)
        self._path, self._graphs = path, 0
        captured = _start_with_graphs(path, placement) if target == "cuda" else None
        self._most_graphs = 0 if captured is None else MOST_GRAPHS
        self.session = captured or _start(path, target, device, placement)
        self.memory = OrtMemory("cpu" if device == "cpu" else "cuda")
        self.outputs = {output.name: _describe(output) for output in self.session.get_outputs()}

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        names = list(self.outputs)
        if self.memory.device == "cpu":
            results = self._guarded(inputs, lambda: self.session.run(names, dict(inputs)))
        else:
            with _one_at_a_time:
                results = self._guarded(inputs, lambda: self._run_copied(inputs))
        return dict(zip(names, results, strict=True))

    def _run_copied(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Run the session with its inputs and outputs on the GPU.

        The inputs are copied to the GPU once and the outputs are allocated there, so that no copy happens inside the
        graph.
        """
        binding = self.session.io_binding()
        for name, array in inputs.items():
            value = self._ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), self.memory.device, 0)
            binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, self.memory.device)
        self.session.run_with_iobinding(binding, self._run_options(NO_GRAPH))
        return [value.numpy() for value in binding.get_outputs()]

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Launch:
        """See `BoundEngine.bind`."""
        device, binding = self.memory.device, self.session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_input(name, device, 0, buffer.dtype.type, buffer.shape, buffer.address)
        for name, buffer in outputs.items():
            binding.bind_output(name, device, 0, buffer.dtype.type, buffer.shape, buffer.address)
        plain, used = self._run_options(NO_GRAPH), (inputs, outputs)  # `used` keeps the memory
        options = plain
        if self._graphs < self._most_graphs:
            self._graphs += 1
            options = self._run_options(str(self._graphs))

        def launch() -> None:
            nonlocal options
            with _one_at_a_time:
                try:
                    self.session.run_with_iobinding(binding, options)
                except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class
                    options = plain  # the reason may be that the graph cannot be captured
                    self._guarded(used[0], lambda: self.session.run_with_iobinding(binding, plain))

        return launch

    def _run_options(self, graph: str) -> Any:
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        return options

    def _guarded(self, inputs: Mapping[str, Array | Buffer], run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise cannot_run(self._path, "onnxruntime", inputs, error) from None


def _describe(output: Any) -> TensorSpec:
    """Return the description of an output, whose type onnxruntime calls for example ``tensor(float16)``."""
    kind = output.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(output.name, DTYPES.get(kind, kind), tuple(output.shape))


def default_device() -> str:
    """Return the best device that the installed onnxruntime supports: ``cuda`` or else ``cpu``.

    Raises:
        BackendError: onnxruntime is not installed.
    """
    return "cuda" if PROVIDERS["cuda"] in import_onnxruntime().get_available_providers() else "cpu"


def import_onnxruntime() -> Any:
    """Return the module ``onnxruntime``.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        fix = "install exactly one of `anon-engines[cpu]` and `anon-engines[gpu]`"
        raise BackendError("target onnxruntime", f"onnxruntime cannot be imported ({error})", fix) from None
    return onnxruntime


def _start_with_graphs(path: Path, placement: Placement) -> Any:
    """Return a session on the GPU that captures CUDA graphs; None if onnxruntime cannot capture this graph.

    It refuses graphs with an operator that runs on the processor, such as the one that finds the end of a prompt.
    """
    try:
        return _start(path, "cuda", "cuda", placement, graphs=True)
    except BackendError:
        return None


def _start(path: Path, target: str, device: str, placement: Placement, *, graphs: bool = False) -> Any:
    """Return a session on the given device; onnxruntime must not replace the device by another one.

    Args:
        path: the file of the engine.
        target: the target of the bundle.
        device: ``cpu``, ``cuda`` or ``tensorrt``.
        placement: the threads and the key of the engine.
        graphs: whether runs can be captured as CUDA graphs.

    Raises:
        BackendError: onnxruntime cannot read the file, or a library that the device needs is missing.
    """
    if device == "tensorrt":
        # TensorRT would round fp32 to TF32 (a mantissa of 10 bits). Inside onnxruntime, only this variable turns that
        # off; it is read when the first session starts. A value that the user has set stays.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    missing = {"cuda": "CUDA and cuDNN", "tensorrt": "CUDA, cuDNN and TensorRT"}.get(device)
    fix = f"check the driver with `nvidia-smi` and that {missing} are installed, or {OTHERWISE[target]}"
    try:
        # With fallback, onnxruntime would print the failure of a provider on standard output and use the next provider.
        session = import_onnxruntime().InferenceSession(
            str(path), providers=_providers(device, placement.key, graphs), enable_fallback=0,
            **session_arguments(path, placement.threads),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        if missing is None:
            raise cannot_load(path, "onnxruntime", error) from None
        raise BackendError(f"{path} on device {device}", first_line(error), f"{fix}, or build it again") from None
    # If a driver or a library is missing, onnxruntime may log a line and continue without the provider.
    if (got := session.get_providers())[0] != PROVIDERS[device]:
        raise BackendError(f"device {device}", f"onnxruntime fell back to {got[0]}", fix)
    return session


def _providers(device: str, key: str, graphs: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the providers with their options; TF32 is off, so that fp32 engines keep their precision."""
    cpu: tuple[str, dict[str, Any]] = (PROVIDERS["cpu"], {})
    cuda: tuple[str, dict[str, Any]] = (PROVIDERS["cuda"], {"use_tf32": "0", "enable_cuda_graph": str(int(graphs))})
    if device == "cpu":
        return [cpu]
    if device == "cuda":
        return [cuda, cpu]
    cache = cache_folder() / "onnxruntime"
    cache.mkdir(parents=True, exist_ok=True)  # onnxruntime itself creates only the last folder of the path
    kept = {"trt_timing_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    if key:  # without it, onnxruntime would also reuse a cached engine of the same graph with other weights
        kept |= {"trt_engine_cache_enable": "1", "trt_engine_cache_prefix": key}
    return [(PROVIDERS["tensorrt"], kept), cuda, cpu]


def load(path: Path, target: str, placement: Placement) -> Engine:
    """Return an engine, loaded from an ONNX file; see `load_engine`."""
    return _OrtEngine(path, target, placement)
