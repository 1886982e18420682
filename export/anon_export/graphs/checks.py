"""PyTorch's answers to seeded inputs, kept in a file beside each graph."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anon_runtime.bundle.integrity import REBUILD
from anon_runtime.errors import BundleError

CHECK = "check.npz"
Arrays = Mapping[str, NDArray[np.generic]]


def write_check(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Keep an engine's inputs and the outputs that PyTorch gives for them."""
    arrays = {f"input {name}": array for name, array in inputs.items()}
    arrays |= {f"output {name}": array for name, array in outputs.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def merge_checks(paths: Sequence[Path], path: Path) -> None:
    """Keep the answers of several networks to the same inputs together."""
    merged: dict[str, NDArray[np.generic]] = {}
    for part in paths:
        with np.load(part, allow_pickle=False) as arrays:
            merged |= {name: arrays[name] for name in arrays.files}
    np.savez_compressed(path, allow_pickle=False, **merged)


def read_check(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.float32]]]:
    """An engine's inputs, and PyTorch's outputs for them.

    Raises:
        BundleError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(str(path), f"it cannot be read ({error})", REBUILD) from None

    def part(kind: str) -> dict[str, NDArray[np.generic]]:
        return {name.removeprefix(kind): array for name, array in content.items() if name.startswith(kind)}

    return part("input "), {name: np.asarray(a, np.float32) for name, a in part("output ").items()}
