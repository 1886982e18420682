"""The summary of a run with the guard, which the journal keeps, so that the report can be made from the journal alone.

The summary holds settings, versions and totals. It holds no attribute, no prompt, no embedding and no name of a photo,
since all of these are personal data.
"""

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from .alike import Alike
from .anonymity import KAnonymity
from .groups import Grouping
from .options import Mode
from .thresholds import Threshold

Ending = Literal["finished", "stopped", "failures"]


@dataclass(frozen=True)
class GuardFacts:
    """What the guard was asked for, and what it could do.

    Attributes:
        mode: ``strict`` refuses portraits, ``report`` only measures, ``off`` does nothing.
        network: the name of the face-recognition network; None if the bundle has none.
        fmr: the false match rate that was asked for, 0..1.
        attempts: the largest number of attempts for a photo.
        min_rank: a portrait is refused if its own original is among this many nearest originals; 0 turns it off.
        effective_min_rank: the same as it was applied; 0 if there were too few originals to compare with.
        best_of: the number of portraits that pass of which the best one is kept.
    """

    mode: Mode
    network: str | None
    fmr: float
    attempts: int
    min_rank: int
    effective_min_rank: int
    best_of: int


@dataclass(frozen=True)
class Gallery:
    """The pictures of people who must never appear.

    Attributes:
        photos: the number of files.
        faces: the number of faces that were compared with.
        unreadable: the number of files that could not be read.
        without_face: the number of files in which no face was found.
    """

    photos: int
    faces: int
    unreadable: int
    without_face: int


@dataclass(frozen=True)
class Different:
    """The similarities of different people, from the calibration of the network.

    Attributes:
        data: the name of the set of faces.
        people: the number of people.
        pairs: the number of pairs of different people.
        histogram: the number of pairs by similarity, in bins of equal width over -1..1.
    """

    data: str
    people: int
    pairs: int
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Engines:
    """The engines of a run.

    Attributes:
        bundle: the name of the bundle.
        target: the library that runs the engines.
        files: the sha256 of each engine's file by role.
    """

    bundle: str
    target: str
    files: dict[str, str]


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        started: the time of the start, in ISO 8601.
        ended: the time of the end, in ISO 8601.
        ending: why it ended: ``finished``, ``stopped`` or ``failures``; see `anon_runtime.folder.run.Summary`.
        found: the number of photos that the run was given.
        counts: the number of photos by their status in this run: ``ok``, ``done``, ``refused``, ``skipped``, ``error``.
        versions: the versions of packages by name.
        engines: the engines.
        seconds: the time by stage.
        guard: the settings of the guard.
        originals: the number of photos of the run whose face has an embedding.
        gallery: the gallery; None if there is none.
        own: the threshold of a portrait and its own original; None if there is none.
        others: the threshold of a portrait and all other people; None if there is none.
        different: the similarities of different people; None if the network has no calibration.
        alike: the released portraits that are alike; None if they were not compared.
        words: the k-anonymity of the words of the released portraits; None if they were not counted.
        uncoarsened: the k-anonymity that the words of their first attempts have.
        groups: the decisions by groups.
    """

    started: str
    ended: str
    ending: Ending
    found: int
    counts: dict[str, int]
    versions: dict[str, str]
    engines: Engines
    seconds: dict[str, float]
    guard: GuardFacts
    originals: int = 0
    gallery: Gallery | None = None
    own: Threshold | None = None
    others: Threshold | None = None
    different: Different | None = None
    alike: Alike | None = None
    words: KAnonymity | None = None
    uncoarsened: KAnonymity | None = None
    groups: tuple[Grouping, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as the value of a journal's line."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Return the summary that a line of a journal holds.

        Args:
            data: the result of `to_dict`, after a way through JSON.

        Raises:
            ValueError: a field is missing, is unknown, or has a wrong type; the line is of another version.
        """
        summary: Self = _read(cls, data)
        return summary


def _read(hint: Any, data: Any) -> Any:
    """Return a value of a type from its JSON form.

    Raises:
        ValueError: the JSON form is that of another type.
    """
    kinds = get_args(hint)
    if is_dataclass(hint) and isinstance(data, Mapping):
        hints = get_type_hints(hint)
        needed = {one.name for one in fields(hint)}
        if needed != set(data):
            raise ValueError(f"the fields of {hint} are {sorted(needed)}, not {sorted(data)}")
        return hint(**{name: _read(hints[name], value) for name, value in data.items()})  # type: ignore[operator]
    if get_origin(hint) is types.UnionType:  # X | None
        return None if data is None else _read(kinds[0], data)
    if get_origin(hint) is Literal and data in kinds:
        return data
    if get_origin(hint) is tuple and isinstance(data, list):
        return tuple(_read(kinds[0], value) for value in data)
    if get_origin(hint) is dict and isinstance(data, Mapping):
        return {name: _read(kinds[1], value) for name, value in data.items()}
    allowed = (float, int) if hint is float else hint
    if hint in (bool, int, float, str) and isinstance(data, allowed) and (hint is bool or not isinstance(data, bool)):
        return data
    raise ValueError(f"{data!r} is no {hint}")
