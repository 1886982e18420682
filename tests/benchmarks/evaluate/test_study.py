"""A study: which encoders it has, and what they embed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluate import study
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.study import Faces, Study


@pytest.fixture
def faces(astronaut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two originals, an image of the second one, and a training set of three pictures; without encoders of packages."""
    monkeypatch.setattr(study, "ENCODERS", {})
    photo = Image.open(astronaut).convert("RGB").crop((140, 10, 320, 250))
    files = []
    for number in range(5):
        photo.rotate(4 * number).save(tmp_path / f"{number}.png")
        files.append(ImageFile(str(number), tmp_path / f"{number}.png"))
    method = Method("m", {1: files[2]})
    return Study(files[:2], [method], None, None, tmp_path / "nowhere", tmp_path / "cache", training=files[2:])


def on(faces: Study, engines: Path, identity: Path | None = None) -> Study:
    return Study(faces.originals, faces.methods, None, None, engines, faces.cache, identity, faces.training)


def test_the_bundles_network_is_an_encoder(faces: Study, demo_bundle: Path) -> None:
    (name,) = on(faces, demo_bundle).faces
    assert name == "SFace, of the guard"
    found = on(faces, demo_bundle).faces[name]
    assert isinstance(found, Faces)
    assert found.training is not None
    shapes = [own.vectors.shape for own in (found.gallery, found.methods["m"], found.training)]
    assert shapes == [(2, 128), (1, 128), (3, 128)]
    np.testing.assert_array_equal(found.methods["m"].vectors[0], found.training.vectors[0])


def test_a_users_network_is_one_more(faces: Study, demo_bundle: Path) -> None:
    own = demo_bundle / "faces" / "identity" / "model.onnx"
    found = on(faces, demo_bundle, own).faces
    assert list(found) == ["SFace, of the guard", "own network, model.onnx"]
    assert all(isinstance(one, Faces) for one in found.values())
    assert len(list(faces.cache.glob("*.npz"))) == 2, "each has its own cache"


def test_without_a_bundle_both_are_missing(faces: Study, tmp_path: Path) -> None:
    found = on(faces, tmp_path / "nowhere", tmp_path / "own.onnx").faces
    assert list(found) == ["the guard's network", "own network, own.onnx"]
    assert all("name a bundle with --engines" in one["missing"] for one in found.values() if isinstance(one, dict))


def test_without_a_training_set_none_is_embedded(faces: Study, demo_bundle: Path) -> None:
    plain = Study(faces.originals, faces.methods, None, None, demo_bundle, faces.cache)
    (found,) = plain.faces.values()
    assert isinstance(found, Faces)
    assert found.training is None
