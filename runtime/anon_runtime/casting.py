"""What becomes of each face of a photo: another one is painted, it is filled, or it is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .bundle.identity import Calibration
from .errors import NoFaceError, PhotoError
from .faces.decoding import Decoded
from .faces.detection import Face
from .faces.reader import FaceReader
from .faces.search import intersection, overlap
from .guard.thresholds import find_threshold, lowest_carried_rate
from .types import Box, Description, Floats

SMALLEST = 16  # pixels; the shorter side of a face below which nothing can be read from it
KEEP_RATE = 1e-4  # how often somebody else may count as one of the people who are kept, all of them together
MATCH = 0.3  # the intersection over union from which on a face that was found is the one in a given box


@dataclass(frozen=True)
class Cast:
    """What becomes of the faces of a photo.

    Attributes:
        people: the descriptions of those for whom another face is painted, the biggest first.
        filled: faces that are filled with the colours around them, since they cannot be described.
        kept: faces that stay as they are.
    """

    people: tuple[Description, ...]
    filled: tuple[Face, ...] = ()
    kept: tuple[Face, ...] = ()

    @property
    def removed(self) -> list[Face]:
        """The faces of which nothing stays: those of the people, and then those that are filled."""
        return [*map(face_of, self.people), *self.filled]


@dataclass(frozen=True)
class Agreed:
    """The people who agreed to be shown.

    Attributes:
        embeddings: float32 (n, d), one row for each of their faces.
        limit: the similarity from which on a face counts as one of theirs, -1..1.
    """

    embeddings: Floats
    limit: float

    def has(self, description: Description) -> bool:
        """Return whether a face is that of one of them.

        Args:
            description: the description of the face, with an embedding.
        """
        embedding = description.embedding
        return embedding is not None and bool((self.embeddings @ embedding).max() >= self.limit)


def agree(embeddings: Floats, calibration: Calibration) -> Agreed:
    """Return the people who agreed to be shown, with a strict limit: the upper end of the threshold's interval.

    Args:
        embeddings: float32 (n, d), one or more rows, one for each of their faces.
        calibration: the similarities of different people.
    """
    rate = max(KEEP_RATE / len(embeddings), lowest_carried_rate(calibration))
    return Agreed(embeddings, find_threshold(calibration, rate).high)


def cast_portraits(reader: FaceReader, photo: Decoded) -> Cast:
    """Return the cast of a photo of which each face gets a portrait, except for faces that are too small to describe.

    Args:
        reader: the face reader.
        photo: the photo.

    Raises:
        NoFaceError: no face was found that can be described.
        GenerationError, BackendError, BundleError: see `FaceReader.describe_faces`.
    """
    smallest = max(SMALLEST, reader.options.min_face)
    people = reader.describe_faces(photo, smallest=smallest).people
    if not people:
        why = f"no face of {smallest} pixels or more was found in it"
        raise NoFaceError(why, "use a photo that shows one, or lower `detection_threshold`")
    return Cast(people)


def cast_faces(
    reader: FaceReader, photo: Decoded, *, agreed: Agreed | None = None, boxes: Sequence[Box] | None = None
) -> Cast:
    """Decide what becomes of each face of a photo.

    Args:
        reader: the face reader.
        photo: the photo.
        agreed: people whose faces are kept; None if there are none.
        boxes: x, y, width and height of the only faces that are replaced, in pixels of the upright photo; None replaces
            all that are found. A box in which no face is found is filled.

    Raises:
        PhotoError: the photo is so large that it was reduced, so that it could not be kept as it is; or a box lies
            outside of it.
        NoFaceError: no face was found.
        GenerationError, BackendError, BundleError: see `FaceReader.describe_faces`.
    """
    if photo.reduction > 1:
        why = "it is too large to be kept pixel by pixel"
        raise PhotoError(why, "scale it down to 67 megapixels first, or make portraits of its faces")
    height, width = photo.pixels.shape[:2]
    for box in boxes or ():
        if not intersection(box, (0, 0, width, height)):
            why = f"`only_box` {','.join(f'{side:g}' for side in box)} lies outside of its {width} x {height} pixels"
            raise PhotoError(why, "give x,y,width,height in pixels of the upright photo")
    found = reader.describe_faces(photo, smallest=max(SMALLEST, reader.options.min_face), careful=True)
    if boxes is not None:
        return _choose(found.people, found.others, boxes)
    if not found.people and not found.others:
        raise NoFaceError("no face was found in it", "use a photo that shows one, or lower `detection_threshold`")
    keeps = [agreed is not None and agreed.has(one) for one in found.people]
    people = tuple(one for one, keep in zip(found.people, keeps, strict=True) if not keep)
    kept = tuple(face_of(one) for one, keep in zip(found.people, keeps, strict=True) if keep)
    return Cast(people, found.others, kept)


def _choose(people: Iterable[Description], others: Iterable[Face], boxes: Sequence[Box]) -> Cast:
    """The cast if only faces in given boxes are replaced."""
    free, chosen, kept, filled = list(boxes), list[Description](), list[Face](), list[Face]()
    for one in people:
        box = next((box for box in free if overlap(face_of(one).box, box) >= MATCH), None)
        if box is None:
            kept.append(face_of(one))
        else:
            free.remove(box)
            chosen.append(one)
    kept += [face for face in others if not any(overlap(face.box, box) >= MATCH for box in free)]
    filled += [Face(box, 1.0, _level(box)) for box in free]
    return Cast(tuple(chosen), tuple(filled), tuple(kept))


def _level(box: Box) -> Floats:
    """The landmarks of an upright face in a box, of which only the direction of the eyes matters."""
    x, y, width, height = box
    return np.array([[x, y], [x + width, y], [x, y], [x, y + height], [x + width, y + height]], np.float32)


def face_of(description: Description) -> Face:
    """Return the face of a description.

    Args:
        description: the description of a face in a photo.
    """
    if description.face is None or description.landmarks is None:
        raise RuntimeError("attributes that were not read from a photo have no face")
    return Face(description.face, 1.0, description.landmarks)
