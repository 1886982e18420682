"""FaceNet, compared with the calls of facenet-pytorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anon_runtime.types import Pixels
from benchmarks.evaluate.encoders import FaceNet
from benchmarks.evaluate.requirements import MissingError


@pytest.mark.parametrize("data", ["VGGFace2", "CASIA-WebFace"])
def test_facenet_is_facenet_pytorchs(facenet: Path, photos: list[Pixels], data: str) -> None:
    from facenet_pytorch import MTCNN, InceptionResnetV1

    encoder, detector = FaceNet(data), MTCNN(image_size=160, margin=0)
    network, compared = InceptionResnetV1(pretrained=data.lower()).eval(), 0
    for photo in photos:
        face = detector(Image.fromarray(photo))
        points = encoder.locate(photo)
        assert (points is None) == (face is None)
        if face is not None:
            with torch.no_grad():
                expected = network(face[None])[0].numpy()
            np.testing.assert_allclose(encoder.embed(photo, points), expected, atol=1e-5)
            compared += 1
    assert 0 < compared < len(photos), "there are images with and without a face"


def test_the_whole_image_without_points(facenet: Path, photos: list[Pixels]) -> None:
    encoder = FaceNet("VGGFace2")
    whole = encoder.embed(photos[0], np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(encoder.embed(photos[0], None), whole)


def test_damaged_weights_are_named(facenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FaceNet.trained["VGGFace2"][0]).write_bytes(b"not weights")
    with pytest.raises(MissingError, match=r"cannot load 20180402-114759-vggface2\.pt"):
        FaceNet("VGGFace2")
