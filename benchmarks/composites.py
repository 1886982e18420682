"""Pictures of known people at known places: faces that are cut out of photos, put into photographs without people.

The backgrounds are photographs that scikit-image and scikit-learn ship; nothing is downloaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anon_runtime.errors import UsageError
from anon_runtime.faces.decoding import read_photo
from anon_runtime.faces.detection import Face
from anon_runtime.faces.geometry import Reals, invert, reduce
from anon_runtime.folder.discovery import find_photos
from anon_runtime.scene.places import Window
from anon_runtime.types import Box, Mask, Pixels

BACKGROUNDS = {
    "skimage": ("coffee.png", "rocket.jpg", "motorcycle_left.png", "brick.png", "grass.png"),
    "sklearn.datasets": ("china.jpg", "flower.jpg"),
}
FOLDERS = {"skimage": "data", "sklearn.datasets": "images"}
SIDES = (640, 960, 1280)  # of a picture's longer side, in pixels
MOST = 12  # faces of a picture
SIZES = 0.03, 0.6  # of a face's longer side, as a share of the picture's longer side
ANGLE = 45  # degrees, the largest in both directions
HIDDEN = 0.1, 0.4  # shares of a face that a bar, another face or the frame hides
TRIES = 40  # for a place, until the face is made smaller
SHRINK = 0.8

# The head, relative to the face's box: an ellipse with the hair, whose edge is soft.
HEAD, LIFT, SOFT = 1.35, 0.1, 0.15
EDGE = 10  # pixels of a photo, within which a cut-out fades at the photo's border

Fate = Literal["free", "bar", "before another", "cut by the frame"]
FATES: tuple[Fate, ...] = get_args(Fate)
CHANCES = 0.55, 0.15, 0.15, 0.15


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


@dataclass(frozen=True)
class TrueFace:
    """What is known about a face of a picture.

    Attributes:
        person: its index among the people.
        box: around the part of it that lies inside the picture, in pixels.
        angle: in degrees; clockwise is positive.
        hidden: the share of it that a bar, other faces and the frame hide, 0..1.
        pose: how it was put there.
    """

    person: int
    box: Box
    angle: float
    hidden: float
    pose: Pose


@dataclass(frozen=True, eq=False)
class Composite:
    """A picture and the truth about it.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        faces: from the smallest to the largest; what comes later lies before what comes earlier.
        owners: uint8 (height, width), for each pixel 0, or 1 + the index of the face that it shows.
    """

    pixels: Pixels
    faces: tuple[TrueFace, ...]
    owners: Pixels

    def seen(self, index: int) -> Mask:
        """Return the pixels (height, width) that show a face."""
        return np.asarray(self.owners == index + 1)


def relative(box: Box, xs: Reals, ys: Reals) -> tuple[Reals, Reals]:
    """Return points of a photo relative to the centre of a box, in units of half of its width and height."""
    x, y, w, h = box
    return (xs - x - w / 2) / (w / 2), (ys - y - h / 2) / (h / 2)


def _opacity(across: Reals, down: Reals) -> Reals:
    """How much of points belongs to the head, 0..1; see `relative` for the arguments."""
    radius = np.hypot(across, down + LIFT) / HEAD
    share: Reals = np.clip((1 + SOFT / 2 - radius) / SOFT, 0, 1)
    return share


def read_people(folder: Path, detect: Callable[[Pixels], Sequence[Face]]) -> list[Person]:
    """Read photos of one person each. Photos in which not exactly one face is found are left out.

    Args:
        folder: with the photos.
        detect: returns the faces of a photo.

    Raises:
        UsageError: there are no such photos.
    """
    people = []
    for photo in find_photos([folder]):
        pixels = read_photo(Path(str(photo.path)))
        found = detect(pixels)
        if len(found) == 1:
            people.append(Person(photo.name.stem, pixels, found[0].box))
    if not people:
        raise UsageError(f"folder {folder}", "no photo in it shows exactly one face", "give photos of one person each")
    return people


def read_backgrounds() -> list[Pixels]:
    """Read photographs without people that packages ship."""
    paths = [files(package) / FOLDERS[package] / name for package, names in BACKGROUNDS.items() for name in names]
    return [read_photo(Path(str(path))) for path in paths]


def make_composite(people: Sequence[Person], backgrounds: Sequence[Pixels], seed: int, number: int) -> Composite:
    """Make a picture of 1 to `MOST` people; the same arguments give the same picture.

    A face that finds no place is made smaller, and is left out if it finds none at the smallest size either.

    Args:
        people: whose faces are cut out; a picture shows nobody twice.
        backgrounds: uint8 (height, width, 3), RGB.
        seed: of all pictures.
        number: of this picture.
    """
    rng = np.random.default_rng([seed, number])
    picture = Image.fromarray(_background(backgrounds, rng))
    owners = np.zeros((picture.height, picture.width), np.uint8)
    count = min(int(rng.integers(1, MOST + 1)), len(people))
    smallest, largest = np.log(SIZES).tolist()
    sizes = np.sort(np.exp(rng.uniform(smallest, largest, count)))
    placed: list[tuple[int, Pose]] = []
    for person, size in zip(rng.choice(len(people), count, replace=False), sizes, strict=True):
        pose = _find_pose(people[person], float(size), [pose for _, pose in placed], owners, rng)
        if pose is not None:
            placed.append((int(person), pose))
            _paste(picture, pose)
            window = pose.window(*owners.shape)
            owners[window][pose.head(window)] = 0
            owners[window][pose.face(window)] = len(placed)
    faces = (
        TrueFace(person, _clip(pose.corners(), *owners.shape), pose.angle, max(0.0, 1 - count / pose.area), pose)
        for (person, pose), count in zip(placed, _count(owners, len(placed)).tolist(), strict=True)
    )
    return Composite(np.array(picture), tuple(faces), owners)


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


def _background(backgrounds: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """A part of a photograph, mirrored or not, in one of the sizes."""
    chosen = Image.fromarray(backgrounds[int(rng.integers(len(backgrounds)))])
    share = rng.uniform(0.7, 1)
    width, height = round(share * chosen.width), round(share * chosen.height)
    left, top = rng.integers(chosen.width - width + 1), rng.integers(chosen.height - height + 1)
    scale = SIDES[rng.integers(len(SIDES))] / max(width, height)
    box = (int(left), int(top), int(left) + width, int(top) + height)
    resized = chosen.resize((round(scale * width), round(scale * height)), Image.Resampling.BICUBIC, box)
    return np.array(resized)[:, :: rng.choice([-1, 1])].copy()


def _find_pose(
    person: Person, size: float, others: Sequence[Pose], owners: Pixels, rng: np.random.Generator
) -> Pose | None:
    """A pose that hides nobody by more than allowed; None if there is none."""
    fate = FATES[rng.choice(len(FATES), p=CHANCES)]
    height, width = owners.shape
    angle, bar = float(rng.uniform(-ANGLE, ANGLE)), make_bar(rng) if fate == "bar" else None
    areas, seen = np.array([other.area for other in others]), _count(owners, len(others))
    while size >= SIZES[0]:
        for _ in range(TRIES):
            centre = rng.uniform(0, [width, height])
            matrix = _matrix(person.box, size * max(width, height) / max(person.box[2:]), angle, centre)
            pose = Pose(person, matrix, angle, bar)
            if _shows(pose, fate, height, width):
                window = pose.window(height, width)
                lost = _count(owners[window][pose.head(window)], len(others))
                if _spares(lost / areas, (seen - lost) / areas, fate):
                    return pose
        size *= SHRINK
    return None


def _count(owners: Pixels, faces: int) -> NDArray[np.int64]:
    """The number of pixels that show each of the faces."""
    return np.bincount(owners.ravel(), minlength=faces + 1)[1:]


def _matrix(box: Box, scale: float, angle: float, centre: Reals) -> Reals:
    x, y, w, h = box
    turn = np.radians(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, centre - linear @ [x + w / 2, y + h / 2]])


def _shows(pose: Pose, fate: Fate, height: int, width: int) -> bool:
    """Whether enough of a face lies inside the picture, and, if the frame is to cut it, not too much."""
    (left, top), (right, bottom) = pose.corners()
    cut = bool(left < 0 or top < 0 or right > width or bottom > height)
    if cut != (fate == "cut by the frame"):
        return False
    return not cut or bool(HIDDEN[0] <= 1 - pose.face(pose.window(height, width)).sum() / pose.area <= HIDDEN[1])


def _spares(lost: Reals, seen: Reals, fate: Fate) -> bool:
    """Whether a new face hides the others as it should.

    Args:
        lost: the shares of the others that it hides.
        seen: the shares of the others that can still be seen then.
        fate: of the new face.
    """
    if fate == "before another" and len(lost):
        return bool(lost.max() >= HIDDEN[0] and seen.min() >= 1 - HIDDEN[1])
    return not lost.any()


def make_bar(rng: np.random.Generator) -> Bar:
    """Make a bar that hides a part of a face: any part of it, by a share within `HIDDEN`."""
    ys, xs = np.mgrid[-1:1:64j, -1:1:64j]
    disc = np.hypot(xs, ys) < 1
    turn, middle, share = rng.uniform(0, np.pi), rng.uniform(-0.7, 0.7), rng.uniform(HIDDEN[0], HIDDEN[1] - 0.02)
    normal = float(np.cos(turn)), float(np.sin(turn))
    half = float(np.quantile(np.abs(normal[0] * xs + normal[1] * ys - middle)[disc], share))
    red, green, blue = rng.integers(20, 236, 3).tolist()
    return Bar(normal, float(middle), half, (red, green, blue))


def _paste(picture: Image.Image, pose: Pose) -> None:
    """Put a head into a picture."""
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


def _clip(corners: NDArray[np.floating], height: int, width: int) -> Box:
    (left, top), (right, bottom) = np.clip(corners, 0, [width, height]).tolist()
    return left, top, right - left, bottom - top
