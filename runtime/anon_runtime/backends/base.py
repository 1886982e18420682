"""Code that all backends share: the choice of backend and device, the check of outputs, and errors."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BackendError, GenerationError, first_line
from ..types import Array, Engine
from .buffers import Buffer

_MODULES = {
    "onnxruntime": ".onnxruntime",
    "cuda": ".onnxruntime",
    "openvino": ".openvino",
    "tensorrt": ".tensorrt",
    "tensorrt-rtx": ".tensorrt",
}
# The devices that the engines of each target can run on. The runtime never replaces a device that the user has chosen.
DEVICES = {
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
    "cuda": ("cuda",),
    "openvino": ("cpu",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt",),
}


LARGE = 2**26  # bytes of weights; an engine with more of them is worth other ways of loading it


@dataclass(frozen=True)
class Placement:
    """The device and the options that an engine is loaded with; see `load_engine` for the attributes."""

    device: str | None = None
    gpu: str | None = None
    threads: int | None = None
    key: str = ""
    precision: str = "fp32"


def load_engine(
    target: str,
    path: Path,
    device: str | None = None,
    gpu: str | None = None,
    threads: int | None = None,
    key: str = "",
    precision: str = "fp32",
) -> Engine:
    """Return an engine, loaded from a file by the backend of a bundle's target.

    Args:
        target: the target of the bundle, such as ``onnxruntime``.
        path: the file of the engine.
        device: one of the target's `DEVICES`; None means the best one that the installed library supports.
        gpu: the GPU architecture that the engine was built for, such as ``sm_89``.
        threads: the number of threads of an engine on the CPU, 1 or more; None leaves the choice to the library. The
            last digits of the results depend on it.
        key: the key of the engine, see `EngineSpec`. Libraries cache what they compile from an engine under its key;
            without a key, they do not cache it.
        precision: the precision of the engine, see `EngineSpec`.

    Raises:
        BackendError: the target is unknown, its library is not installed, the device is not available, or the library
            cannot read the file.
    """
    device = resolve_device(target, device)
    module = importlib.import_module(_MODULES[target], __package__)
    engine: Engine = module.load(path, target, Placement(device, gpu, threads, key, precision))
    return engine


def resolve_device(target: str, device: str | None) -> str:
    """Return the device that the engines of a target are loaded on.

    Args:
        target: the target of the bundle.
        device: the device that the user has chosen; None means the best one on this machine.

    Raises:
        BackendError: the target is unknown, has no such device, or its library is not installed.
    """
    if target not in _MODULES:
        why = f"this runtime has no backend for target {target!r}"
        raise BackendError("the bundle", why, f"build for one of: {', '.join(_MODULES)}")
    if device is not None and device not in DEVICES[target]:
        why = f"engines for {target} run on: {', '.join(DEVICES[target])}"
        raise BackendError(f"device {device}", why, "use that, or build the bundle for another target")
    if target == "onnxruntime" and device is None:
        chosen: str = importlib.import_module(_MODULES[target], __package__).default_device()
        return chosen
    return device or DEVICES[target][0]


def physical_cores() -> int:
    """Return the number of physical cores that this process may use.

    The two hardware threads of a core (SMT) count once, because one thread of arithmetic already keeps a core busy.
    """
    folder = Path("/sys/devices/system/cpu")
    siblings = set()
    for number in os.sched_getaffinity(0):
        try:
            siblings.add((folder / f"cpu{number}" / "topology" / "thread_siblings_list").read_text())
        except OSError:  # some sandboxes have no /sys
            siblings.add(str(number))
    return len(siblings)


def is_large(path: Path) -> bool:
    """Return whether the files of an engine, which begin with the same name, have more than `LARGE` bytes."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}*")) > LARGE


def check_finite(array: Array, engine: str, when: str) -> None:
    """Check that an array holds no NaN and no infinity, which would give a black or broken image.

    Args:
        array: the output of an engine.
        engine: the role of the engine, for the message.
        when: the moment of the call, for the message, such as ``on a photo``.

    Raises:
        GenerationError: the array holds NaN or infinity; the message names the engine and the moment.
    """
    if not np.isfinite(array).all():
        raise not_finite(engine, when)


def not_finite(engine: str, when: str) -> GenerationError:
    """Return the error that a user sees when an engine gave NaN or infinity; see `check_finite` for the arguments."""
    fix = "use fp32 engines, or report the model if it is fp32 already"
    return GenerationError(f"the {engine} engine {when}", "it returned NaN or infinity, so no image is written", fix)


def cache_folder() -> Path:
    """Return the folder for engines and measurements that only this machine can use (XDG base directory rules)."""
    return Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache") / "anon-engines"


def cannot_load(path: Path, library: str, error: Exception | str) -> BackendError:
    """Return the error that a user sees when a library cannot load a file.

    Args:
        path: the file of the engine.
        library: the name of the library.
        error: the library's exception, or the reason as text.
    """
    reason = error if isinstance(error, str) else first_line(error)
    return BackendError(
        str(path), f"{library} cannot load it ({reason})", f"build the bundle again, or update {library}"
    )


def cannot_run(path: Path, library: str, inputs: Mapping[str, Array | Buffer], error: Exception | str) -> BackendError:
    """Return the error that a user sees when a library cannot run an engine with some inputs.

    Args:
        path: the file of the engine.
        library: the name of the library.
        inputs: the inputs of the call, or their buffers; the message names their dtypes and shapes.
        error: the library's exception, or the reason as text.
    """
    reason = error if isinstance(error, str) else first_line(error)
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
    fix = "check that the inputs fit the engine's entry in bundle.json"
    return BackendError(str(path), f"{library} refused {shapes} ({reason})", fix)
