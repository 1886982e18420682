"""What all backends have in common: which one loads an engine, on which device, and how their refusals are told."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BackendError, GenerationError, first_line
from ..types import Array, Engine

_MODULES = {
    "onnxruntime": ".onnxruntime",
    "openvino": ".openvino",
    "tensorrt": ".tensorrt",
    "tensorrt-rtx": ".tensorrt",
}
# What the engines of each target can run on; None of them is ever replaced by another one without a word.
DEVICES = {
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
    "openvino": ("cpu",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt",),
}


@dataclass(frozen=True)
class Placement:
    """Where and how an engine runs, see `load_engine`."""

    device: str | None = None
    gpu: str | None = None
    threads: int | None = None
    key: str = ""


def load_engine(
    target: str,
    path: Path,
    device: str | None = None,
    gpu: str | None = None,
    threads: int | None = None,
    key: str = "",
) -> Engine:
    """Load one engine file with the backend of a bundle's target.

    Args:
        target: of the bundle.
        path: of the engine.
        device: one of the target's `DEVICES`; None is the best one that the installed library was made for.
        gpu: the architecture that the engine was built for, such as ``sm_89``.
        threads: of an engine on the CPU; None is the library's choice. Sums depend on it in their last digit.
        key: of the engine, see `EngineSpec`. What libraries make of an engine is kept for the next time by it, or not
            at all.

    Raises:
        BackendError: the target is unknown, its library or the device is not there, or it cannot read the file.
    """
    device = resolve_device(target, device)
    module = importlib.import_module(_MODULES[target], __package__)
    engine: Engine = module.load(path, target, Placement(device, gpu, threads, key))
    return engine


def resolve_device(target: str, device: str | None) -> str:
    """The device that `load_engine` puts engines of a target on; for None, as it is on this machine.

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
    """How many cores this process may use; the two threads of a core (SMT) count once, as arithmetic fills a core."""
    folder = Path("/sys/devices/system/cpu")
    siblings = set()
    for number in os.sched_getaffinity(0):
        try:
            siblings.add((folder / f"cpu{number}" / "topology" / "thread_siblings_list").read_text())
        except OSError:  # a sandbox without /sys
            siblings.add(str(number))
    return len(siblings)


def check_finite(array: Array, engine: str, when: str) -> None:
    """Refuse numbers that say nothing, and would give a black or broken image.

    Raises:
        GenerationError: names the engine and the step.
    """
    if not np.isfinite(array).all():
        fix = "use fp32 engines, or report the model if it is fp32 already"
        raise GenerationError(f"the {engine} engine {when}", "it returned NaN or infinity, so no image is written", fix)


def cache_folder() -> Path:
    """Where engines and measurements that only this machine can use are kept, by XDG's rule."""
    return Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache") / "anon-engines"


def cannot_load(path: Path, library: str, error: Exception | str) -> BackendError:
    """A library's refusal of a file as an error that users see."""
    reason = error if isinstance(error, str) else first_line(error)
    return BackendError(
        str(path), f"{library} cannot load it ({reason})", f"build the bundle again, or update {library}"
    )


def cannot_run(path: Path, library: str, inputs: Mapping[str, Array], error: Exception | str) -> BackendError:
    """A library's refusal of inputs as an error that users see."""
    reason = error if isinstance(error, str) else first_line(error)
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
    fix = "check that the inputs fit the engine's entry in bundle.json"
    return BackendError(str(path), f"{library} refused {shapes} ({reason})", fix)
