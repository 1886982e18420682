"""The survey of a run with the guard: the descriptions of all originals, kept in little memory until all are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..casting import Cast, face_of
from ..faces.detection import Face
from ..guard.reference import find_different
from ..guard.words import Frequencies
from ..types import Attributes, Description, Doubles, Floats
from .discovery import Photo
from .identity import Identity

Flags = NDArray[np.bool_]
Faces = tuple[Face, ...]


@dataclass(frozen=True)
class Described:
    """A photo that was described and whose pixels are no longer in memory.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        cast: what becomes of its faces. A portrait is that of the only person of a cast.
    """

    photo: Photo
    identity: Identity
    cast: Cast

    @property
    def description(self) -> Description:
        """The description of the only person."""
        (description,) = self.cast.people
        return description


class Survey:
    """The originals of a run. A million of them take about 2 GB; nothing is written to disk.

    Args:
        given: attributes that all photos have; None if they are read from each photo.
    """

    def __init__(self, given: Attributes | None = None) -> None:
        self._given = given
        self._heads: list[tuple[Photo, Identity, Faces, Faces]] = []  # with the faces that are filled and kept
        self._ethnicities: list[tuple[str, ...]] = []  # of the people of each photo
        self._people = 0
        self._numbers, self._embeddings = bytearray(), bytearray()
        self._names: tuple[str, ...] = ()  # of the attributes that are numbers
        self._stages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self._people

    def add(self, item: Described) -> None:
        """Add a photo.

        Args:
            item: the photo; the descriptions of its people have embeddings, faces, landmarks and the same attributes as
                all others.
        """
        self._heads.append((item.photo, item.identity, item.cast.filled, item.cast.kept))
        self._ethnicities.append(tuple(map(self._add, item.cast.people)))

    def _add(self, description: Description) -> str:
        """Add a person, and return the ethnicity."""
        attributes = {} if self._given is not None else dict(description.attributes)
        ethnicity = str(attributes.pop("Ethnic", ""))
        if not self._people:
            self._names, self._stages = tuple(attributes), tuple(description.seconds)
        face = face_of(description)
        seconds = [description.seconds.get(stage, 0.0) for stage in self._stages]
        numbers = [*(float(attributes[name]) for name in self._names), *face.box, *face.landmarks.ravel(), *seconds]
        self._numbers += np.array(numbers, np.float64).tobytes()
        self._embeddings += np.asarray(description.embedding, np.float32).tobytes()
        self._people += 1
        return ethnicity

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
        people = iter(zip(self._table, self.embeddings, strict=True)) if self._people else iter(())
        for (photo, identity, filled, kept), ethnicities in zip(self._heads, self._ethnicities, strict=True):
            cast = tuple(self._describe(ethnicity, *next(people)) for ethnicity in ethnicities)
            yield Described(photo, identity, Cast(cast, filled, kept))

    def _describe(self, ethnicity: str, row: Doubles, embedding: Floats) -> Description:
        count, numbers = len(self._names), row.tolist()
        attributes: Attributes = dict(self._given or {})
        if self._given is None:
            scores = dict(zip(self._names, numbers[:count], strict=True))
            attributes = {"Ethnic": ethnicity} | scores | {"Age": int(scores["Age"])}
        x, y, width, height = numbers[count : count + 4]
        landmarks = row[count + 4 : count + 14].reshape(5, 2).astype(np.float32)
        stages = dict(zip(self._stages, numbers[count + 14 :], strict=True))
        return Description("", "", attributes, (x, y, width, height), stages, embedding, landmarks)


def count(surveys: Sequence[Survey]) -> Frequencies:
    """Return how many people of some surveys have each attribute; a photo that is in several of them counts once.

    Args:
        surveys: the surveys, each with at least one photo.
    """
    different = find_different(np.concatenate([survey.embeddings for survey in surveys]))
    having = [survey.having for survey in surveys]
    counts = {name: int(np.concatenate([own[name] for own in having])[different].sum()) for name in having[0]}
    return Frequencies(len(different), counts)
