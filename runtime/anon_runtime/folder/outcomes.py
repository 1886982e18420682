"""The outcome of each photo: its file in the output folder, its line in the journal, and its record."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import AnonError, NoFaceError, PhotoError, RefusedError
from ..guard.trial import FIRST, Attempt, Judged
from ..jobs import face_seed
from ..types import Portrait, Retouched
from .discovery import Photo
from .identity import Identity, identify_source
from .metadata import NOTHING, Metadata
from .notes import Notes, Refusal
from .options import RunOptions
from .records import Person, Record
from .survey import Described
from .writer import Output

REPORT = "please report it"


class Outcomes:
    """The writer of outcomes: portraits, lines of the journal, and records.

    Args:
        output: the place and the format of the portraits.
        options: the options of the run.
        journal: the journal of the output folder; None if no journal is kept.
    """

    def __init__(self, output: Output, options: RunOptions, journal: Notes | None) -> None:
        self._output, self._options, self._journal = output, options, journal

    def recall(self, photo: Photo, identity: Identity, people: str | None = None) -> Record | None:
        """Return the record of a photo whose outcome an earlier run or a person has found, or None if it needs work.

        Args:
            photo: the photo.
            identity: the identity of the photo.
            people: the digest of the people of this run; None without a guard.

        Raises:
            PhotoError: the portrait of another photo has the name of this photo's portrait.
        """
        refusal = self._refusal(photo, identity, people)
        if refusal is None:
            return self._find(photo, identity)
        reason, attempt, similarity = f"{photo.path}: {refusal.reason}", refusal.attempt, refusal.similarity
        record = Record(str(photo.path), None, "refused", reason, identity.seed)
        return self._of(photo, replace(record, attempt=attempt, similarity=similarity))

    def _find(self, photo: Photo, identity: Identity) -> Record | None:
        """Return the record of a photo whose portrait exists already, or None if the portrait has to be generated."""
        name = self._output.name(photo, identity)
        if self._journal is not None and self._journal.has(identity.pseudonym, name):
            seed = self.attempt(photo, identity).seed(identity.seed)
            return self._of(photo, Record(str(photo.path), str(self._output.root / name), "done", None, seed))
        if self._is_of_another(photo, identity, name):
            why = f"{name} is the portrait of another photo of that name"
            raise PhotoError(why, "run them into different folders, or replace it with `overwrite`")
        return None

    def _refusal(self, photo: Photo, identity: Identity, people: str | None) -> Refusal | None:
        """Return the refusal of a photo by a person, or by an earlier run with the same people; None if there was none.

        A refusal by the guard does not count if a file has the name of the photo's portrait: a run among other people,
        or of another photo of this name, has released it, and it has to be looked at.
        """
        refusal = self._journal.refused.get(identity.pseudonym) if self._journal else None
        if refusal is None or refusal.people is None:
            return refusal
        written = os.path.lexists(self._output.root / self._output.name(photo, identity))
        return None if written or refusal.people != people else refusal

    def begin(self, identity: Identity) -> Attempt:
        """Return the first attempt of a photo's trial, which is a later one if a person wanted another portrait.

        Args:
            identity: the identity of the photo.
        """
        return self._journal.begins.get(identity.pseudonym, FIRST) if self._journal else FIRST

    def attempt(self, photo: Photo, identity: Identity) -> Attempt:
        """Return the attempt in which an earlier run painted the portrait of a photo.

        Args:
            photo: the photo.
            identity: the identity of the photo.
        """
        known = self._journal.known.get(str(self._output.name(photo, identity))) if self._journal else None
        return Attempt(known.attempt, known.coarsening) if known else FIRST

    def withdraw(self, photo: Photo, identity: Identity) -> None:
        """Remove the portrait that an earlier run wrote for a photo.

        Args:
            photo: the photo.
            identity: the identity of the photo.

        Raises:
            OutputError: the portrait cannot be removed.
        """
        name = self._output.name(photo, identity)
        if self._journal is not None and self._journal.lists(name) and not self._is_of_another(photo, identity, name):
            self._output.remove(name)
            self._journal.forget(name)

    def write(
        self, photo: Photo, identity: Identity, image: Image.Image, metadata: Metadata = NOTHING
    ) -> tuple[Path, str]:
        """Write the picture of a photo.

        Args:
            photo: the photo.
            identity: the identity of the photo.
            image: the portrait of the photo, or the photo with other faces.
            metadata: what stays of the photo's metadata.

        Returns:
            The name of the picture, relative to the output folder, and the sha256 of its file.

        Raises:
            PhotoError: the name cannot be used, or a file that no run wrote has this name.
            OutputError: the folder cannot be written.
        """
        name = self._output.name(photo, identity)
        ours = self._journal is None or self._journal.overwrite or self._journal.lists(name)
        scratch = self._journal.scratch if self._journal else None
        return name, self._output.write(name, image, scratch, replace=ours, metadata=metadata)

    def succeed(
        self,
        photo: Photo,
        identity: Identity,
        picture: Portrait | Retouched,
        name: Path,
        sha256: str,
        seconds: dict[str, float],
        judged: Sequence[Judged] = (),
    ) -> Record:
        """Add a picture that was written to the journal, and return its record.

        Args:
            photo: the photo.
            identity: the identity of the photo.
            picture: the portrait of the photo, or the photo with other faces.
            name: the name of the picture, relative to the output folder.
            sha256: the sha256 of its file.
            seconds: the time of further stages, which is added to the picture's own time.
            judged: the guard's findings about its faces; empty if the guard is off.

        Raises:
            OutputError: the journal cannot be written.
        """
        path = self._output.root / name
        if isinstance(picture, Retouched):
            record = Record.retouched(picture, str(photo.path), path, identity.seed, seconds)
            facts = _worst(judged) | {"replaced": len(record.people)}
            facts |= {"filled": len(record.filled), "kept": len(record.kept)}
        else:
            record, facts = Record.of(picture, str(photo.path), path, seconds), _worst(judged)
        attempt = {"attempt": record.attempt, "coarsening": record.coarsening} if record.attempt else {}
        self._note(photo, identity, record, output=str(name), sha256=sha256, **(attempt | facts))
        return self._of(photo, record)

    def refuse(self, item: Described, judged: Judged | None, error: RefusedError, people: str) -> Record:
        """Add a photo of which no picture passed the guard to the journal, and return its record.

        An earlier picture of the photo is removed.

        Args:
            item: the photo.
            judged: the last portrait and the guard's finding; None if no portrait was the reason.
            error: the reason.
            people: the digest of the people of this run.

        Raises:
            OutputError: the journal cannot be written, or the earlier picture cannot be removed.
        """
        photo, identity = item.photo, item.identity
        self.withdraw(photo, identity)
        shown = str(error.of(str(photo.path)))
        facts: dict[str, Any] = {"attempt": 0, "coarsening": 0, "cause": "face left", "people": people}
        if judged is None:
            record = Record(str(photo.path), None, "refused", shown, identity.seed)
        else:
            record = Record.refused(judged, str(photo.path), shown, identity.seed)
            facts |= _facts(judged) | {"cause": judged.finding.cause}
        self._note(photo, identity, record, reason=f"{error.why}; {error.fix}", **facts)
        return self._of(photo, record)

    def describe(self, item: Described) -> Record:
        """Return the record of a photo that is only described.

        Args:
            item: the photo.
        """
        source, seed = str(item.photo.path), item.identity.seed
        if not self.in_place:
            return self._of(item.photo, Record.described(item.description, source, seed))
        people = tuple(
            Person(face_seed(seed, i), one.prompt, one.negative_prompt, one.attributes, one.face)
            for i, one in enumerate(item.cast.people)
        )
        filled, kept = (tuple(face.box for face in faces) for faces in (item.cast.filled, item.cast.kept))
        record = Record(source, None, "ok", None, seed, people=people, filled=filled, kept=kept)
        return self._of(item.photo, record)

    @property
    def in_place(self) -> bool:
        """Whether faces are replaced in place."""
        return self._options.mode == "in-place"

    def _of(self, photo: Photo, record: Record) -> Record:
        """Return a record that says what was to be made of the photo."""
        return replace(record, mode=self._options.mode, number=photo.face or None)

    def fail(self, photo: Photo, identity: Identity | None, error: Exception) -> Record:
        """Add a photo that has no portrait to the journal, and return its record; an earlier portrait of it is removed.

        Args:
            photo: the photo.
            identity: the identity of the photo; None if its content could not be read.
            error: the reason of the failure.

        Raises:
            OutputError: the journal cannot be written, or the earlier portrait cannot be removed.
        """
        stays = "" if self._clear(photo, identity) else "; the file under its portrait's name stays"
        name, journaled = str(photo.path), ""
        match error:
            case PhotoError():
                shown: AnonError = error.of(name)
            case AnonError():
                shown = AnonError(f"{name}: {error.what}", error.why, error.fix)
            case _:
                shown = PhotoError(f"internal error ({type(error).__name__}: {error})", REPORT, name)
                journaled = f"internal error ({type(error).__name__})"  # a library's text may hold the photo's name
        skipped = isinstance(error, NoFaceError) and self._options.no_face == "skip"
        seed = identity.seed if identity else None
        record = Record(name, None, "skipped" if skipped else "error", f"{shown}{stays}", seed)
        self._note(photo, identity, record, reason=f"{journaled or shown.why}; {shown.fix}{stays}")
        return self._of(photo, record)

    def _clear(self, photo: Photo, identity: Identity | None) -> bool:
        """Remove the earlier portrait of a photo that failed; return False if a file has to stay under its name.

        A file stays if no run wrote it, or if it is the portrait of a photo in another place. All files stay if the
        content of the photo is unknown, so that a disk that fails during a run does not cause the loss of portraits. A
        run that only describes photos has neither a journal nor the name of a single portrait, and removes nothing.
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
            return False  # it is the portrait of an identical photo, which succeeded
        self._output.remove(name)
        return True

    def _is_of_another(self, photo: Photo, identity: Identity, name: Path) -> bool:
        if self._journal is None or self._journal.overwrite or self._output.rename == "hash":
            return False
        return self._journal.is_of_another(name, identity.pseudonym, self._source(photo))

    def _source(self, photo: Photo) -> str:
        place = os.path.abspath(photo.path) if isinstance(photo.path, Path) else str(photo.path)  # noqa: PTH100
        return identify_source(place, self._options.seed)

    def _note(self, photo: Photo, identity: Identity | None, record: Record, **facts: Any) -> None:
        """Add the line of a record to the journal.

        The line has attributes only if the options ask for them, and has no names of photos if names are hidden.
        """
        if self._journal is None:
            return
        entry: dict[str, Any] = {"id": identity.pseudonym if identity else None, "status": record.status, **facts}
        if self._output.rename != "hash":
            entry["input"] = str(photo.name)
            if photo.face:
                entry["face"] = photo.face
            if record.status == "ok":
                entry["source"] = self._source(photo)
        if record.status == "ok":
            entry |= {"seed": record.seed, "seconds": round(record.seconds["total"], 3)}
            if self._options.log_attributes:
                entry |= self._described(record)
        self._journal.add(entry)

    def _described(self, record: Record) -> dict[str, Any]:
        """Return what is known about the people of a picture, for the journal."""
        if self.in_place:
            return {"described": [{"attributes": one.attributes, "prompt": one.prompt} for one in record.people]}
        return {"attributes": record.attributes, "prompt": record.prompt}


def _facts(judged: Judged) -> dict[str, Any]:
    """Return the guard's finding for the journal, which holds similarities and no embedding."""
    facts: dict[str, Any] = {"attempt": judged.attempt.number, "coarsening": judged.attempt.coarsening}
    if (found := judged.finding.resemblance) is None:
        return facts
    nearest = None if found.nearest is None else round(found.nearest, 4)
    return facts | {"similarity": round(found.own, 4), "rank": found.rank, "nearest": nearest}


def _worst(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the findings about the faces of a picture for the journal: of each fact, what is nearest to a refusal."""
    found = [_facts(one) for one in judged]
    facts = {}
    for name, worst in {"attempt": max, "coarsening": max, "similarity": max, "rank": min, "nearest": max}.items():
        known = [one[name] for one in found if one.get(name) is not None]
        if known or (found and name == "nearest" and any(name in one for one in found)):
            facts[name] = worst(known) if known else None
    return facts
