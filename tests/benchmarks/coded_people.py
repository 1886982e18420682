"""People for composites whose pixels say where they come from: x, y and the person's number are the three colours."""

import numpy as np

from anon_runtime.types import Box, Floats, Pixels
from benchmarks.heads import Person

SIDE = 256
STEP = 15  # between the numbers of two people
BOX = 50.0, 40.0, 156.0, 190.0  # as the face in a photo of SFHQ lies


def make_people(count: int) -> list[Person]:
    ys, xs = np.mgrid[:SIDE, :SIDE]
    pixels = (np.dstack([xs, ys, np.full_like(xs, code(i))]).astype(np.uint8) for i in range(count))
    return [Person(str(i), one, BOX) for i, one in enumerate(pixels)]


def code(person: int) -> int:
    """The third colour of a person; it is 0 in `make_backgrounds`, and bars have any colour."""
    return 60 + STEP * person


def make_backgrounds() -> list[Pixels]:
    """A wide and a high background, without structure."""
    return [np.zeros((60, 80, 3), np.uint8), np.zeros((80, 60, 3), np.uint8)]


class CodeJudge:
    """Recognizes people by the code in their pixels, and sees a face in everything that is not dark."""

    def recognize(self, picture: Pixels, *_: Pixels) -> Floats:
        height, width = picture.shape[:2]
        middle = picture[height // 3 : -height // 3, width // 3 : -width // 3, 2]
        return np.array([np.median(middle) / 8, 0], np.float32)

    def sees(self, picture: Pixels, _box: Box) -> bool:
        return bool(picture.mean() > 20)
