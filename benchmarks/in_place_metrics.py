"""What became of the faces of a composite, read from pixels, without asking the method that made the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from anon_runtime.faces.search import overlap
from anon_runtime.types import Box, Mask, Pixels

from .composites import Composite, TrueFace
from .heads import relative

OVERLAP = 0.3  # intersection over union from which on two boxes are of the same face
MIDDLE = 0.5  # of the face's radii: a face is touched if most of its pixels that can be seen there have changed
REACH = 0.85  # of the longer side of a box: how far from its centre a method may change pixels
BAND = 2, 3  # pixels outside and inside of the border of a region
SPECK = 64  # pixels; smaller regions have no border to look at

Fate = Literal["replaced", "removed", "untouched"]


@dataclass(frozen=True)
class Outcome:
    """What became of a face.

    Attributes:
        fate: ``replaced`` if a new face was painted in its place, ``removed`` if it is gone, and else ``untouched``.
        left: the share of its pixels, of those that can be seen, which are still the same, 0..1.
    """

    fate: Fate
    left: float


@dataclass(frozen=True)
class Seam:
    """How sharp a picture is along the borders of what was changed.

    Attributes:
        before, after: sums of the gradient's magnitude over all pixels of the bands, in grey values per pixel.
        pixels: the number of these pixels.
    """

    before: float
    after: float
    pixels: int


def match(boxes: Sequence[Box], found: Sequence[Box]) -> dict[int, int]:
    """Return the index of the found box for each box that has one, each of them once, with the most overlap in total.

    Args:
        boxes: of true faces.
        found: by a detector, or painted.
    """
    table = np.array([[overlap(box, other) for other in found] for box in boxes]).reshape(len(boxes), len(found))
    pairs = zip(*linear_sum_assignment(np.where(table >= OVERLAP, table, 0), maximize=True), strict=True)
    return {int(row): int(column) for row, column in pairs if table[row, column] >= OVERLAP}


def changed(before: Pixels, after: Pixels) -> Mask:
    """Return which pixels (height, width) are not the same."""
    return np.asarray((before != after).any(axis=-1))


def outcomes(composite: Composite, output: Pixels, painted: Sequence[Box]) -> list[Outcome]:
    """Return what became of each face.

    Args:
        composite: the input.
        output: uint8, of the same shape.
        painted: boxes of the faces that the method says it has painted.
    """
    other = changed(composite.pixels, output)
    pairs = match([face.box for face in composite.faces], painted)
    found = []
    for index, face in enumerate(composite.faces):
        seen = composite.seen(index)
        middle = seen & _middle(face, *seen.shape)
        touched = other[middle if middle.any() else seen].mean() > 0.5
        fate: Fate = "untouched" if not touched else "replaced" if index in pairs else "removed"
        found.append(Outcome(fate, float(1 - other[seen].mean())))
    return found


def changed_outside(composite: Composite, output: Pixels, painted: Sequence[Box]) -> int:
    """Return how many pixels have changed far from all faces.

    Pixels may change within a disc around the centre of each true face and of each box that the method says it has
    painted. Its radius is `REACH` times the longer side of the face's box.

    Args:
        composite: the input.
        output: uint8, of the same shape.
        painted: boxes of the faces that the method says it has painted.
    """
    height, width = output.shape[:2]
    ys, xs = 0.5 + np.mgrid[:height, :width]
    allowed = np.zeros((height, width), np.bool_)
    whole = [face.pose.corners() for face in composite.faces]
    others = [np.array([[x, y], [x + w, y + h]]) for x, y, w, h in painted]
    for corners in (*whole, *others):
        x, y = corners.mean(axis=0)
        allowed |= np.hypot(xs - x, ys - y) <= REACH * (corners[1] - corners[0]).max()
    return int((changed(composite.pixels, output) & ~allowed).sum())


def seam(before: Pixels, after: Pixels) -> Seam:
    """Return how sharp both pictures are along the borders of what was changed.

    A region is what has changed, with its holes closed and without specks. The band is 5 pixels wide: those within 2
    pixels outside and 3 pixels inside of the region's border. The border of the picture is none. The gradient is that
    of the grey values, by central differences.

    Args:
        before, after: uint8 (height, width, 3), RGB.
    """
    closed = ndimage.binary_closing(np.pad(changed(before, after), 4), iterations=2)[4:-4, 4:-4]
    labels, count = ndimage.label(ndimage.binary_fill_holes(closed))
    region = np.isin(labels, 1 + np.flatnonzero(np.bincount(labels.ravel(), minlength=count + 1)[1:] >= SPECK))
    outer = ndimage.binary_dilation(region, iterations=BAND[0])
    band = outer & ~ndimage.binary_erosion(region, iterations=BAND[1], border_value=1)
    first, second = (np.hypot(*np.gradient(_grey(picture)))[band].sum() for picture in (before, after))
    return Seam(float(first), float(second), int(band.sum()))


def _grey(pixels: Pixels) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L"), np.float32)


def _middle(face: TrueFace, height: int, width: int) -> Mask:
    """The pixels within `MIDDLE` of the face's radii."""
    ys, xs = 0.5 + np.mgrid[:height, :width].astype(np.float64)
    return np.asarray(np.hypot(*relative(face.pose.person.box, *face.pose.back(xs, ys))) < MIDDLE)
