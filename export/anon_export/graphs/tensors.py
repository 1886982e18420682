"""What a file of weights holds: the names and shapes of its tensors, without their values."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anon_runtime.backends.base import first_line
from anon_runtime.errors import AnonError

Shapes = dict[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors in a file; of a pickle, those that torch calls safe, or none.

    Raises:
        AnonError: it is no intact safetensors file.
    """
    if path.suffix != ".safetensors":
        return _read_pickle(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        why = f"it is no intact safetensors file ({first_line(error)})"
        raise AnonError(f"weights {path}", why, "download it again") from None


def _read_pickle(path: Path) -> Shapes:
    """On torch's meta device tensors have no values: nothing but the names and shapes is read."""
    import torch

    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError):
        return {}  # whoever loads it says what is wrong
    found: Mapping[str, Any] = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name: tuple(value.shape) for name, value in found.items() if isinstance(value, torch.Tensor)}
