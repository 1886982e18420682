"""Whether files are the ones that were built."""

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
    """What a file must be to be the one that was built."""

    sha256: str
    size: int


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_all(paths: Sequence[Path]) -> dict[Path, str]:
    """`sha256` of several files, on as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(paths, threads.map(sha256, paths), strict=True))


def find_damages(folder: Path, files: Mapping[str, FileRecord], *, checksum: bool = True) -> dict[str, str]:
    """Which files of a folder are not as their records say, and why: by size and, with ``checksum``, by sha256."""
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
    """Make sure that files are as their records say; see `find_damages`.

    Raises:
        BundleError: one is not.
    """
    for name, why in find_damages(folder, files, checksum=checksum).items():
        raise BundleError(str(folder / name), why, REBUILD)


class Inspection:
    """The sha256 of large files, computed while engines load and run.

    Files of weights take seconds to hash, and what damage does to them is wrong numbers, which nobody has seen as long
    as whoever makes results calls `finish` before handing them out.
    """

    def __init__(self, folder: Path, files: Mapping[str, FileRecord]) -> None:
        self._folder, self._files = folder, files
        self._error: BundleError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)  # a run that is broken off does not wait for it
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
        """Wait until everything was hashed.

        Raises:
            BundleError: a file is not the one that was built.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
