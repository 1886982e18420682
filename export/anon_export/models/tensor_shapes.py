"""The names and shapes of the tensors in a file of weights, read without their values."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anon_runtime.errors import AnonError, first_line

Shapes = dict[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors in a file. A pickle that torch does not call safe gives none.

    Raises:
        AnonError: the file is no intact safetensors file.
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
    """Load on torch's meta device, where tensors have shapes and no values."""
    import torch

    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError):
        return {}  # the error is reported when the file is loaded
    found: Mapping[str, Any] = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name: tuple(value.shape) for name, value in found.items() if isinstance(value, torch.Tensor)}
