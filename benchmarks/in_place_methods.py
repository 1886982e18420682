"""Methods that take faces out of pictures: this project's, and deface's blur."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from deface.centerface import CenterFace
from deface.deface import anonymize_frame

from anon_runtime import Anonymizer
from anon_runtime.types import Box, Pixels


@dataclass(frozen=True)
class Output:
    """What a method made of a picture.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        painted: boxes of the faces that it has painted.
        filled: boxes of the faces that it has filled.
        attempts: the number of attempts of each painted face.
    """

    pixels: Pixels
    painted: tuple[Box, ...] = ()
    filled: tuple[Box, ...] = ()
    attempts: tuple[int, ...] = ()


Method = Callable[[Pixels, int], Output]  # arguments: the picture, a seed


def in_place(anonymizer: Anonymizer) -> Method:
    """Faces of people who do not exist, by this project."""

    def apply(picture: Pixels, seed: int) -> Output:
        done = anonymizer.replace_faces(picture, seed=seed)
        boxes = tuple(one.face for one in done.people if one.face is not None)
        return Output(np.asarray(done.image), boxes, done.filled, tuple(one.attempt + 1 for one in done.people))

    return apply


def deface() -> Method:
    """Blur, by deface's own functions with the values that its command line has without options."""
    with redirect_stdout(sys.stderr):  # it prints the name of what runs its network
        network = CenterFace()

    def apply(picture: Pixels, _seed: int) -> Output:
        frame = picture.copy()
        found, _ = network(frame, threshold=0.2)
        anonymize_frame(found, frame, 1.3, "blur", ellipse=True, draw_scores=False, replaceimg=None, mosaicsize=20)
        return Output(frame, filled=tuple((x, y, right - x, down - y) for x, y, right, down, _ in found.tolist()))

    return apply
