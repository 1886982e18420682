"""OpenVINO models on OpenVINO's CPU plugin."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Arrays, Engine, first_line


class _OpenVinoEngine:
    def __init__(self, path: Path) -> None:
        try:
            import openvino
        except ImportError:
            raise BackendError(str(path), "openvino is not installed", "install `anon-engines[openvino]`") from None
        self._path = path
        try:
            # The plugin would otherwise round to bfloat16 where the processor can.
            self._model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except Exception as error:  # OpenVINO's exceptions share no base class.
            fix = "build the bundle again, or update openvino"
            raise BackendError(str(path), f"openvino cannot load it ({first_line(error)})", fix) from None

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> Arrays:
        try:
            results = self._model({name: np.asarray(array) for name, array in inputs.items()})
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
            fix = "check that the inputs fit the engine's entry in bundle.json"
            raise BackendError(str(self._path), f"openvino refused {shapes} ({first_line(error)})", fix) from None
        # The arrays belong to the request and would change with its next run.
        return {output.get_any_name(): np.array(array) for output, array in results.items()}


def load(path: Path) -> Engine:
    """Load an OpenVINO model (an .xml file with its .bin) on the CPU."""
    return _OpenVinoEngine(path)
