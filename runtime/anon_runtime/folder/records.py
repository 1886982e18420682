"""The record of a run: the result for one photo or prompt."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from ..guard.trial import Judged
from ..types import Attributes, Box, Description, Portrait, Retouched
from .options import RunMode

Status = Literal["ok", "done", "refused", "skipped", "error"]


@dataclass(frozen=True)
class Person:
    """A person whose face was replaced in place; see `Record` for the fields."""

    seed: int
    prompt: str
    negative_prompt: str
    attributes: Attributes | None
    face: Box | None
    attempt: int = 0
    coarsening: int = 0
    similarity: float | None = None

    @classmethod
    def of(cls, p: Portrait) -> Self:
        """Return the person of a portrait.

        Args:
            p: the portrait.
        """
        facts = p.seed, p.prompt, p.negative_prompt, p.attributes, p.face
        return cls(*facts, p.attempt, p.coarsening, p.similarity)


@dataclass(frozen=True)
class Record:
    """The result for one photo or prompt; ``anon-run --json`` prints each record as a line of JSON.

    Attributes:
        input: the path or URL of the photo; None without a photo.
        output: the path of the portrait; only records with the status ``ok`` or ``done`` have one.
        status: ``ok``, ``done`` if an earlier run wrote the portrait, ``refused`` if no attempt passed the guard,
            ``skipped`` or ``error``.
        reason: why there is no portrait; None if there is one.
        seed: the seed of the portrait; None if the photo could not be read.
        prompt: the prompt of the portrait.
        negative_prompt: the negative prompt of the portrait.
        attributes: the attributes of the biggest face.
        face: x, y, width and height of its box, in pixels of the upright photo.
        seconds: the time by stage, and their sum as ``total``.
        attempt: the number of the attempt that it was painted in, from 0; for a refused photo, of the last attempt.
        coarsening: the level of its words; see `anon_runtime.guard.words.coarsen`.
        similarity: the similarity of the portrait to its own original, -1..1; None if the guard has not checked it.
        mode: what was to be made of the photo; see `anon_runtime.folder.options.RunOptions`.
        number: the number of the face in its photo, from 1, the biggest first; None without the mode ``faces``.
        people: the people whose faces were replaced in place, the biggest face first. Attempt, coarsening and
            similarity of the record are then the highest of theirs, and other facts about a face are None.
        filled: the boxes of the faces that were too small to paint and were filled.
        kept: the boxes of the faces that were left as they are, because somebody agreed to it.
    """

    input: str | None
    output: str | None
    status: Status
    reason: str | None
    seed: int | None
    prompt: str | None = None
    negative_prompt: str | None = None
    attributes: Attributes | None = None
    face: Box | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    attempt: int | None = None
    coarsening: int | None = None
    similarity: float | None = None
    mode: RunMode = "portrait"
    number: int | None = None
    people: tuple[Person, ...] = ()
    filled: tuple[Box, ...] = ()
    kept: tuple[Box, ...] = ()

    @property
    def everybody(self) -> tuple[Person, ...]:
        """The people whom the record describes."""
        if self.people or self.attributes is None:
            return self.people
        facts = self.seed or 0, self.prompt or "", self.negative_prompt or "", self.attributes, self.face
        return (Person(*facts, self.attempt or 0, self.coarsening or 0, self.similarity),)

    @classmethod
    def retouched(cls, p: Retouched, source: str, output: Path, seed: int, seconds: dict[str, float]) -> Self:
        """Return the record of a photo in which faces were replaced, and which was written.

        Args:
            p: the photo.
            source: the path or URL of the photo.
            output: the path of the picture.
            seed: the seed of the photo.
            seconds: the time of further stages, which is added to the picture's own time.
        """
        seconds = p.seconds | seconds
        seconds["total"] = sum(seconds.values())
        people = tuple(map(Person.of, p.people))
        similarities = [one.similarity for one in people if one.similarity is not None]
        return cls(
            source,
            str(output),
            "ok",
            None,
            seed,
            seconds=seconds,
            attempt=max((one.attempt for one in people), default=0),
            coarsening=max((one.coarsening for one in people), default=0),
            similarity=max(similarities, default=None),
            people=people,
            filled=p.filled,
            kept=p.kept,
        )

    @classmethod
    def of(cls, p: Portrait, source: str | None, output: Path, seconds: dict[str, float]) -> Self:
        """Return the record of a portrait that was written.

        Args:
            p: the portrait.
            source: the path or URL of the photo; None without a photo.
            output: the path of the portrait.
            seconds: the time of further stages, which is added to the portrait's own time.
        """
        seconds = p.seconds | seconds
        seconds["total"] = sum(seconds.values())
        return cls(
            source,
            str(output),
            "ok",
            None,
            p.seed,
            p.prompt,
            p.negative_prompt,
            p.attributes,
            p.face,
            seconds,
            p.attempt,
            p.coarsening,
            p.similarity,
        )

    @classmethod
    def refused(cls, judged: Judged, source: str, reason: str, seed: int) -> Self:
        """Return the record of a photo of which no portrait passed the guard.

        Args:
            judged: the last portrait.
            source: the path or URL of the photo.
            reason: why it was refused.
            seed: the seed of the photo.
        """
        p, found = judged.portrait, judged.finding.resemblance
        return cls(
            source,
            None,
            "refused",
            reason,
            seed,
            p.prompt,
            p.negative_prompt,
            p.attributes,
            p.face,
            attempt=judged.attempt.number,
            coarsening=judged.attempt.coarsening,
            similarity=None if found is None else found.own,
        )

    @classmethod
    def described(cls, d: Description, source: str | None, seed: int) -> Self:
        """Return the record of a photo, or of given attributes, that was only described.

        Args:
            d: the description.
            source: the path or URL of the photo; None without a photo.
            seed: the seed that a portrait would have.
        """
        seconds = d.seconds | ({"total": sum(d.seconds.values())} if d.seconds else {})
        return cls(source, None, "ok", None, seed, d.prompt, d.negative_prompt, d.attributes, d.face, seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the record in plain JSON types, with seconds rounded to milliseconds."""
        return asdict(self) | {"seconds": {stage: round(value, 3) for stage, value in self.seconds.items()}}
