"""The journal of an output folder: it lists the photos that are done, so that an interrupted run can be continued.

Lines are only ever appended to ``journal.jsonl``. The first line holds what all images of the folder have in common. A
later line of this kind starts the journal anew. A line of a photo holds its outcome; if several lines name the same
output, the last one counts. A line is written after its portrait is safely on disk. A photo without a line is therefore
processed again after any interruption, and gives the same portrait. Other lines hold the summaries of runs and the
decisions of people.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from ..errors import OutputError, UsageError
from .decisions import Decision, check_name, remove_portraits
from .identity import is_marked, mark
from .journal_file import NAME, JournalFile, damaged
from .notes import Known, Notes

BEGINNING = b'{"run": '


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
        super().__init__(out, {}, {}, {}, overwrite=overwrite)
        self._decisions: dict[str, Decision] = {}  # those by which a portrait is not kept, by photo
        self.file = JournalFile(out)
        with ExitStack() as unless_it_is_open:
            unless_it_is_open.callback(self.file.close)
            try:
                intact, changed = self._read(common, secret)
                self.file.truncate(intact)
            except OSError as error:
                why, fix = error.strerror or str(error), "choose a folder that can be written"
                raise OutputError(f"output folder {out}", why, fix) from None
            if overwrite or changed or not intact:
                self.file.add({"run": dict(common), "secret": mark(secret)})
                self._begin_anew(same=not changed)
            remove_portraits(out, self._decisions.values())
            unless_it_is_open.pop_all()

    def _read(self, common: Mapping[str, Any], secret: bytes) -> tuple[int, str]:
        """Read the journal; return the size of its complete lines, and how new images would differ from the known ones.

        Raises:
            UsageError: the folder holds images from which new ones would differ, or a line is damaged.
        """
        intact, header = 0, b""
        damage: UsageError | None = None
        for number, line in enumerate(self.file.lines()):
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

    def _begin_anew(self, *, same: bool = False) -> None:
        """Keep the known outputs as files that a run wrote, but let none of their photos count as done.

        If settings stay the same, so would the portraits that people did not accept. Their decisions are kept then.
        """
        self.known.update({output: Known("", "", old.source) for output, old in self.known.items()})
        self.refused.clear()
        self.begins.clear()
        decisions, self._decisions = self._decisions, {}
        for decision in decisions.values() if same else ():
            self.file.add({"decision": decision.to_dict()})
            self.decide(decision)

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
            if "decision" in entry:
                self.decide(Decision.of(entry["decision"]))
                return
            if entry["status"] == "ok":
                if not (isinstance(entry["id"], str) and entry["id"]):
                    raise ValueError
                entry["output"] = check_name(entry["output"])
            self._know(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged(self.out / NAME, number + 1) from None

    def decide(self, decision: Decision) -> None:
        """Take a person's decision about a portrait, and keep it if the portrait is not kept; see `Notes.decide`."""
        super().decide(decision)
        if not decision.keeps:
            self._decisions[decision.id] = decision

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append the outcome of a photo to the journal.

        Args:
            entry: the fields of the line, in plain JSON types.

        Raises:
            OutputError: the journal cannot be written.
        """
        self.file.add(entry)
        self._know(entry)

    def close(self) -> None:
        """Make sure that the journal is on disk, and unlock the folder."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
