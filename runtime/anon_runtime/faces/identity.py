"""The identity of a face: the embedding that a face-recognition network gives for its aligned crop."""

import numpy as np

from ..backends.base import check_finite
from ..bundle.identity import IdentitySpec
from ..errors import GenerationError, PhotoError
from ..types import EngineSource, Floats, Pixels
from .detection import Face
from .geometry import Reals, reduce, similarity, warp

IDENTITY_ROLE = "face_identity"
# Embeddings are rounded to whole multiples of 2 ** -11. Each product of two numbers is then a whole multiple of
# 2 ** -22, and no partial sum exceeds 1 by more than the rounding, so that float32 holds all of them exactly.
# Similarities are therefore the same on any processor, in any order of the sums and in any block of a larger product.
# The rounding changes a similarity by about 1e-4.
UNIT = 2048.0
# A face may be so much larger than the network's input that bilinear sampling would skip most of its pixels.
SKIPPED = 2.0


class IdentityEncoder:
    """An encoder of faces. The similarity of two faces is the dot product of their embeddings, -1..1.

    Args:
        engines: ``face_identity``.
        spec: the size and the template of the network.
    """

    def __init__(self, engines: EngineSource, spec: IdentitySpec) -> None:
        self._engines, self.spec = engines, spec
        self._template = np.asarray(spec.template, np.float64)

    def embed(self, photo: Pixels, face: Face) -> Floats:
        """Return the embedding of a face.

        A face goes through the network alone, because the last digits of outputs depend on the size of the batch.

        Args:
            photo: uint8 (height, width, 3), RGB.
            face: the face, whose landmarks are in pixels of the photo.

        Returns:
            float32 (d,): whole multiples of 2 ** -11; the length is 1 up to this rounding.

        Raises:
            PhotoError: the landmarks lie in one place, so that the face cannot be aligned.
            GenerationError: the network returned NaN, infinity, or zeros only.
        """
        crop = identity_crop(photo, face, self._template, self.spec.size)
        outputs = self._engines[IDENTITY_ROLE]({"image": crop[None]})
        vector = np.asarray(outputs["embedding"], np.float64)[0]
        check_finite(vector, IDENTITY_ROLE, "on a face")
        return round_embedding(vector)


def identity_crop(photo: Pixels, face: Face, template: Reals, size: int) -> Floats:
    """Return the input of a face-recognition network: the face, aligned by its five landmarks.

    This mirrors ``FaceRecognizerSF.alignCrop`` of OpenCV, which samples at whole pixels, except for faces that are more
    than twice as large as the network's input: they are averaged over blocks of pixels first.

    Args:
        photo: uint8 (height, width, 3), RGB.
        face: the face.
        template: (5, 2), the points that the landmarks are moved to, in pixels of the result.
        size: the side of the result in pixels.

    Returns:
        float32 (3, size, size), RGB, 0..255; 0 outside the photo.

    Raises:
        PhotoError: the landmarks lie in one place.
    """
    points = face.landmarks.astype(np.float64)
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
        why = "the landmarks of its face lie in one place, so that it cannot be aligned and checked"
        raise PhotoError(why, "use a photo that shows the face larger")
    matrix = similarity(points, template)
    factor = int(1 / np.hypot(*matrix[0, :2]) / SKIPPED) + 1
    if factor > 1:
        photo, points = reduce(photo, factor), (points + 0.5) / factor - 0.5
        matrix = similarity(points, template)
    aligned = warp(photo, matrix, size, centre=0.0)
    return np.ascontiguousarray(aligned.transpose(2, 0, 1), np.float32)


def round_embedding(vector: Reals) -> Floats:
    """Return a vector of length 1 in the same direction, rounded to whole multiples of 2 ** -11.

    Args:
        vector: (d,), finite.

    Raises:
        GenerationError: the vector is zero and has no direction.
    """
    length = float(np.linalg.norm(vector))
    if not length > 0:
        fix = "use fp32 engines, or report the model if it is fp32 already"
        raise GenerationError(f"the {IDENTITY_ROLE} engine on a face", "it returned only zeros", fix)
    return (np.round(vector / length * UNIT) / UNIT).astype(np.float32)
