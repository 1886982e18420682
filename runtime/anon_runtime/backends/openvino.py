"""Engines of OpenVINO models, on OpenVINO's CPU plugin."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import BackendError
from ..types import Array, Arrays, Engine
from .base import Placement, cannot_load, cannot_run


class _OpenVinoEngine:
    def __init__(self, path: Path, threads: int | None) -> None:
        try:
            import openvino
        except ImportError:
            raise BackendError(str(path), "openvino is not installed", "install `anon-engines[openvino]`") from None
        self._path = path
        try:
            # Without the hint, the plugin computes in bfloat16 on processors that support it. 0 threads mean all cores.
            options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads or 0)}
            self._model = openvino.Core().compile_model(path, "CPU", options)
        except Exception as error:  # noqa: BLE001 - OpenVINO's exceptions share no base class
            raise cannot_load(path, "openvino", error) from None

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        try:
            results = self._model({name: np.asarray(array) for name, array in inputs.items()})
        except Exception as error:  # noqa: BLE001 - OpenVINO's exceptions share no base class
            raise cannot_run(self._path, "openvino", inputs, error) from None
        # The result arrays belong to OpenVINO's inference request, which overwrites them in its next run.
        return {output.get_any_name(): np.array(array) for output, array in results.items()}


def load(path: Path, _target: str, placement: Placement) -> Engine:
    """Return an engine, loaded on the CPU from an OpenVINO model (an .xml file with its .bin); see `load_engine`."""
    return _OpenVinoEngine(path, placement.threads)
