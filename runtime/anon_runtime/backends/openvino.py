"""Engines of OpenVINO models, on OpenVINO's CPU plugin."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError
from ..types import Array, Arrays, Engine
from .base import Placement, cache_folder, cannot_load, cannot_run
from .pages import release_pages
from .processor import multiplies_bf16, processor_key


class _OpenVinoEngine:
    def __init__(self, path: Path, placement: Placement) -> None:
        openvino = import_openvino()
        self._path = path
        try:
            self._model = openvino.Core().compile_model(path, "CPU", settings(placement, openvino.__version__))
        except Exception as error:  # noqa: BLE001 - OpenVINO's exceptions share no base class
            raise cannot_load(path, "openvino", error) from None
        # The weights are in the processor's layout now. Those in the file are mapped still, and would count twice.
        release_pages(path.with_suffix(".bin"))
        self.from_cache = bool(self._model.get_property("LOADED_FROM_CACHE"))
        shapes = {port.get_any_name(): port.get_partial_shape() for port in self._model.inputs}
        # Inputs of engines that were compiled for one sample, which is faster than for any number of them.
        self._single = [name for name, shape in shapes.items() if len(shape) > 1 and shape[0] == 1]

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        count = max((len(inputs[name]) for name in self._single if name in inputs), default=1)
        if count <= 1:
            return self._run(inputs)
        split = {name: np.split(inputs[name], count) for name in self._single}
        results = [self._run({**inputs, **{name: parts[k] for name, parts in split.items()}}) for k in range(count)]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def _run(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            results = self._model({name: np.asarray(array) for name, array in inputs.items()})
        except Exception as error:  # noqa: BLE001 - OpenVINO's exceptions share no base class
            raise cannot_run(self._path, "openvino", inputs, error) from None
        # The result arrays belong to OpenVINO's inference request, which overwrites them in its next run.
        return {output.get_any_name(): np.array(array) for output, array in results.items()}


def import_openvino() -> Any:
    """Return the module ``openvino``.

    Raises:
        BackendError: it is not installed.
    """
    try:
        with no_telemetry():
            import openvino
    except ImportError:
        raise BackendError("target openvino", "openvino is not installed", "install `anon-engines[openvino]`") from None
    return openvino


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Tell Intel's packages that they run in an automatic test, where they send nothing.

    Otherwise, they send usage data to Intel without asking, with a number that identifies the user: OpenVINO and NNCF
    when they are imported, OpenVINO's converter when it is called. The other way, ``opt_in_out --opt_out``, writes a
    file into the user's home.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def settings(placement: Placement, version: str) -> dict[str, Any]:
    """Return OpenVINO's properties for an engine; the version is the library's."""
    # Without the first line, the plugin computes in bfloat16 on all processors that support it. 0 threads mean all
    # cores. Without the third line, it rounds the inputs of layers whose weights alone have 8 bits to 8 bits as well.
    half = placement.precision.endswith("bf16") and multiplies_bf16()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": str(placement.threads or 0),
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    if placement.key and (folder := _make_cache(version, placement.key)):
        # The size is that of the compiled network; its weights are read from the engine's own files.
        options |= {"CACHE_DIR": str(folder), "CACHE_MODE": "OPTIMIZE_SIZE"}
    return options


def _make_cache(version: str, key: str) -> Path | None:
    """Return the folder for what a version compiles from an engine on this machine; None if it cannot be written.

    What is compiled for one processor may be slow on another one, or use instructions that it lacks.
    """
    machine = f"{version}-{processor_key()}".replace("/", "-")  # a version names its branch, with slashes
    folder = cache_folder() / "openvino" / machine / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def load(path: Path, _target: str, placement: Placement) -> Engine:
    """Return an engine, loaded on the CPU from an OpenVINO model (an .xml file with its .bin); see `load_engine`."""
    return _OpenVinoEngine(path, placement)
