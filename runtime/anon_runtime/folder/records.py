"""What became of a photo or a prompt."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from ..types import Attributes, Box, Description, Portrait

Status = Literal["ok", "done", "skipped", "error"]


@dataclass(frozen=True)
class Record:
    """One photo or prompt; a line of what ``anon-run`` prints as JSON.

    Attributes:
        status: ``ok``, ``skipped``, ``error``, or ``done`` for what an earlier run did; only ``ok`` and ``done`` have
            an output.
        reason: why there is no output.
        face: x, y, width, height in pixels of the upright photo.
        seconds: time by stage, and ``total``.
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

    @classmethod
    def of(cls, p: Portrait, source: str | None, output: Path, seconds: dict[str, float]) -> Self:
        """Of a portrait that was written; ``seconds`` are those beside its own."""
        seconds = p.seconds | seconds
        seconds["total"] = sum(seconds.values())
        return cls(source, str(output), "ok", None, p.seed, p.prompt, p.negative_prompt, p.attributes, p.face, seconds)

    @classmethod
    def described(cls, d: Description, source: str | None, seed: int) -> Self:
        """Of a photo that was only described."""
        seconds = d.seconds | ({"total": sum(d.seconds.values())} if d.seconds else {})
        return cls(source, None, "ok", None, seed, d.prompt, d.negative_prompt, d.attributes, d.face, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types, with seconds rounded to milliseconds."""
        return asdict(self) | {"seconds": {stage: round(value, 3) for stage, value in self.seconds.items()}}
