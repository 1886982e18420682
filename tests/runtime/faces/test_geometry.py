from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.geometry import align, fit, letterbox, sample_bilinear, similarity
from tests.conftest import pixels


@pytest.mark.usefixtures("export_packages")
def test_bilinear_is_grid_sample(astronaut: Path) -> None:
    """torch's grid_sample takes zeros outside of the photo, and has the centres of pixels at one half."""
    import torch

    photo = pixels(astronaut)[:60, :80]
    rng = np.random.default_rng(0)
    xs, ys = rng.uniform(-5, 85, (40, 30)), rng.uniform(-5, 65, (40, 30))
    grid = torch.tensor(np.stack([(xs + 0.5) / 80 * 2 - 1, (ys + 0.5) / 60 * 2 - 1], -1)[None]).float()
    source = torch.tensor(photo.transpose(2, 0, 1)[None]).float()
    expected = torch.nn.functional.grid_sample(source, grid, align_corners=False)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(sample_bilinear(photo, xs, ys, outside="zero"), expected, atol=0.02)


@given(angle=st.floats(-3, 3), scale=st.floats(0.1, 10), dx=st.floats(-50, 50), dy=st.floats(-50, 50))
def test_similarity_recovers_a_known_transform(angle: float, scale: float, dx: float, dy: float) -> None:
    points = np.array([[0, 0], [10, 0], [5, 6], [1, 11], [9, 12]], float)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    moved = points @ np.array([[c, -s], [s, c]]).T + [dx, dy]
    np.testing.assert_allclose(similarity(points, moved), [[c, -s, dx], [s, c, dy]], atol=1e-8)


def test_align_puts_landmarks_on_their_targets() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    points = np.array([[30, 40], [60, 42], [45, 55], [35, 70], [58, 71]], np.float32)
    target = points * 1.5 + 20  # scaled and shifted, but not rotated
    for x, y in points:
        photo[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    warped = align(photo, points + 0.5, target, 224)
    for x, y in target:
        assert warped[int(y) - 1 : int(y) + 1, int(x) - 1 : int(x) + 1].mean() > 200


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("shape", [(300, 200), (50, 70), (224, 224), (1, 900), (37, 1)])
def test_letterbox_is_deepface_resize(astronaut: Path, shape: tuple[int, int]) -> None:
    """DeepFace calls OpenCV's bilinear resize, and puts the result into the middle of a black image."""
    import cv2

    photo = np.resize(pixels(astronaut), (*shape, 3))
    factor = min(224 / shape[0], 224 / shape[1])
    size = max(1, int(shape[1] * factor)), max(1, int(shape[0] * factor))
    resized = cv2.resize(photo.astype(np.float32), size)
    top, left = (224 - size[1]) // 2, (224 - size[0]) // 2
    expected = np.zeros((224, 224, 3), np.float32)
    expected[top : top + size[1], left : left + size[0]] = resized
    np.testing.assert_allclose(letterbox(photo, 224), expected, atol=0.05)


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_fit_pads_to_a_multiple(height: int, width: int) -> None:
    padded, scale = fit(np.full((height, width, 3), 9, np.uint8), 64, 32)
    assert padded.shape[0] % 32 == 0
    assert padded.shape[1] % 32 == 0
    assert max(padded.shape[:2]) == 64
    assert padded[0, 0, 0] == 9
    assert scale == 64 / max(height, width)
