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
from anon_runtime.faces.geometry import Reals
from anon_runtime.folder.discovery import find_photos
from anon_runtime.types import Box, Mask, Pixels

from .heads import Person, Pose, make_bar, paste

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
BARRED = 0.1, 0.38  # the same of a bar, which is drawn less exactly
TRIES = 40  # for a place, until the face is made smaller
SHRINK = 0.8

Fate = Literal["free", "bar", "before another", "cut by the frame"]
FATES: tuple[Fate, ...] = get_args(Fate)
CHANCES = 0.55, 0.15, 0.15, 0.15


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
            paste(picture, pose)
            window = pose.window(*owners.shape)
            owners[window][pose.head(window)] = 0
            owners[window][pose.face(window)] = len(placed)
    faces = (
        TrueFace(person, _clip(pose.corners(), *owners.shape), pose.angle, max(0.0, 1 - count / pose.area), pose)
        for (person, pose), count in zip(placed, _count(owners, len(placed)).tolist(), strict=True)
    )
    return Composite(np.array(picture), tuple(faces), owners)


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
    angle, bar = float(rng.uniform(-ANGLE, ANGLE)), make_bar(rng, BARRED) if fate == "bar" else None
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


def _clip(corners: NDArray[np.floating], height: int, width: int) -> Box:
    (left, top), (right, bottom) = np.clip(corners, 0, [width, height]).tolist()
    return left, top, right - left, bottom - top
