"""Engines of ONNX graphs in onnxruntime, on the CPU or on a GPU through its CUDA or TensorRT provider."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError, first_line
from ..types import Array, Arrays, Engine
from .base import Placement, cache_folder, cannot_load, cannot_run, is_large

# Some builds of onnxruntime (for example 1.32 for Linux) send usage data to Microsoft as soon as they are imported,
# with a number that identifies the machine. This line turns that off. A user who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# What a user without a GPU can do, by target.
OTHERWISE = {"onnxruntime": "use `device` cpu", "cuda": "use a bundle for processors"}


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


class _OrtEngine:
    def __init__(self, path: Path, target: str, placement: Placement) -> None:
        self._ort = import_onnxruntime()
        device = placement.device or default_device()
        if PROVIDERS[device] not in self._ort.get_available_providers():
            fix = f"install `anon-engines[gpu]` in place of `anon-engines[cpu]`, or {OTHERWISE[target]}"
            raise BackendError(f"device {device}", f"this onnxruntime has no {PROVIDERS[device]}", fix)
        self._path, self.session = path, _start(path, target, device, placement)
        self.memory = None if device == "cpu" else "cuda"
        self._outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            results = self._run_bound(inputs) if self.memory else self.session.run(self._outputs, dict(inputs))
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise cannot_run(self._path, "onnxruntime", inputs, error) from None
        return dict(zip(self._outputs, results, strict=True))

    def _run_bound(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Run the session with its inputs and outputs bound to the GPU.

        The inputs are copied to the GPU once and the outputs are allocated there, so that no copy happens inside the
        graph.
        """
        binding = self.session.io_binding()
        for name, array in inputs.items():
            value = self._ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), self.memory, 0)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self.memory)
        self.session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()]


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


def _start(path: Path, target: str, device: str, placement: Placement) -> Any:
    """Return a session on the given device; onnxruntime must not replace the device by another one.

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
            str(path), providers=_providers(device, placement.key), enable_fallback=0,
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


def _providers(device: str, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the providers with their options; TF32 is off, so that fp32 engines keep their precision."""
    cpu: tuple[str, dict[str, Any]] = (PROVIDERS["cpu"], {})
    cuda: tuple[str, dict[str, Any]] = (PROVIDERS["cuda"], {"use_tf32": "0"})
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
