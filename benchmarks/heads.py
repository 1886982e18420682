"""Heads that are cut out of photos and put into pictures, turned and scaled, also behind a bar."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from anon_runtime.faces.geometry import Reals, invert, reduce
from anon_runtime.scene.places import Window
from anon_runtime.types import Box, Mask, Pixels

# The head, relative to the face's box: an ellipse with the hair, whose edge is soft.
HEAD, LIFT, SOFT = 1.35, 0.1, 0.15
EDGE = 10  # pixels of a photo, within which a cut-out fades at the photo's border


@dataclass(frozen=True, eq=False)
class Person:
    """A photo of one person.

    Attributes:
        name: of the file, without the extension.
        pixels: uint8 (height, width, 3), RGB.
        box: of the face.
    """

    name: str
    pixels: Pixels
    box: Box


@dataclass(frozen=True)
class Bar:
    """A bar in front of a face.

    Attributes:
        normal: direction across the bar, as a unit vector in units of the face's radii.
        middle, half: where its middle line lies along this direction, and half of its width.
        colour: RGB.
    """

    normal: tuple[float, float]
    middle: float
    half: float
    colour: tuple[int, int, int]

    def covers(self, xs: Reals, ys: Reals) -> Mask:
        """Return which points the bar covers.

        Args:
            xs, ys: relative to the face's centre, in units of its radii.
        """
        return np.asarray(np.abs(self.normal[0] * xs + self.normal[1] * ys - self.middle) < self.half)


@dataclass(frozen=True, eq=False)
class Pose:
    """A person at a place of a picture.

    Attributes:
        person: the person.
        matrix: (2, 3), from coordinates of the person's photo to those of the picture; the centre of the first pixel is
            at one half.
        angle: of the face, in degrees; clockwise is positive.
        bar: in front of the face, if there is one.
    """

    person: Person
    matrix: Reals
    angle: float
    bar: Bar | None

    @property
    def area(self) -> float:
        """The area of the face in pixels of the picture: of the ellipse that its box holds."""
        return float(np.pi / 4 * self.person.box[2] * self.person.box[3] * np.linalg.det(self.matrix[:, :2]))

    def corners(self, grow: float = 1) -> Reals:
        """Return the corners (2, 2), as x and y, of the box around the face as it lies in the picture.

        Args:
            grow: the factor of the face's size.
        """
        x, y, w, h = self.person.box
        centre = self.matrix @ [x + w / 2, y + h / 2, 1]
        half: Reals = grow * np.hypot(*(self.matrix[:, :2] * [w / 2, h / 2]).T)
        return np.stack([centre - half, centre + half])

    def back(self, xs: Reals, ys: Reals) -> tuple[Reals, Reals]:
        """Return where points of the picture lie in the person's photo."""
        (a, b, c), (d, e, f) = invert(self.matrix)
        return a * xs + b * ys + c, d * xs + e * ys + f

    def window(self, height: int, width: int) -> Window:
        """Return the rows and columns of a picture that hold the head."""
        (left, top), (right, bottom) = self.corners(HEAD + LIFT + SOFT)
        rows = slice(min(height, max(0, int(top))), max(0, min(height, int(bottom) + 1)))
        return rows, slice(min(width, max(0, int(left))), max(0, min(width, int(right) + 1)))

    def face(self, window: Window) -> Mask:
        """Return which pixels of a part of the picture show the face, if nothing else hides it."""
        across, down = relative(self.person.box, *self._back(window))
        shown = across * across + down * down < 1
        return shown if self.bar is None else shown & ~self.bar.covers(across, down)

    def head(self, window: Window) -> Mask:
        """Return which pixels of a part of the picture the head covers, with its soft edge."""
        xs, ys = self._back(window)
        height, width = self.person.pixels.shape[:2]
        across, down = relative(self.person.box, xs, ys)
        near = across * across + (down + LIFT) ** 2 < (HEAD * (1 + SOFT / 2)) ** 2
        return np.asarray(near & (xs > 0) & (xs < width) & (ys > 0) & (ys < height))

    def _back(self, window: Window) -> tuple[Reals, Reals]:
        ys, xs = 0.5 + np.mgrid[window].astype(np.float64)
        return self.back(xs, ys)


def relative(box: Box, xs: Reals, ys: Reals) -> tuple[Reals, Reals]:
    """Return points of a photo relative to the centre of a box, in units of half of its width and height."""
    x, y, w, h = box
    return (xs - x - w / 2) / (w / 2), (ys - y - h / 2) / (h / 2)


def make_bar(rng: np.random.Generator, shares: tuple[float, float]) -> Bar:
    """Make a bar that hides a part of a face, any part of it.

    Args:
        rng: decides about everything.
        shares: the smallest and the largest share of the face.
    """
    ys, xs = np.mgrid[-1:1:64j, -1:1:64j]
    disc = np.hypot(xs, ys) < 1
    turn, middle, share = rng.uniform(0, np.pi), rng.uniform(-0.7, 0.7), rng.uniform(*shares)
    normal = float(np.cos(turn)), float(np.sin(turn))
    half = float(np.quantile(np.abs(normal[0] * xs + normal[1] * ys - middle)[disc], share))
    red, green, blue = rng.integers(20, 236, 3).tolist()
    return Bar(normal, float(middle), half, (red, green, blue))


def paste(picture: Image.Image, pose: Pose) -> None:
    """Put a head into a picture.

    Args:
        picture: RGB; it is changed.
        pose: of the head.
    """
    cut = _cut_out(pose.person, pose.bar)
    scale = float(np.hypot(*pose.matrix[:, 0]))
    size = max(1, round(cut.width * scale)), max(1, round(cut.height * scale))
    scaled = cut.resize(size, Image.Resampling.LANCZOS)  # which leaves out detail that would become noise
    rows, columns = pose.window(picture.height, picture.width)
    to_scaled = np.diag([size[0] / cut.width, size[1] / cut.height]) @ invert(pose.matrix)
    to_scaled[:, 2] += to_scaled[:, :2] @ [columns.start, rows.start]
    shape = columns.stop - columns.start, rows.stop - rows.start
    turned = scaled.transform(shape, Image.Transform.AFFINE, tuple(to_scaled.ravel()), Image.Resampling.BICUBIC)
    picture.paste(turned.convert("RGB"), (columns.start, rows.start), turned.getchannel("A"))


def straighten(pixels: Pixels, pose: Pose) -> Pixels:
    """Return the picture around a face, turned and scaled back to the size and the place in the person's photo.

    Args:
        pixels: uint8 (height, width, 3), RGB, the composite, or what a method made of it.
        pose: of the face.
    """
    height, width = pose.person.pixels.shape[:2]
    factor = max(1, int(np.hypot(*pose.matrix[:, 0])))
    smaller = Image.fromarray(reduce(np.ascontiguousarray(pixels), factor))
    matrix = tuple((pose.matrix / factor).ravel())
    return np.asarray(
        smaller.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC), np.uint8
    )


def _cut_out(person: Person, bar: Bar | None) -> Image.Image:
    """A person's photo as RGBA, in which only the head and the bar in front of it can be seen."""
    height, width = person.pixels.shape[:2]
    ys, xs = 0.5 + np.mgrid[:height, :width].astype(np.float64)
    across, down = relative(person.box, xs, ys)
    border = np.minimum(np.minimum(xs, width - xs), np.minimum(ys, height - ys)) / EDGE
    opacity = np.minimum(_opacity(across, down), np.clip(border, 0, 1))
    colours = person.pixels.copy()
    if bar is not None:
        colours[bar.covers(across, down)] = bar.colour
    return Image.fromarray(np.dstack([colours, np.rint(255 * opacity).astype(np.uint8)]), "RGBA")


def _opacity(across: Reals, down: Reals) -> Reals:
    """How much of points belongs to the head, 0..1; see `relative` for the arguments."""
    radius = np.hypot(across, down + LIFT) / HEAD
    share: Reals = np.clip((1 + SOFT / 2 - radius) / SOFT, 0, 1)
    return share
