"""The journal of an output folder: which photos are done, so that a run that ended early can go on.

``journal.jsonl`` is only ever appended to. Its first line says what all pictures of the folder have in common; each
other line says what became of a photo. A line is written once the picture is safely on disk, so that whatever happens,
a photo without a line is done again, and comes out the same.
"""

import fcntl
import json
import os
import threading
from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from .errors import OutputError, UsageError

NAME = "journal.jsonl"
PRIVATE = ".anon-run"  # in the output folder: files that are being written


class Notes:
    """What is known of an output folder, and what is to be added to its journal by whoever holds that.

    Args:
        out: the output folder.
        done: pseudonyms of photos that are done, with the names of their portraits.
    """

    def __init__(self, out: Path, done: Set[tuple[str, str]]) -> None:
        self.out, self.scratch, self.done = out, out / PRIVATE, done
        self.entries: list[Mapping[str, Any]] = []

    def has(self, identity: str, output: Path) -> bool:
        """Whether a photo is done, and its portrait still there."""
        return (identity, str(output)) in self.done and (self.out / output).exists()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Note what became of a photo."""
        self.entries.append(entry)


class Journal(Notes):
    """An open journal; no other run can have the folder meanwhile."""

    def __init__(self, out: Path, common: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Lock a folder, read its journal, and tidy up after a run that was killed.

        Args:
            out: the output folder, which is made if need be.
            common: what pictures depend on, beside their photo; plain JSON types.
            overwrite: begin anew, whatever the journal says.

        Raises:
            UsageError: another run works on the folder, or it holds pictures of other settings.
            OutputError: the folder cannot be written.
        """
        self._found: set[tuple[str, str]] = set()
        super().__init__(out, self._found)
        self._turn = threading.Lock()
        try:
            out.mkdir(parents=True, exist_ok=True)
            self.scratch.mkdir(exist_ok=True)
            self.scratch.chmod(0o700)
            self._file = (out / NAME).open("ab+")
            self._claim()
            self._tidy()
            intact = 0 if overwrite else self._read(common)
            self._file.truncate(intact)
            if not intact:
                self._append({"run": dict(common)})
        except OSError as error:
            why, fix = error.strerror or str(error), "choose a folder that can be written"
            raise OutputError(f"output folder {out}", why, fix) from None

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            fix = "wait for it, or choose another folder"
            raise UsageError(f"output folder {self.out}", "another run is writing into it", fix) from None

    def _tidy(self) -> None:
        """Remove what killed processes were writing."""
        for leftover in self.scratch.iterdir():
            leftover.unlink()

    def _read(self, common: Mapping[str, Any]) -> int:
        """Take in what is done; returns how many bytes hold whole lines."""
        intact = 0
        self._file.seek(0)
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break  # the run was killed while it wrote this line
            entry = self._parse(line, number)
            if number == 0:
                self._compare(entry, common)
            elif entry["status"] == "ok":
                self._found.add((str(entry["id"]), str(entry["output"])))
            intact += len(line)
        return intact

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
            assert isinstance(entry, dict) and (
                number == 0 or entry["status"] != "ok" or entry["id"] and entry["output"]
            )
        except (ValueError, KeyError, AssertionError):
            what, why = f"{self.out / NAME}, line {number + 1}", "this is no line of a journal"
            raise UsageError(what, why, "restore the file, or begin anew with --overwrite") from None
        return entry

    def _compare(self, entry: Mapping[str, Any], common: Mapping[str, Any]) -> None:
        old = entry.get("run")
        if not isinstance(old, dict):
            raise UsageError(str(self.out / NAME), "this is no journal of anon-run", "choose another folder")
        changed = [name for name in sorted({*old, *common}) if old.get(name) != common.get(name)]
        if changed:
            why = "; ".join(f"{name} was {old.get(name)} and is {common.get(name)}" for name in changed)
            fix = "run with the same settings to go on, choose another folder, or begin anew with --overwrite"
            raise UsageError(f"output folder {self.out} holds pictures of another kind", why, fix)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append what became of a photo.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._append(entry)
        except OSError as error:
            fix = "make room, and run the same command again: what is done is kept"
            raise OutputError(f"cannot write {self.out / NAME}", error.strerror or str(error), fix) from None

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._turn:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Put the journal on disk and let the folder go."""
        with suppress(OSError):  # a folder that cannot be written any more
            self._tidy()
        for step in (lambda: os.fsync(self._file.fileno()), self._file.close, self._file.close):
            with suppress(OSError):  # of a full disk, which `add` has told; the second attempt finds nothing to write
                step()
        with suppress(OSError):  # not empty, or gone
            self.scratch.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
