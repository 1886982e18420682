from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from anon_runtime import Anonymizer
from anon_runtime.errors import UsageError
from anon_runtime.faces.decoding import read_photo
from benchmarks.evaluate.baselines import BASELINES, NO_FACE, apply, blur, hide_faces, mask, pixelate
from benchmarks.evaluate.pairs import ImageFile


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@settings(deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.sampled_from([2, 8, 16]))
def test_pixelation_leaves_blocks_of_one_colour(height: int, width: int, blocks: int) -> None:
    made = np.asarray(pixelate(noise(height, width), blocks))
    assert made.shape == (height, width, 3)
    across = round(width * blocks / min(height, width)) * round(height * blocks / min(height, width))
    assert len(np.unique(made.reshape(-1, 3), axis=0)) <= across


def test_blur_is_gaussian() -> None:
    face = noise(96, 96)
    made = np.asarray(blur(face, 1 / 24), float)
    expected = gaussian_filter(np.asarray(face, float), (4, 4, 0), mode="nearest")
    assert np.abs(made - expected)[16:-16, 16:-16].mean() < 2
    assert np.asarray(blur(face, 1 / 8)).std() < made.std()


def test_a_masked_face_is_grey() -> None:
    assert np.unique(np.asarray(mask(noise(20, 30)))).tolist() == [128]


def test_only_the_face_is_hidden() -> None:
    image = np.asarray(noise(100, 120))
    made = np.asarray(hide_faces(image, [(20, 30, 40, 50), (100, -5, 40, 20)], mask))
    changed = (made != image).any(axis=2)
    expected = np.zeros((100, 120), bool)
    expected[25:85, 16:64] = expected[0:17, 96:120] = True  # a tenth more on every side, cut at the border
    assert not changed[~expected].any()
    assert changed[expected].mean() > 0.98


def test_originals_without_a_face_give_no_image(
    tmp_path: Path, anonymizer: Anonymizer, astronaut: Path, coffee: Path
) -> None:
    originals = [ImageFile("in/astronaut", astronaut), ImageFile("coffee", coffee)]
    methods = apply(["blur", "pixelate", "mask"], originals, anonymizer, tmp_path)
    assert [method.name for method in methods] == [name for kind in BASELINES.values() for name in kind]
    for method in methods:
        assert list(method.pairs) == [0]
        assert method.missing == {"coffee": NO_FACE}
        made, own = read_photo(method.pairs[0].path), read_photo(astronaut)
        changed = (made != own).any(axis=2)
        assert 0.02 < changed.mean() < 0.3, "only the face changes"
    assert apply([], originals, anonymizer, tmp_path) == []
    with pytest.raises(UsageError, match="no face was found in any of 1"):
        apply(["mask"], originals[1:], anonymizer, tmp_path)


@pytest.mark.parametrize("kind", ["blur", "pixelate"])
def test_the_strong_form_removes_more(kind: str) -> None:
    face = noise(128, 128)
    weak, strong = (np.asarray(hide(face), float) for hide in BASELINES[kind].values())
    assert strong.std() < weak.std() < np.asarray(face).std()
