"""What becomes of a photo: its file in the output folder, its line in the journal, its record."""

import os
from pathlib import Path
from typing import Any

from ..errors import AnonError, NoFaceError, PhotoError
from ..types import Portrait
from .discovery import Photo
from .identity import Identity, identify_source
from .journal import Notes
from .options import RunOptions
from .records import Record
from .writer import Output

REPORT = "please report it"


class Outcomes:
    """Settles photos, one by one.

    Args:
        output: where portraits go.
        options: of the run.
        journal: of the output folder; without one, nothing is remembered.
    """

    def __init__(self, output: Output, options: RunOptions, journal: Notes | None) -> None:
        self._output, self._options, self._journal = output, options, journal

    def find(self, photo: Photo, identity: Identity) -> Record | None:
        """The record of a photo whose portrait is there already; None if it has to be made.

        Raises:
            PhotoError: the portrait of another photo lies under its name.
        """
        name = self._output.name(photo, identity)
        if self._journal is not None and self._journal.has(identity.pseudonym, name):
            return Record(str(photo.path), str(self._output.root / name), "done", None, identity.seed)
        if self._is_of_another(photo, identity, name):
            why = f"{name} is the portrait of another photo of that name"
            raise PhotoError(why, "run them into different folders, or replace it with `overwrite`")
        return None

    def write(self, photo: Photo, identity: Identity, portrait: Portrait) -> tuple[Path, str]:
        """Write a portrait; returns its name and its sha256.

        Raises:
            PhotoError: its name is of no use, or taken by a file that no run wrote.
            OutputError: the folder cannot be written.
        """
        name = self._output.name(photo, identity)
        replace = self._journal is None or self._journal.overwrite or self._journal.lists(name)
        scratch = self._journal.scratch if self._journal else None
        return name, self._output.write(name, portrait.image, scratch, replace=replace)

    def succeed(
        self, photo: Photo, identity: Identity, portrait: Portrait, name: Path, sha256: str, seconds: dict[str, float]
    ) -> Record:
        """The record of a portrait that was written."""
        record = Record.of(portrait, str(photo.path), self._output.root / name, seconds)
        self._note(photo, identity, record, output=str(name), sha256=sha256)
        return record

    def fail(self, photo: Photo, identity: Identity | None, error: Exception) -> Record:
        """The record of a photo that has no portrait; one that it had is removed."""
        stays = "" if self._clear(photo, identity) else "; the file under its portrait's name stays"
        name, journaled = str(photo.path), ""
        match error:
            case PhotoError():
                shown: AnonError = error.of(name)
            case AnonError():
                shown = AnonError(f"{name}: {error.what}", error.why, error.fix)
            case _:
                shown = PhotoError(f"internal error ({type(error).__name__}: {error})", REPORT, name)
                journaled = f"internal error ({type(error).__name__})"  # what a library says may hold the photo's name
        skipped = isinstance(error, NoFaceError) and self._options.no_face == "skip"
        seed = identity.seed if identity else None
        record = Record(name, None, "skipped" if skipped else "error", f"{shown}{stays}", seed)
        self._note(photo, identity, record, reason=f"{journaled or shown.why}; {shown.fix}{stays}")
        return record

    def _clear(self, photo: Photo, identity: Identity | None) -> bool:
        """See to it that no portrait lies under the name of a photo that has none; false if a file has to stay.

        What no run wrote stays, and the portrait of a photo in another place, and all where not even the photo's
        content is known: a disk that fails in the night must not take portraits with it. Whoever only describes photos
        has neither a journal nor a file for a portrait: nothing of theirs is removed.
        """
        if self._journal is None and self._output.file is None:
            return True
        if identity is None and self._output.rename == "hash":
            return True
        name = self._output.name(photo, identity)
        if not os.path.lexists(self._output.root / name):
            return True
        ours = self._journal is None or self._journal.lists(name)
        if identity is None or not ours or self._is_of_another(photo, identity, name):
            return False
        if self._journal is not None and self._journal.has(identity.pseudonym, name):
            return False  # a copy of the photo fared better
        self._output.remove(name)
        return True

    def _is_of_another(self, photo: Photo, identity: Identity, name: Path) -> bool:
        if self._journal is None or self._journal.overwrite or self._output.rename == "hash":
            return False
        return self._journal.is_of_another(name, identity.pseudonym, self._source(photo))

    def _source(self, photo: Photo) -> str:
        place = os.path.abspath(photo.path) if isinstance(photo.path, Path) else str(photo.path)  # noqa: PTH100
        return identify_source(place, self._options.seed)

    def _note(self, photo: Photo, identity: Identity | None, record: Record, **facts: str) -> None:
        """The record's line in the journal: no attributes unless they were asked for, no names if those are hidden."""
        if self._journal is None:
            return
        entry: dict[str, Any] = {"id": identity.pseudonym if identity else None, "status": record.status, **facts}
        if self._output.rename != "hash":
            entry["input"] = str(photo.name)
            if record.status == "ok":
                entry["source"] = self._source(photo)
        if record.status == "ok":
            entry |= {"seed": record.seed, "seconds": round(record.seconds["total"], 3)}
            if self._options.log_attributes:
                entry |= {"attributes": record.attributes, "prompt": record.prompt}
        self._journal.add(entry)
