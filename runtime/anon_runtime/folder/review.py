"""A review of an output folder: a person looks at its portraits, and the decisions go into its journal."""

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, get_args

from ..errors import UsageError
from .decisions import Decision, File, Verdict, check_name, remove_portraits
from .journal_file import NAME, JournalFile, damaged, unreadable

State = Literal["open", "accept", "repaint", "refuse"]


class StaleError(UsageError):
    """A decision about a portrait that is not there any more."""


@dataclass(frozen=True, slots=True)
class Released:
    """A portrait that a run has released, as the journal describes it.

    Attributes:
        id: the pseudonym of its photo.
        sha256: the sha256 of its files.
        files: its files; identical photos have one each.
        attempt: the attempt that it was painted in, from 0.
        coarsening: the level of its words; see `anon_runtime.guard.words.coarsen`.
        similarity: its similarity to its own original, -1..1; None if the guard has not measured it.
        rank: the place of its own original among the people whom it resembles, from 1; None in the same case.
        nearest: its similarity to the most similar other person, -1..1; None if there is no other.
        prompt: the words that it was painted from; None if the journal does not hold them.
        decision: what a person has decided about it; None if nobody has.
    """

    id: str
    sha256: str
    files: tuple[File, ...]
    attempt: int = 0
    coarsening: int = 0
    similarity: float | None = None
    rank: int | None = None
    nearest: float | None = None
    prompt: str | None = None
    decision: Decision | None = None

    @property
    def state(self) -> State:
        """The verdict about it; ``open`` if there is none."""
        return "open" if self.decision is None else self.decision.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the portrait in plain JSON types."""
        decision = self.decision and self.decision.to_dict()
        files = [file._asdict() for file in self.files]
        return asdict(self) | {"files": files, "decision": decision, "state": self.state}


class Review:
    """The portraits of an output folder; a million of them take about 1 GB.

    Another process may run into the folder meanwhile, but then nothing can be decided.

    Args:
        out: the output folder.

    Raises:
        UsageError: there is no journal, or a line of it is damaged.
        OutputError: a portrait that was not accepted is still there and cannot be removed.
    """

    def __init__(self, out: Path) -> None:
        self.out, self._path, self._turn = out, out / NAME, threading.RLock()
        self._forget()
        self.refresh()
        decisions = [one.decision for one in self._released.values() if one.decision is not None]
        remove_portraits(out, decisions)

    def _forget(self) -> None:
        self._inode, self._size, self._lines = -1, 0, 0
        self._damaged = 0  # the number of a line
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._released: dict[str, Released] = {}  # by the pseudonyms of their photos
        self._owners: dict[str, str] = {}  # the same pseudonyms, by the names of the files
        self._order: list[str] | None = None
        self.limit: float | None = None

    def refresh(self) -> None:
        """Read what was added to the journal.

        Raises:
            UsageError: see the class.
        """
        try:
            with self._turn, self._path.open("rb") as file:
                self._read(file)
        except OSError as error:
            raise unreadable(f"no review of {self.out}", error) from None

    def _read(self, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        if status.st_ino != self._inode or status.st_size < self._size:
            self._forget()
            self._inode = status.st_ino
        file.seek(self._size)
        for line in file:
            if not line.endswith(b"\n"):
                break  # it is being written, or the run was killed while it was writing it
            self._lines += 1
            self._size += len(line)
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._damaged = self._damaged or self._lines
        if self._damaged:
            raise damaged(self._path, self._damaged)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "run" in line:
            self._begin_anew()
            self._damaged = 0
        elif self._lines == 1:
            raise ValueError("the first line has no settings")
        elif "summary" in line:
            self.limit = (line["summary"].get("own") or {}).get("value")
        elif "decision" in line:
            self._mark(Decision.of(line["decision"]))
        elif line["status"] == "ok":
            self._add(line)
        elif (known := self._released.get(line["id"] or "")) and (
            line["status"] == "refused" or not self._exists(known)
        ):
            self._drop(known)

    def _add(self, line: Mapping[str, Any]) -> None:
        file = File(check_name(line["output"]), line.get("input"), line.get("face"))
        identity, digest = line["id"], line.get("sha256", "")
        self._disown(file.output, identity)
        old = self._released.get(identity)
        copies = old.files if old is not None and old.sha256 == digest else ()
        self._released[identity] = Released(
            identity,
            digest,
            (*(one for one in copies if one != file), file),
            line.get("attempt", 0),
            line.get("coarsening", 0),
            line.get("similarity"),
            line.get("rank"),
            line.get("nearest"),
            line.get("prompt"),
        )
        self._owners[file.output], self._order = identity, None

    def _disown(self, output: str, identity: str) -> None:
        """Let a file no longer be that of a photo's portrait, if it becomes that of another photo."""
        old = self._released.get(self._owners.get(output, ""))
        if old is None or old.id == identity:
            return
        if left := tuple(file for file in old.files if file.output != output):
            self._released[old.id] = replace(old, files=left)
        else:
            self._drop(old)

    def _drop(self, known: Released) -> None:
        del self._released[known.id]
        self._order = None

    def _exists(self, known: Released) -> bool:
        return any(os.path.lexists(self.out / file.output) for file in known.files)

    def _mark(self, decision: Decision) -> None:
        known = self._released.get(decision.id)
        if known is None:  # the journal was begun anew since the portrait was painted
            known = Released(decision.id, decision.sha256, decision.files, decision.attempt, decision.coarsening)
            self._order = None
        self._released[decision.id] = replace(known, decision=decision)

    def counts(self) -> dict[State, int]:
        """Return the number of portraits by state."""
        with self._turn:
            found = Counter(one.state for one in self._released.values())
        return {state: found[state] for state in get_args(State)}

    def page(self, state: State, start: int, count: int) -> list[Released]:
        """Return some portraits of a state; those that are most similar to their originals come first.

        Args:
            state: the state.
            start: how many to pass over.
            count: how many to return, at most.
        """
        with self._turn:
            if self._order is None:
                self._order = sorted(self._released, key=self._place)
            found = (one for one in map(self._released.__getitem__, self._order) if one.state == state)
            return list(islice(found, start, start + count))

    def _place(self, identity: str) -> tuple[float, str]:
        similarity = self._released[identity].similarity
        return (-2.0 if similarity is None else -similarity, identity)

    def image(self, identity: str) -> tuple[File, bytes] | None:
        """Return a portrait's file and its content; None if it is not there, or is not what the run has written.

        Args:
            identity: the pseudonym of its photo.
        """
        with self._turn:
            known = self._released.get(identity)
        for file in known.files if known else ():
            try:
                data = (self.out / file.output).read_bytes()
            except OSError:
                continue
            if known is not None and hashlib.sha256(data).hexdigest() == known.sha256:
                return file, data
        return None

    def decide(
        self, identity: str, sha256: str, verdict: Verdict, *, by: str, reason: str = "", state: State = "open"
    ) -> Released:
        """Write a decision into the journal, and remove the portrait unless it is accepted.

        Args:
            identity: the pseudonym of the photo.
            sha256: the sha256 of the portrait that the person has seen.
            verdict: the decision.
            by: who has decided.
            reason: why.
            state: the state that the person has seen.

        Returns:
            The portrait with the decision.

        Raises:
            StaleError: it is not the portrait of this photo any more, somebody else has decided about it, or it cannot
                be accepted because its file is missing or was changed.
            InUseError: another process works on the folder.
            UsageError: see the class.
            OutputError: the journal cannot be written, or the portrait cannot be removed.
        """
        self.refresh()
        with self._turn, closing(JournalFile(self.out)) as journal:
            self._read(journal.file)
            journal.truncate(self._size)
            known = self._released.get(identity)
            if known is None or known.sha256 != sha256:
                raise StaleError("the portrait", "it is not there any more", "look at the one that is there now")
            if known.state != state:
                raise StaleError("the portrait", "somebody has decided about it meanwhile", "look at it again")
            if verdict == "accept" and self.image(identity) is None:
                fix = "run the same command again, or decide otherwise"
                raise StaleError("the portrait", "its file is missing or was changed", fix)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            decision = Decision(verdict, identity, known.files, sha256, known.attempt, known.coarsening, by, at, reason)
            journal.add({"decision": decision.to_dict()})
            journal.sync()
            self._read(journal.file)
            remove_portraits(self.out, [decision])
            return self._released[identity]
