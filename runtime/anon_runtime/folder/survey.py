"""The survey of a run with the guard: the descriptions of all originals, kept in little memory until all are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..guard.reference import find_different
from ..guard.words import Frequencies
from ..types import Attributes, Description, Doubles, Floats
from .discovery import Photo
from .identity import Identity

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Described:
    """A photo that was described and whose pixels are no longer in memory.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        description: the description of its biggest face.
    """

    photo: Photo
    identity: Identity
    description: Description


class Survey:
    """The originals of a run. A million of them take about 2 GB; nothing is written to disk.

    Args:
        given: attributes that all photos have; None if they are read from each photo.
    """

    def __init__(self, given: Attributes | None = None) -> None:
        self._given = given
        self._heads: list[tuple[Photo, Identity, str]] = []  # with the ethnicity
        self._numbers, self._embeddings = bytearray(), bytearray()
        self._names: tuple[str, ...] = ()  # of the attributes that are numbers
        self._stages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._heads)

    def add(self, item: Described) -> None:
        """Add a photo.

        Args:
            item: the photo; its description has an embedding, a face and the same attributes as all others.
        """
        description = item.description
        attributes = {} if self._given is not None else dict(description.attributes)
        ethnicity = str(attributes.pop("Ethnic", ""))
        if not self._heads:
            self._names, self._stages = tuple(attributes), tuple(description.seconds)
        seconds = [description.seconds.get(stage, 0.0) for stage in self._stages]
        numbers = [*(float(attributes[name]) for name in self._names), *(description.face or ()), *seconds]
        self._numbers += np.array(numbers, np.float64).tobytes()
        self._embeddings += np.asarray(description.embedding, np.float32).tobytes()
        self._heads.append((item.photo, item.identity, ethnicity))

    @property
    def embeddings(self) -> Floats:
        """float32 (n, d), the embeddings of the photos."""
        return np.frombuffer(self._embeddings, np.float32).reshape(len(self), -1)

    @property
    def having(self) -> dict[str, Flags]:
        """bool (n,), whether each person has an attribute, by attribute."""
        return dict(zip(self._names, (self._table[:, : len(self._names)] > 0.5).T, strict=True))

    @property
    def _table(self) -> Doubles:
        return np.frombuffer(self._numbers, np.float64).reshape(len(self), -1)

    def __iter__(self) -> Iterator[Described]:
        if not self._heads:
            return
        count = len(self._names)
        for (photo, identity, ethnicity), row, embedding in zip(self._heads, self._table, self.embeddings, strict=True):
            numbers = row.tolist()
            attributes: Attributes = dict(self._given or {})
            if self._given is None:
                scores = dict(zip(self._names, numbers[:count], strict=True))
                attributes = {"Ethnic": ethnicity} | scores | {"Age": int(scores["Age"])}
            x, y, width, height, *seconds = numbers[count:]
            stages = dict(zip(self._stages, seconds, strict=True))
            yield Described(photo, identity, Description("", "", attributes, (x, y, width, height), stages, embedding))


def count(surveys: Sequence[Survey]) -> Frequencies:
    """Return how many people of some surveys have each attribute; a photo that is in several of them counts once.

    Args:
        surveys: the surveys, each with at least one photo.
    """
    different = find_different(np.concatenate([survey.embeddings for survey in surveys]))
    having = [survey.having for survey in surveys]
    counts = {name: int(np.concatenate([own[name] for own in having])[different].sum()) for name in having[0]}
    return Frequencies(len(different), counts)
