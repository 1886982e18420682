"""The journal of an output folder: which photos are done, so that a run that ended early can go on.

``journal.jsonl`` is only ever appended to. Its first line says what all images of the folder have in common, as does
every line with which it was begun anew; each other line says what became of a photo, and the last one about an output
counts. A line is written once the image is safely on disk, so that whatever happens, a photo without a line is done
again, and comes out the same.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple, Self

from ..bundle.integrity import sha256
from ..errors import OutputError, UsageError
from .discovery import PRIVATE
from .identity import is_marked, mark

NAME = "journal.jsonl"
ACTORS = "actors"  # in the private folder: locked by every process that works for whoever holds the journal
OURS = (".anon-run-*", "attempts-*", "stop", ACTORS)  # what the private folder may hold
SOON = 30.0  # seconds within which such a process ends once it is told to, or its run was killed
BEGINNING = b'{"run": '


class Known(NamedTuple):
    """What the journal tells of an output: its photo's pseudonym, its sha256, and where its photo lay.

    The first two are empty where the output is of an earlier run, which was begun anew.
    """

    identity: str
    sha256: str
    source: str


class Notes:
    """What is known of an output folder, and what is to be added to its journal by whoever holds that.

    Args:
        out: the output folder.
        known: its outputs.
        overwrite: whether files that no run wrote may be replaced.
    """

    def __init__(self, out: Path, known: dict[str, Known], *, overwrite: bool = False) -> None:
        self.out, self.scratch, self.known, self.overwrite = out, out / PRIVATE, known, overwrite
        self.entries: list[Mapping[str, Any]] = []

    def has(self, identity: str, output: Path) -> bool:
        """Whether an output is the portrait of that photo, byte for byte as it was written."""
        known = self.known.get(str(output))
        if known is None or known.identity != identity:
            return False
        try:
            return sha256(self.out / output) == known.sha256
        except OSError:
            return False

    def lists(self, output: Path) -> bool:
        """Whether an output is one that a run wrote."""
        return str(output) in self.known

    def is_of_another(self, output: Path, identity: str, source: str) -> bool:
        """Whether an output is the portrait of a photo that lies somewhere else."""
        known = self.known.get(str(output))
        return known is not None and known.identity not in ("", identity) and known.source != source

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the folder from being taken for idle while a process that does not hold the journal writes into it.

        Raises:
            OSError: the private folder is not there, or cannot be written.
        """
        with (self.scratch / ACTORS).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def add(self, entry: Mapping[str, Any]) -> None:
        """Note what became of a photo."""
        self._know(entry)
        self.entries.append(entry)

    def _know(self, entry: Mapping[str, Any]) -> None:
        if entry["status"] == "ok":
            self.known[entry["output"]] = Known(entry["id"], entry["sha256"], entry.get("source", ""))


class Journal(Notes):
    """An open journal; no other run can have the folder meanwhile."""

    def __init__(self, out: Path, common: Mapping[str, Any], secret: bytes, *, overwrite: bool = False) -> None:
        """Lock a folder, read its journal, and tidy up after a run that was killed.

        Args:
            out: the output folder, which is made if need be.
            common: what images depend on, beside their photo and the secret; plain JSON types.
            secret: what else they depend on: the journal keeps what is needed to know it again, and no more.
            overwrite: begin anew, whatever the journal says is done.

        Raises:
            UsageError: another run works on the folder, it holds images of other settings, or its journal is none.
            OutputError: the folder cannot be written.
        """
        super().__init__(out, {}, overwrite=overwrite)
        self._turn = threading.Lock()
        with ExitStack() as unless_it_is_open:
            try:
                out.mkdir(parents=True, exist_ok=True)
                self._make_scratch()
                self.file = unless_it_is_open.enter_context((out / NAME).open("ab+"))
                self._claim()
                self._tidy()
                intact, changed = self._read(common, secret)
                self.file.truncate(intact)
                if overwrite or changed or not intact:
                    self._append({"run": dict(common), "secret": mark(secret)})
                    self._begin_anew()
            except OSError as error:
                why, fix = error.strerror or str(error), "choose a folder that can be written"
                raise OutputError(f"output folder {out}", why, fix) from None
            unless_it_is_open.pop_all()

    def _make_scratch(self) -> None:
        if self.scratch.is_symlink():
            raise OutputError(f"output folder {self.out}", f"{PRIVATE} in it is a link", "remove the link")
        self.scratch.mkdir(exist_ok=True)
        self.scratch.chmod(0o700)

    def _claim(self) -> None:
        if not (_try_lock(self.file) and self._alone()):
            fix = "wait for it, or choose another folder"
            raise UsageError(f"output folder {self.out}", "another run is writing into it", fix)

    def _alone(self) -> bool:
        """Wait until no actor writes into the folder any more; false if one goes on."""
        end = time.monotonic() + SOON
        with suppress(FileNotFoundError), (self.scratch / ACTORS).open("rb+") as file:
            while not _try_lock(file):
                if time.monotonic() > end:
                    return False
                time.sleep(0.05)
        return True

    def _tidy(self) -> None:
        """Remove what killed processes were writing."""
        for pattern in OURS:
            for leftover in self.scratch.glob(pattern):
                leftover.unlink()

    def _read(self, common: Mapping[str, Any], secret: bytes) -> tuple[int, str]:
        """Take in what is there; returns how many bytes are whole lines, and in which way new images would differ.

        Raises:
            UsageError: there are images, from which they would differ.
        """
        intact, header = 0, b""
        damage: UsageError | None = None
        self.file.seek(0)
        for number, line in enumerate(self.file):
            if not line.endswith(b"\n") and (number > 0 or line[: len(BEGINNING)] == BEGINNING[: len(line)]):
                break  # the run was killed while it wrote this line
            if number == 0 or line.startswith(BEGINNING):
                header, damage = line, None
                self._begin_anew()
            else:
                try:
                    self._take(line, number)
                except UsageError as error:
                    damage = damage or error
            intact += len(line)
        changed = self._compare(header, common, secret) if header else ""
        if damage and not self.overwrite:
            raise damage
        if changed and not self.overwrite and any(known.identity for known in self.known.values()):
            fix = "run with the same settings to go on, choose another folder, or begin anew with `overwrite`"
            raise UsageError(f"output folder {self.out} holds images of another kind", changed, fix)
        return intact, changed

    def _begin_anew(self) -> None:
        """What was written stays known as written by a run, and counts as done no more."""
        self.known.update({output: Known("", "", old.source) for output, old in self.known.items()})

    def _compare(self, line: bytes, common: Mapping[str, Any], secret: bytes) -> str:
        """In which way the images of the folder are others; empty if they are not."""
        try:
            header = json.loads(line)
            old = dict(header["run"])
            if (version := old.get("anon-run")) != common.get("anon-run"):
                # Other versions have other settings; an early one wrote down the seed, which is nobody's business.
                return f"anon-run was {version} and is {common.get('anon-run')}"
            same_secret = is_marked(header["secret"], secret)
        except (ValueError, KeyError, TypeError):
            raise UsageError(str(self.out / NAME), "this is no journal of anon-run", "choose another folder") from None
        changed = [name for name in sorted({*old, *common}) if old.get(name) != common.get(name)]
        differences = [f"{name} was {old.get(name)} and is {common.get(name)}" for name in changed]
        return "; ".join(differences if same_secret else [*differences, "the seed or `attributes` are others"])

    def _take(self, line: bytes, number: int) -> None:
        """Remember what a line says is done."""
        try:
            entry = json.loads(line)
            if entry["status"] == "ok":
                known = Known(entry["id"], entry.get("sha256", ""), entry.get("source", ""))
                output = PurePath(entry["output"])
                if (
                    not (isinstance(known.identity, str) and known.identity)
                    or output.is_absolute()
                    or ".." in output.parts
                ):
                    raise ValueError
                self.known[str(output)] = known
        except (ValueError, KeyError, TypeError, AttributeError):
            what, why = f"{self.out / NAME}, line {number + 1}", "this is no line of a journal"
            raise UsageError(what, why, "restore the file, or begin anew with `overwrite`") from None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append what became of a photo.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._append(entry)
            self._know(entry)
        except OSError as error:
            fix = "make room, and run the same command again: what is done is kept"
            raise OutputError(f"cannot write {self.out / NAME}", error.strerror or str(error), fix) from None

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._turn:
            self.file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
            self.file.flush()

    def close(self) -> None:
        """Put the journal on disk and let the folder go."""
        with suppress(OSError):  # a folder that cannot be written any more, or something else lies in the private one
            if self._alone():
                self._tidy()
                self.scratch.rmdir()
        with suppress(OSError):  # of a full disk, which `add` has told
            os.fsync(self.file.fileno())
        for _ in range(2):
            with suppress(OSError):  # the second attempt finds nothing to write
                self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
