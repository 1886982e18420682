"""What is known of an output folder: portraits, refused photos, and what people have decided about them."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..bundle.integrity import sha256
from ..guard.trial import Attempt
from .decisions import Decision
from .discovery import PRIVATE
from .journal_file import ACTORS


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
    """The journal's knowledge of a photo that shall have no portrait.

    Attributes:
        people: the digest of the people with whom the guard compared its portraits; None if a person has refused it,
            which holds among any people.
        reason: why it has none.
        attempt: the number of the last attempt.
        similarity: the similarity of the last portrait to its original, -1..1; None if it has none.
    """

    people: str | None
    reason: str
    attempt: int
    similarity: float | None


class Notes:
    """The known outputs of an output folder, and new entries for its journal, which another process may hold.

    Args:
        out: the output folder.
        known: its outputs by name.
        refused: the photos that were refused, by pseudonym.
        begins: the attempts with which trials begin, by the photo's pseudonym; others begin with the first one.
        overwrite: whether files that no run wrote may be replaced.
    """

    def __init__(
        self,
        out: Path,
        known: dict[str, Known],
        refused: dict[str, Refusal],
        begins: dict[str, Attempt],
        *,
        overwrite: bool = False,
    ) -> None:
        self.out, self.scratch, self.known, self.refused, self.begins = out, out / PRIVATE, known, refused, begins
        self.overwrite = overwrite
        self.entries: list[Mapping[str, Any]] = []

    def has(self, identity: str, output: Path) -> bool:
        """Return whether an output is the portrait of a photo and still has the content that was written.

        Args:
            identity: the pseudonym of the photo.
            output: the name of the output, relative to the output folder.
        """
        if not self._is_of(identity, output):
            return False
        try:
            return sha256(self.out / output) == self.known[str(output)].sha256
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

    def decide(self, decision: Decision) -> None:
        """Take a person's decision about a portrait.

        Args:
            decision: the decision.
        """
        if decision.keeps:
            return
        for output in (Path(file.output) for file in decision.files):
            if self._is_of(decision.id, output):
                self.forget(output)
        if decision.verdict == "refuse":
            reason = f"a person refused its portrait: {decision.reason}"
            self.refused[decision.id] = Refusal(None, reason, decision.attempt, None)
        else:
            self.refused.pop(decision.id, None)
            self.begins[decision.id] = Attempt(decision.attempt + 1, decision.coarsening)

    def _is_of(self, identity: str, output: Path) -> bool:
        known = self.known.get(str(output))
        return known is not None and known.identity == identity

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
