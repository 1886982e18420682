"""The search for every face of a photo: in the whole photo, and in tiles of it, in which small faces are larger."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..types import Box, Engine, Pixels
from .detection import SIDE, Detector, Face, detect

LEVELS = (1280, 2560)  # pixels of the longer side; a tile is what the detector sees of the photo at this size
OVERLAP = 0.25  # of the side of a tile: smaller faces lie completely in one of the tiles
LARGEST = 2  # how much larger than in the photo a face may be shown: small ones are found more often
GAIN = 1.25  # how much larger faces have to be than at the level before, so that looking once more is worth it
SAME = 0.3  # the intersection over union from which on two boxes are one face
WITHIN = 0.8  # the share of a box in a larger one from which on it is a part of that face


def find_faces(
    engine: Engine, detector: Detector, photo: Pixels, threshold: float, *, role: str = "face_detector"
) -> list[Face]:
    """Find all faces of a photo, also those that are too small for the detector in the whole photo.

    Tiles go through the network one by one, so that what is found does not depend on the memory for a batch.

    Args:
        engine: the engine of the detection network.
        detector: the pre- and post-processing of the engine.
        photo: uint8 (height, width, 3), RGB.
        threshold: the lowest score of a face, 0..1.
        role: the role of the engine in the bundle, for messages.

    Returns:
        The faces, the biggest first.

    Raises:
        GenerationError: the engine returned NaN or infinity.
    """
    found = detect(engine, detector, [photo], threshold, role=role)[0]
    for rows, columns in tiles(*photo.shape[:2]):
        tile = np.ascontiguousarray(photo[rows, columns])
        for face in detect(engine, detector, [tile], threshold, role=role)[0]:
            found.append(_move(face, columns.start, rows.start))
    return merge(found)


def tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of the tiles of a photo, for all levels that show more than the level before.

    Args:
        height, width: of the photo, in pixels.
    """
    longer = max(height, width)
    for before, level in pairwise((SIDE, *LEVELS)):
        size = min(level, LARGEST * longer)
        if size < GAIN * before:
            return
        side = round(SIDE * longer / size)
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def merge(faces: Sequence[Face]) -> list[Face]:
    """Return faces without repetitions, the biggest first; of two boxes of one face, the larger one stays.

    Args:
        faces: the faces that were found in a photo and in its tiles.
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.area, face.box)):
        if not any(_is_part(face, larger) for larger in kept):
            kept.append(face)
    return kept


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - OVERLAP)))) + 1
    return [int(start) for start in np.linspace(0, length - side, count).round()]


def _move(face: Face, left: int, top: int) -> Face:
    x, y, width, height = face.box
    moved = face.landmarks + np.array([left, top], np.float32)
    return replace(face, box=(x + left, y + top, width, height), landmarks=moved)


def _is_part(face: Face, larger: Face) -> bool:
    return intersection(face.box, larger.box) >= WITHIN * face.area or overlap(face.box, larger.box) >= SAME


def intersection(one: Box, other: Box) -> float:
    """Return the area that two boxes share, in square pixels.

    Args:
        one, other: x, y, width and height.
    """
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, 0..1; 0 if both have no area.

    Args:
        one, other: x, y, width and height.
    """
    shared = intersection(one, other)
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if union else 0.0
