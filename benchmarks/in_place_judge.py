"""dlib's networks as the judge of faces in place: whose face is it, and is there a face at all."""

from collections.abc import Sequence

import numpy as np

from anon_runtime.faces.search import overlap
from anon_runtime.types import Box, Pixels

from .evaluate.encoders import Dlib
from .evaluate.requirements import data_of
from .evaluate.types import Vector
from .in_place_metrics import OVERLAP

DETECTOR = "face_recognition_models", "models", "mmod_human_face_detector.dat"
SAME = 0.6  # dlib's distance below which two pictures are of the same person


class Judge:
    """A judge of faces, who gets pictures in which a face has the size and the place that it has in its person's photo.

    The detector is dlib's max-margin network (King, 2015), and the recognizer is that of `benchmarks.evaluate`; both
    have learned nothing together with the networks of a bundle.

    Raises:
        MissingError: a package is not installed.
    """

    def __init__(self) -> None:
        self._encoder = Dlib()
        import dlib

        self._detector = dlib.cnn_face_detection_model_v1(str(data_of("face-recognition-models", *DETECTOR)))

    def recognize(self, picture: Pixels, *others: Pixels) -> Vector:
        """Return the embedding (128,) of a face.

        Args:
            picture: uint8 (height, width, 3), RGB.
            others: pictures of the same scene, which say where the face is if none is found in the picture; an attacker
                knows where it must be. The whole picture is used if none of them says it.
        """
        points = (self._encoder.locate(np.ascontiguousarray(one)) for one in (picture, *others))
        return self._encoder.embed(picture, next((found for found in points if found is not None), None))

    def sees(self, picture: Pixels, box: Box) -> bool:
        """Return whether the picture shows a face in a box.

        Args:
            picture: uint8 (height, width, 3), RGB.
            box: x, y, width and height in pixels.
        """
        return any(overlap(box, found) >= OVERLAP for found in self._detect(picture))

    def _detect(self, picture: Pixels) -> Sequence[Box]:
        found = [one.rect for one in self._detector(np.ascontiguousarray(picture), 0)]
        return [(rect.left(), rect.top(), rect.width(), rect.height()) for rect in found]
