"""Checks that the files of a bundle are the ones that were built."""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError

REBUILD = "build it again with `anon-export build`"
ALTERED = "this file is not the one that was built (its sha256 differs)"
LARGE = 2**26  # bytes; a smaller file is hashed in less than a tenth of a second


@dataclass(frozen=True)
class FileRecord:
    """The manifest's record of a file: what the file was when it was built.

    Attributes:
        sha256: the hexadecimal digest of its content.
        size: its size in bytes.
    """

    sha256: str
    size: int


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_all(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the `sha256` of several files, which are hashed on as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(paths, threads.map(sha256, paths), strict=True))


def find_damages(folder: Path, files: Mapping[str, FileRecord], *, checksum: bool = True) -> dict[str, str]:
    """Find the files of a folder that differ from their records.

    Args:
        folder: the folder that the files lie in.
        files: the records by the file's path, relative to the folder.
        checksum: whether to compare the sha256 of the files as well as their sizes.

    Returns:
        For each file that is missing or differs, its relative path and the reason.
    """
    found, intact = {}, []
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            found[name] = "this file of the bundle is missing"
        elif path.stat().st_size != record.size:
            found[name] = "this file is not the one that was built (its size differs)"
        else:
            intact.append(name)
    if checksum:
        digests = sha256_all([folder / name for name in intact])
        for name in intact:
            if digests[folder / name] != files[name].sha256:
                found[name] = ALTERED
    return found


def check_files(folder: Path, files: Mapping[str, FileRecord], *, checksum: bool = True) -> None:
    """Check that all files of a folder agree with their records; see `find_damages` for the arguments.

    Raises:
        BundleError: a file is missing or differs.
    """
    for name, why in find_damages(folder, files, checksum=checksum).items():
        raise BundleError(str(folder / name), why, REBUILD)


class Inspection:
    """A thread that computes the sha256 of large files while engines are loaded and run.

    It takes seconds to hash the files of weights. A damaged file of weights makes the results wrong, but this does no
    harm as long as no result is handed out before `finish` has returned.

    Args:
        folder: the folder that the files lie in.
        files: the records by the file's path, relative to the folder.
    """

    def __init__(self, folder: Path, files: Mapping[str, FileRecord]) -> None:
        self._folder, self._files = folder, files
        self._error: BundleError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)  # an interrupted run does not wait for it
        self._thread.start()

    def _run(self) -> None:
        for name, record in self._files.items():
            path = self._folder / name
            try:
                if sha256(path) == record.sha256:
                    continue
                why = ALTERED
            except OSError as error:
                why = f"it cannot be read ({error.strerror})"
            self._error = BundleError(str(path), why, REBUILD)

    def finish(self) -> None:
        """Wait until all files are hashed.

        Raises:
            BundleError: a file is not the one that was built, or cannot be read.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
