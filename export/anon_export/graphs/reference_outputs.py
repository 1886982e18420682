"""Reference outputs: PyTorch's outputs for seeded inputs, in a file beside each graph."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anon_runtime.bundle.integrity import REBUILD
from anon_runtime.errors import BundleError
from anon_runtime.types import Array, Floats

REFERENCE_OUTPUTS = "check.npz"


def write_reference_outputs(path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Write a network's inputs and the outputs that PyTorch computes from them."""
    arrays = {f"input {name}": array for name, array in inputs.items()}
    arrays |= {f"output {name}": array for name, array in outputs.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def merge_reference_outputs(paths: Sequence[Path], path: Path) -> None:
    """Write the outputs of several networks that have the same inputs into one file."""
    merged: dict[str, Array] = {}
    for part in paths:
        with np.load(part, allow_pickle=False) as arrays:
            merged |= {name: arrays[name] for name in arrays.files}
    np.savez_compressed(path, allow_pickle=False, **merged)


def read_reference_outputs(path: Path) -> tuple[dict[str, Array], dict[str, Floats]]:
    """A network's inputs, and PyTorch's outputs for them.

    Raises:
        BundleError: the file is missing or damaged.
    """
    try:
        # numpy would leave a damaged file open if it had opened it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(str(path), f"it cannot be read ({error})", REBUILD) from None

    def part(kind: str) -> dict[str, Array]:
        return {name.removeprefix(kind): array for name, array in content.items() if name.startswith(kind)}

    return part("input "), {name: np.asarray(a, np.float32) for name, a in part("output ").items()}
