from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.feature import hog

from benchmarks.evaluate import appearance
from benchmarks.evaluate.appearance import COLOURS, FACE, MARGIN, describe, describe_all
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.pairs import ImageFile

GRADIENTS = 7 * 7 * 2 * 2 * 9  # blocks of 2 x 2 cells with 9 directions


def noise(height: int = 90, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def colours(features: np.ndarray) -> np.ndarray:
    return features[GRADIENTS:].reshape(COLOURS, COLOURS, 3)


def test_the_gradients_are_scikit_images_of_the_grey_face() -> None:
    image = noise(FACE, FACE)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32) / 255
    expected = hog(grey, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    large = np.zeros((150, 140, 3), np.uint8)
    large[30 : 30 + FACE, 40 : 40 + FACE] = image
    assert describe(image, None)[:GRADIENTS] == pytest.approx(expected, abs=1e-6)
    assert describe(large, (40, 30, FACE, FACE))[:GRADIENTS] == pytest.approx(expected, abs=1e-6)


def test_colours_are_also_those_around_the_face() -> None:
    image = np.full((160, 160, 3), 100, np.uint8)
    box = 50.0, 50.0, 60.0, 60.0
    image[: round(50 - MARGIN * 60 / 2)] = 200, 0, 0  # hair, which ends within the margin
    features = describe(image, box)
    assert features[:GRADIENTS] == pytest.approx(np.zeros(GRADIENTS)), "the face has no structure"
    assert colours(features)[0, 5] == pytest.approx([200 / 255, 0, 0])
    assert colours(features)[-1, 5] == pytest.approx([100 / 255] * 3)


def test_the_edge_is_repeated_beyond_it() -> None:
    image = np.full((40, 40, 3), 50, np.uint8)
    image[:, -1] = 250
    found = colours(describe(image, (0, 0, 40, 40)))
    assert found[:, 0] == pytest.approx(np.full((COLOURS, 3), 50 / 255))
    assert found[:, -1] == pytest.approx(np.full((COLOURS, 3), 250 / 255))


@settings(max_examples=100)
@given(st.tuples(st.floats(-50, 150), st.floats(-50, 150), st.floats(0, 200), st.floats(0, 200)))
def test_every_box_gives_features(box: tuple[float, float, float, float]) -> None:
    features = describe(noise(), box)
    assert features.shape == (GRADIENTS + 3 * COLOURS**2,)
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert features.max() <= 1


@pytest.mark.parametrize("box", [(20.0, 10.0, 0.0, 0.0), (20.0, 10.0, 1.0, 0.0), (20.0, 10.0, 0.0, 1.0)])
def test_a_box_has_a_pixel(box: tuple[float, float, float, float]) -> None:
    found = colours(describe(np.full((40, 40, 3), 255, np.uint8), box))
    assert found == pytest.approx(np.ones_like(found))


def test_features_are_cached_by_image_and_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    images = [ImageFile("a", tmp_path / "a.png")] * 3
    boxes = np.array([[10.0, 10, 50, 60], [np.nan] * 4, [10, 10, 50, 61]])
    with Cache(tmp_path / "cache.npz") as cache:
        found = describe_all(images, boxes, cache, "test")
    for row, box in zip(found, (boxes[0].tolist(), None, boxes[2].tolist()), strict=True):
        assert row == pytest.approx(describe(noise(), box))
    assert len(np.unique(found, axis=0)) == 3
    monkeypatch.setattr(appearance, "describe", None)
    np.testing.assert_array_equal(describe_all(images, boxes, Cache(tmp_path / "cache.npz"), "test"), found)
