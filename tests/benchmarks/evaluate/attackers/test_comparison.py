"""Similarities of portraits and paintings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from benchmarks.evaluate.attackers.comparison import NO_PAINTING, SIDE, by_face, compare, similarities
from benchmarks.evaluate.encoders import Dlib
from benchmarks.evaluate.pairs import ImageFile, Method, find_images
from benchmarks.evaluate.requirements import MissingError
from benchmarks.evaluate.study import Study


def test_paintings_of_some_suspects(tmp_path: Path) -> None:
    """The portrait of the second suspect; the third suspect has no painting."""
    levels, files = {"portrait": 100, "same": 100, "near": 90}, {}
    for name, level in levels.items():
        files[name] = ImageFile(name, tmp_path / f"{name}.png")
        Image.new("RGB", (SIDE, SIDE), (level,) * 3).save(files[name].path)
    method = Method("ours", {1: files["portrait"]})
    found = compare("any", method, {1: files["same"], 0: files["near"]}, 3)
    np.testing.assert_allclose(found.similarities, [[1 - 10 / 255, 1, NO_PAINTING]])
    assert found.exact.tolist() == [True]
    nobody = compare("any", method, {}, 3)
    assert nobody.similarities.tolist() == [[NO_PAINTING] * 3]
    assert nobody.exact.tolist() == [False]


@pytest.mark.packages
def test_by_faces(astronaut: Path, tmp_path: Path) -> None:
    """Where the paintings are the photos themselves, everybody is found by the distance of faces."""
    pytest.importorskip("dlib")
    with Image.open(astronaut) as photo:
        for i in range(3):
            photo.convert("RGB").rotate(10 * i).crop((70, 0, 430, 360)).save(tmp_path / f"{i}.png")
    originals, _ = find_images(tmp_path)
    copies = Method("copies", dict(enumerate(originals)))
    study = Study(originals, [copies], None, None, tmp_path, tmp_path / "cache")
    likeness = by_face(study, copies, {2: originals[2], 0: originals[0]})
    assert likeness.shape == (3, 3)
    assert likeness[[0, 2], [0, 2]] == pytest.approx([1, 1])
    assert (likeness[:, 1] == NO_PAINTING).all()
    encoder = Dlib()
    first, last = (encoder.embed(one.pixels(), encoder.locate(one.pixels())) for one in (originals[0], originals[2]))
    assert likeness[0, 2] == likeness[2, 0] == pytest.approx(1 - np.linalg.norm(first - last))
    assert max(likeness[0, 2], likeness[1, 0], likeness[1, 2]) < 1
    with pytest.raises(MissingError):
        by_face(study, copies, {})


images = arrays(np.uint8, (SIDE, SIDE, 3), elements=st.integers(0, 255), fill=st.integers(0, 255))


@given(st.lists(images, min_size=1, max_size=3), st.lists(images, min_size=1, max_size=3))
def test_similarity_is_one_minus_the_mean_difference(
    portraits: list[np.ndarray[Any, Any]], paintings: list[np.ndarray[Any, Any]]
) -> None:
    found = similarities(portraits, paintings)
    expected = [
        [1 - np.abs(one.astype(float) - other.astype(float)).mean() / 255 for other in paintings] for one in portraits
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_similarity_of_black_and_white_and_of_other_sizes() -> None:
    black, white = np.zeros((96, 96, 3), np.uint8), np.full((70, 130, 3), 255, np.uint8)
    np.testing.assert_allclose(similarities([black, white], [white, black]), [[0, 1], [1, 0]])
