"""The places of faces in a photo: the region of a face that is replaced, and the picture that is painted for it."""

from dataclasses import dataclass

import numpy as np

from ..faces.detection import Face
from ..faces.geometry import Reals, invert
from ..types import Box, Mask

FACE_SHARE = 0.6  # of the picture's shorter side that the longer side of a face's box takes
# The region's width and height, relative to those of the box. It reaches beyond the ears and the hair line.
MARGINS = 1.44, 1.25
LIFT = 0.04  # of the box's height, by which the region lies above the box's centre, for the hair line
RING = 0.12  # of the picture's shorter side: how far around the region colours are compared

Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Place:
    """The place of a face.

    Attributes:
        face: the face.
        matrix: (2, 3), from coordinates of the photo to those of the picture, in which the face is upright. The centre
            of the first pixel is at one half.
        shape: height and width of the picture, in pixels.
        radii: half of the width and of the height of the region, in pixels of the picture.
    """

    face: Face
    matrix: Reals
    shape: tuple[int, int]
    radii: tuple[float, float]

    @property
    def scale(self) -> float:
        """How many pixels of the picture a pixel of the photo takes."""
        return float(np.hypot(*self.matrix[:, 0]))

    def radius(self, xs: Reals, ys: Reals) -> Reals:
        """Return how far points are from the region's centre; the region ends at 1.

        The region is a superellipse of the exponent 3, which holds the corners of the box.

        Args:
            xs, ys: coordinates of the picture, of any shape.
        """
        height, width = self.shape
        across, down = np.abs(xs - width / 2) / self.radii[0], np.abs(ys - height / 2) / self.radii[1]
        # The exponent is 3; numpy's own powers take ten times as long.
        distance: Reals = np.cbrt(across * across * across + down * down * down)
        return distance

    def window(self, height: int, width: int) -> Window:
        """Return the rows and columns of a photo that hold the region and the ring around it.

        Args:
            height, width: of the photo.
        """
        around = np.array(self.radii) + RING * min(self.shape)
        corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * around + np.array(self.shape[::-1]) / 2
        xs, ys = self.inverse(corners[:, 0], corners[:, 1])
        rows = slice(max(0, int(np.floor(ys.min()))), min(height, int(np.ceil(ys.max())) + 1))
        return rows, slice(max(0, int(np.floor(xs.min()))), min(width, int(np.ceil(xs.max())) + 1))

    def positions(self, window: Window) -> tuple[Reals, Reals]:
        """Return where the pixels of a part of the photo lie in the picture.

        Args:
            window: the part.

        Returns:
            x and y: float64 (rows, columns), for the centres of the pixels.
        """
        ys, xs = (0.5 + np.mgrid[window]).astype(np.float64)
        return _map(self.matrix, xs, ys)

    def inverse(self, xs: Reals, ys: Reals) -> tuple[Reals, Reals]:
        """Return where points of the picture lie in the photo.

        Args:
            xs, ys: coordinates of the picture, of any shape.
        """
        return _map(invert(self.matrix), xs, ys)

    def mask(self) -> Mask:
        """Return which pixels of the picture are replaced: bool (height, width)."""
        ys, xs = np.mgrid[: self.shape[0], : self.shape[1]] + 0.5
        return np.asarray(self.radius(xs, ys) < 1)

    def holds(self, box: Box) -> bool:
        """Return whether the centre of a box lies in the region.

        Args:
            box: x, y, width and height, in pixels of the photo.
        """
        x, y = _map(self.matrix, np.array(box[0] + box[2] / 2), np.array(box[1] + box[3] / 2))
        return bool(self.radius(x, y) < 1)

    def region(self, window: Window) -> Mask:
        """Return which pixels of a part of the photo are replaced: bool (rows, columns).

        Args:
            window: the part.
        """
        return np.asarray(self.radius(*self.positions(window)) < 1)


def find_place(face: Face, shape: tuple[int, int]) -> Place:
    """Return the place of a face.

    Args:
        face: the face.
        shape: height and width of the picture, in pixels.
    """
    x, y, width, height = face.box
    eyes = face.landmarks[1].astype(np.float64) - face.landmarks[0]
    angle = np.arctan2(eyes[1], eyes[0])
    scale = FACE_SHARE * min(shape) / max(width, height)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array(shape[::-1]) / 2 + [0, LIFT * scale * height]
    shift = centre - turn @ [x + width / 2, y + height / 2]
    radii = MARGINS[0] * width * scale / 2, MARGINS[1] * height * scale / 2
    return Place(face, np.column_stack([turn, shift]), shape, radii)


def _map(matrix: Reals, xs: Reals, ys: Reals) -> tuple[Reals, Reals]:
    (a, b, c), (d, e, f) = matrix
    return a * xs + b * ys + c, d * xs + e * ys + f
