"""The journal of an output folder: it lists the photos that are done, so that an interrupted run can be continued.

Lines are only ever appended to ``journal.jsonl``. The first line holds what all images of the folder have in common. A
later line of this kind starts the journal anew. Each other line holds the outcome of one photo; if several lines name
the same output, the last one counts. A line is written after its portrait is safely on disk. A photo without a line is
therefore processed again after any interruption, and gives the same portrait.
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
ACTORS = "actors"  # a file in the private folder, locked by every process that works for the journal's holder
OURS = (".anon-run-*", "attempts-*", "people-*", "stop", ACTORS)  # the names of all files in the private folder
SOON = 30.0  # seconds within which such a process ends after a request to stop, or after its run was killed
BEGINNING = b'{"run": '


class Known(NamedTuple):
    """The journal's knowledge of an output.

    Attributes:
        identity: the pseudonym of its photo; empty if the journal was started anew after the output was written.
        sha256: the sha256 of the file; empty in the same case.
        source: the result of `identify_source` for its photo; empty if names are hidden.
        attempt: the number of the attempt that it was painted in.
        coarsening: the level of its words; see `anon_runtime.guard.words.coarsen`.
    """

    identity: str
    sha256: str
    source: str
    attempt: int = 0
    coarsening: int = 0


class Refusal(NamedTuple):
    """The journal's knowledge of a photo of which no portrait passed the guard.

    Attributes:
        people: the digest of the people with whom the portraits were compared.
        reason: why no portrait passed.
        attempt: the number of the last attempt.
        similarity: the similarity of the last portrait to its original, -1..1; None if it has none.
    """

    people: str
    reason: str
    attempt: int
    similarity: float | None


class Notes:
    """The known outputs of an output folder, and new entries for its journal, which another process may hold.

    Args:
        out: the output folder.
        known: its outputs by name.
        refused: the photos that were refused, by pseudonym.
        overwrite: whether files that no run wrote may be replaced.
    """

    def __init__(
        self, out: Path, known: dict[str, Known], refused: dict[str, Refusal], *, overwrite: bool = False
    ) -> None:
        self.out, self.scratch, self.known, self.refused = out, out / PRIVATE, known, refused
        self.overwrite = overwrite
        self.entries: list[Mapping[str, Any]] = []

    def has(self, identity: str, output: Path) -> bool:
        """Return whether an output is the portrait of a photo and still has the content that was written.

        Args:
            identity: the pseudonym of the photo.
            output: the name of the output, relative to the output folder.
        """
        known = self.known.get(str(output))
        if known is None or known.identity != identity:
            return False
        try:
            return sha256(self.out / output) == known.sha256
        except OSError:
            return False

    def lists(self, output: Path) -> bool:
        """Return whether a run wrote an output.

        Args:
            output: the name of the output, relative to the output folder.
        """
        return str(output) in self.known

    def is_of_another(self, output: Path, identity: str, source: str) -> bool:
        """Return whether an output is the portrait of another photo in another place.

        Args:
            output: the name of the output, relative to the output folder.
            identity: the pseudonym of the photo.
            source: the result of `identify_source` for the photo.
        """
        known = self.known.get(str(output))
        return known is not None and known.identity not in ("", identity) and known.source != source

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Mark the output folder as in use, while a process that does not hold the journal writes into it.

        Raises:
            OSError: the private folder is missing or cannot be written.
        """
        with (self.scratch / ACTORS).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add the outcome of a photo.

        Args:
            entry: the fields of the line, in plain JSON types.
        """
        self._know(entry)
        self.entries.append(entry)

    def forget(self, output: Path) -> None:
        """Let an output no longer count as done; it is still a file that a run wrote.

        Args:
            output: the name of the output, relative to the output folder.
        """
        if known := self.known.get(str(output)):
            self.known[str(output)] = Known("", "", known.source)

    def _know(self, entry: Mapping[str, Any]) -> None:
        if entry.get("status") == "ok":
            self.known[entry["output"]] = _known(entry)
        elif entry.get("status") == "refused":
            self.refused[entry["id"]] = _refusal(entry)


def _known(entry: Mapping[str, Any]) -> Known:
    sha, source = entry.get("sha256", ""), entry.get("source", "")
    return Known(entry["id"], sha, source, int(entry.get("attempt", 0)), int(entry.get("coarsening", 0)))


def _refusal(entry: Mapping[str, Any]) -> Refusal:
    return Refusal(entry["people"], entry["reason"], entry["attempt"], entry.get("similarity"))


class Journal(Notes):
    """An open journal; while it is open, no other run can use the output folder."""

    def __init__(self, out: Path, common: Mapping[str, Any], secret: bytes, *, overwrite: bool = False) -> None:
        """Lock an output folder, read its journal, and remove what a killed run has left.

        Args:
            out: the output folder, which is created if it is missing.
            common: the values that all images depend on, besides the photo and the secret; plain JSON types.
            secret: the secret that the images depend on as well. The journal holds only a mark by which it is
                recognized.
            overwrite: whether to start the journal anew, so that no photo counts as done.

        Raises:
            UsageError: another run uses the folder, the folder holds images of other settings, or its journal is not
                valid.
            OutputError: the folder cannot be written.
        """
        super().__init__(out, {}, {}, overwrite=overwrite)
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

    def _read(self, common: Mapping[str, Any], secret: bytes) -> tuple[int, str]:
        """Read the journal; return the size of its complete lines, and how new images would differ from the known ones.

        Raises:
            UsageError: the folder holds images from which new ones would differ, or a line is damaged.
        """
        intact, header = 0, b""
        damage: UsageError | None = None
        self.file.seek(0)
        for number, line in enumerate(self.file):
            if not line.endswith(b"\n") and (number > 0 or line[: len(BEGINNING)] == BEGINNING[: len(line)]):
                break  # the run was killed while it was writing this line
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
        """Keep the known outputs as files that a run wrote, but let none of their photos count as done."""
        self.known.update({output: Known("", "", old.source) for output, old in self.known.items()})
        self.refused.clear()

    def _compare(self, line: bytes, common: Mapping[str, Any], secret: bytes) -> str:
        """Return how new images would differ from those in the folder; empty if they would not."""
        try:
            header = json.loads(line)
            old = dict(header["run"])
            if (version := old.get("anon-run")) != common.get("anon-run"):
                # Settings of different versions are not compared. An early version wrote the seed, which the message
                # must not show.
                return f"anon-run was {version} and is {common.get('anon-run')}"
            same_secret = is_marked(header["secret"], secret)
        except (ValueError, KeyError, TypeError):
            raise UsageError(str(self.out / NAME), "this is no journal of anon-run", "choose another folder") from None
        changed = [name for name in sorted({*old, *common}) if old.get(name) != common.get(name)]
        differences = [f"{name} was {old.get(name)} and is {common.get(name)}" for name in changed]
        return "; ".join(differences if same_secret else [*differences, "the seed or `attributes` are others"])

    def _take(self, line: bytes, number: int) -> None:
        """Add the outcome in a line of the journal to the known outputs."""
        try:
            entry = json.loads(line)
            if "summary" in entry:
                return
            if entry["status"] == "ok":
                identity, output = entry["id"], PurePath(entry["output"])
                if not (isinstance(identity, str) and identity) or output.is_absolute() or ".." in output.parts:
                    raise ValueError
                entry["output"] = str(output)
            self._know(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            what, why = f"{self.out / NAME}, line {number + 1}", "this is no line of a journal"
            raise UsageError(what, why, "restore the file, or begin anew with `overwrite`") from None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append the outcome of a photo to the journal.

        Args:
            entry: the fields of the line, in plain JSON types.

        Raises:
            OutputError: the journal cannot be written.
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
        """Make sure that the journal is on disk, and unlock the folder."""
        with suppress(OSError):  # the folder cannot be written any more, or the private folder holds other files
            if self._alone():
                self._tidy()
                self.scratch.rmdir()
        with suppress(OSError):  # the disk is full, which `add` has reported already
            os.fsync(self.file.fileno())
        for _ in range(2):
            with suppress(OSError):  # if the first attempt fails, the second one has nothing left to write and succeeds
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
