"""ONNX graphs on onnxruntime."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Arrays, Engine, first_line


class _OrtEngine:
    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime as ort
        except ImportError:
            fix = "install exactly one of `anon-engines[cpu]` and `anon-engines[gpu]`"
            raise BackendError(str(path), "onnxruntime is not installed", fix) from None
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._path = path
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class.
            fix = "build the bundle again, or update onnxruntime"
            raise BackendError(str(path), f"onnxruntime cannot load it ({first_line(error)})", fix) from None
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> Arrays:
        try:
            results = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
            why = f"onnxruntime refused {shapes} ({first_line(error)})"
            raise BackendError(
                str(self._path), why, "check that the inputs fit the engine's entry in bundle.json"
            ) from None
        return dict(zip(self._outputs, results, strict=True))


def load(path: Path) -> Engine:
    """Load an ONNX file into onnxruntime on the CPU."""
    return _OrtEngine(path)
