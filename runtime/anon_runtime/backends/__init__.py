"""Engine backends: each one loads the engines of one target behind the same call."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

Arrays = dict[str, NDArray[np.generic]]

_MODULES = {"onnxruntime": ".ort", "openvino": ".ov"}


class Engine(Protocol):
    """A loaded network: named arrays in, named arrays out."""

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> Arrays:
        """Run the network."""
        ...


def load_engine(target: str, path: Path) -> Engine:
    """Load one engine file with the backend of a bundle's target.

    Raises:
        BackendError: the target is unknown, its library is not installed, or it cannot read the file.
    """
    if target not in _MODULES:
        why = f"this runtime has no backend for target {target!r}"
        raise BackendError(str(path), why, f"build for one of: {', '.join(_MODULES)}")
    module = importlib.import_module(_MODULES[target], __name__)
    engine: Engine = module.load(path)
    return engine


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
