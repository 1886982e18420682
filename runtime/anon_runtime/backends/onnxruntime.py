"""ONNX graphs on onnxruntime: on the CPU, or through its CUDA or TensorRT provider."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError, first_line
from ..types import Array, Arrays, Engine
from .base import Placement, cache_folder, cannot_load, cannot_run

# onnxruntime's builds (1.32 for Linux does) tell Microsoft what they run on what, with a number that is kept for the
# machine, from the moment that they are imported. Whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


# Bytes of weights up to which they are copied into layouts of the processor's when an engine is loaded. For a small
# network that takes a moment, and calls of the demo's a sixth to a quarter less time. For Stable Diffusion's UNet it
# takes ten times as long as loading it and gains less than Winograd's form does; the copies are no pages that processes
# share.
SMALL = 2**26


def session_arguments(path: Path, threads: int | None = None) -> dict[str, Any]:
    """What ``onnxruntime.InferenceSession`` is given for an engine, beside its providers."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0  # 0 is one for each core
    # With free shapes, a plan of the memory is kept beside the memory itself: half a gigabyte more for the UNet.
    options.enable_mem_pattern = False
    # Every engine has threads of its own. Those that wait for work in a loop take the cores from the engine at work:
    # with two cores, a folder took a third longer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    small = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) <= SMALL
    if not small:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return {"sess_options": options, "disabled_optimizers": [] if small else ["NchwcTransformer"]}


class _OrtEngine:
    def __init__(self, path: Path, placement: Placement) -> None:
        self._ort = import_onnxruntime()
        device = placement.device or default_device()
        if PROVIDERS[device] not in self._ort.get_available_providers():
            fix = "install `anon-engines[gpu]` in place of `anon-engines[cpu]`, or use `device` cpu"
            raise BackendError(f"device {device}", f"this onnxruntime has no {PROVIDERS[device]}", fix)
        self._path, self.session = path, _start(path, device, placement)
        self.memory = None if device == "cpu" else "cuda"
        self._outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            results = self._run_bound(inputs) if self.memory else self.session.run(self._outputs, dict(inputs))
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise cannot_run(self._path, "onnxruntime", inputs, error) from None
        return dict(zip(self._outputs, results, strict=True))

    def _run_bound(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Inputs are copied to the device once, and outputs are made there: no copy back and forth inside the graph."""
        binding = self.session.io_binding()
        for name, array in inputs.items():
            value = self._ort.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), self.memory, 0)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self.memory)
        self.session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()]


def default_device() -> str:
    """The best one that the installed onnxruntime was made for."""
    return "cuda" if PROVIDERS["cuda"] in import_onnxruntime().get_available_providers() else "cpu"


def import_onnxruntime() -> Any:
    """The package.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        fix = "install exactly one of `anon-engines[cpu]` and `anon-engines[gpu]`"
        raise BackendError("target onnxruntime", f"onnxruntime cannot be imported ({error})", fix) from None
    return onnxruntime


def _start(path: Path, device: str, placement: Placement) -> Any:
    """A session on a device, and on no other.

    Raises:
        BackendError: onnxruntime cannot read the file, or lacks what the device needs.
    """
    if device == "tensorrt":
        # TensorRT rounds fp32 to TF32's 10 bits, and has no option against it inside onnxruntime, only this variable,
        # which it reads when the first session starts. A user's own choice stays.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    missing = {"cuda": "CUDA and cuDNN", "tensorrt": "CUDA, cuDNN and TensorRT"}.get(device)
    fix = f"check the driver with `nvidia-smi` and that {missing} are installed, or use `device` cpu"
    try:
        # Otherwise onnxruntime tells of a provider that fails on standard output, and takes the next one.
        session = import_onnxruntime().InferenceSession(
            str(path), providers=_providers(device, placement.key), enable_fallback=0,
            **session_arguments(path, placement.threads),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        if missing is None:
            raise cannot_load(path, "onnxruntime", error) from None
        raise BackendError(f"{path} on device {device}", first_line(error), f"{fix}, or build it again") from None
    # Without a driver or a library, onnxruntime may also log a line and go on without the provider.
    if (got := session.get_providers())[0] != PROVIDERS[device]:
        raise BackendError(f"device {device}", f"onnxruntime fell back to {got[0]}", fix)
    return session


def _providers(device: str, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Providers with their options; fp32 engines stay fp32, without TF32's 10 bits."""
    cpu: tuple[str, dict[str, Any]] = (PROVIDERS["cpu"], {})
    cuda: tuple[str, dict[str, Any]] = (PROVIDERS["cuda"], {"use_tf32": "0"})
    if device == "cpu":
        return [cpu]
    if device == "cuda":
        return [cuda, cpu]
    cache = cache_folder() / "onnxruntime"
    cache.mkdir(parents=True, exist_ok=True)  # onnxruntime makes the last folder only
    kept = {"trt_timing_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    if key:  # onnxruntime knows engines by their graphs alone: those of other weights would be taken
        kept |= {"trt_engine_cache_enable": "1", "trt_engine_cache_prefix": key}
    return [(PROVIDERS["tensorrt"], kept), cuda, cpu]


def load(path: Path, _target: str, placement: Placement) -> Engine:
    """Load an ONNX file into onnxruntime; see `load_engine`."""
    return _OrtEngine(path, placement)
