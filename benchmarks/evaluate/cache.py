"""A cache of network outputs on disk, by the content of the images."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from anon_runtime.folder.writer import write_file

from .types import Vector

SAVE_EVERY = 500  # new entries after which the file is written
_VERSION = "version"


class Cache:
    """Arrays by key in one ``.npz`` file, which is written every `SAVE_EVERY` new entries and at the end of the block.

    Embeddings of faces are biometric data: only the owner can read the folder of the file.

    Args:
        path: of the file; a damaged file is replaced.
        version: of the network that computes the arrays; arrays of another version are dropped.
    """

    def __init__(self, path: Path, version: str = "") -> None:
        self._path, self._version, self._new = path, version, 0
        self._arrays: dict[str, Vector] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        if path.is_file():
            try:
                with np.load(path) as stored:
                    if str(stored[_VERSION]) == version:
                        self._arrays = {key: stored[key] for key in stored.files if key != _VERSION}
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                self._arrays = {}

    def get(self, key: str, compute: Callable[[], Vector]) -> Vector:
        """The array of a key; it is computed if it is not in the cache."""
        if key not in self._arrays:
            self._arrays[key] = compute()
            self._new += 1
            if self._new >= SAVE_EVERY:
                self.save()
        return self._arrays[key]

    def save(self) -> None:
        """Write the file if there are new entries."""
        if self._new:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {_VERSION: np.array(self._version), **self._arrays}
            np.savez(buffer, **arrays)
            write_file(self._path, buffer.getvalue())
            self._new = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()
