"""What networks said of images, kept on disk by the images' content, so that no image is worked on twice."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anon_runtime.folder.writer import write_file

Vector = NDArray[np.floating[Any]]
EVERY = 500  # new entries after which the file is written
_VERSION = "version"


class Cache:
    """Arrays by key in one ``.npz`` file; written now and then, and at the end, whatever ends the work.

    Embeddings of faces are biometric data: the file's folder is readable by its owner only.

    Args:
        path: of the file; one that is damaged is begun anew.
        version: of what makes the arrays; those of another version are forgotten.
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

    def get(self, key: str, make: Callable[[], Vector]) -> Vector:
        """The array of a key, made if it is not known yet."""
        if key not in self._arrays:
            self._arrays[key] = make()
            self._new += 1
            if self._new >= EVERY:
                self.save()
        return self._arrays[key]

    def save(self) -> None:
        """Write what is new."""
        if self._new:
            buffer = io.BytesIO()
            np.savez(buffer, **{_VERSION: np.array(self._version)}, **self._arrays)
            write_file(self._path, buffer.getvalue())
            self._new = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()
