"""The file of a journal: it is locked while it is open, so that one process at a time works on an output folder."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import OutputError, UsageError
from .discovery import PRIVATE

NAME = "journal.jsonl"
ACTORS = "actors"  # a file in the private folder, locked by every process that works for the journal's holder
OURS = (".anon-run-*", "attempts-*", "people-*", "stop", ACTORS)  # the names of all files in the private folder
SOON = 30.0  # seconds within which such a process ends after a request to stop, or after its run was killed


def damaged(path: Path, number: int) -> UsageError:
    """Return the error for a line that is none of a journal.

    Args:
        path: the file.
        number: of the line, from 1.
    """
    fix = "restore the file, or begin anew with `overwrite`"
    return UsageError(f"{path}, line {number}", "this is no line of a journal", fix)


def unreadable(what: str, error: OSError) -> UsageError:
    """Return the error for a journal that is missing or cannot be read.

    Args:
        what: what there cannot be therefore.
        error: the reason.
    """
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    why = "it has no journal" if missing else error.strerror or str(error)
    return UsageError(what, why, "name the output folder of a run")


class InUseError(UsageError):
    """Another process works on the output folder."""


class JournalFile:
    """The open file of a journal.

    Args:
        out: the output folder, which is created if it is missing. What a killed run has left in it is removed.

    Attributes:
        scratch: the private folder, for temporary files.
        file: the file.

    Raises:
        InUseError: another process works on the folder.
        OutputError: the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._out, self.scratch, self._turn = out, out / PRIVATE, threading.Lock()
        with ExitStack() as unless_it_is_open:
            try:
                out.mkdir(parents=True, exist_ok=True)
                self._make_scratch()
                self.file = unless_it_is_open.enter_context((out / NAME).open("ab+"))
                self._claim()
                self._tidy()
            except OSError as error:
                why, fix = error.strerror or str(error), "choose a folder that can be written"
                raise OutputError(f"output folder {out}", why, fix) from None
            unless_it_is_open.pop_all()

    def _make_scratch(self) -> None:
        if self.scratch.is_symlink():
            raise OutputError(f"output folder {self._out}", f"{PRIVATE} in it is a link", "remove the link")
        self.scratch.mkdir(exist_ok=True)
        self.scratch.chmod(0o700)

    def _claim(self) -> None:
        if not (_try_lock(self.file) and self._alone()):
            fix = "wait for it, or choose another folder"
            raise InUseError(f"output folder {self._out}", "another run is writing into it", fix)

    def _alone(self) -> bool:
        """Wait until no actor writes into the folder; return False if one still does after `SOON` seconds."""
        end = time.monotonic() + SOON
        with suppress(FileNotFoundError), (self.scratch / ACTORS).open("rb+") as file:
            while not _try_lock(file):
                if time.monotonic() > end:
                    return False
                time.sleep(0.05)
        return True

    def _tidy(self) -> None:
        """Remove the temporary files of killed processes."""
        for pattern in OURS:
            for leftover in self.scratch.glob(pattern):
                leftover.unlink()

    def lines(self) -> Iterator[bytes]:
        """Return all lines; the last one has no end if a run was killed while it was writing it."""
        self.file.seek(0)
        return self.file

    def truncate(self, size: int) -> None:
        """Keep the first bytes only."""
        self.file.truncate(size)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append a line.

        Args:
            entry: its fields, in plain JSON types.

        Raises:
            OutputError: the file cannot be written.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        with self._writing(), self._turn:
            self.file.write(line)
            self.file.flush()

    def sync(self) -> None:
        """Make sure that the lines are on disk.

        Raises:
            OutputError: they cannot be written.
        """
        with self._writing():
            os.fsync(self.file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fix = "make room, and run the same command again: what is done is kept"
            raise OutputError(f"cannot write {self._out / NAME}", error.strerror or str(error), fix) from None

    def close(self) -> None:
        """Make sure that the lines are on disk, and unlock the folder."""
        with suppress(OSError):  # the folder cannot be written any more, or the private folder holds other files
            if self._alone():
                self._tidy()
                self.scratch.rmdir()
        with suppress(OutputError):  # the disk is full, which `add` has reported already
            self.sync()
        for _ in range(2):
            with suppress(OSError):  # if the first attempt fails, the second one has nothing left to write and succeeds
                self.file.close()


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
