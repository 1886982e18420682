"""Encoders, compared with the calls of their packages. FaceNet is tested in tests/facer, which has torchvision."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anon_runtime.faces.decoding import read_photo
from anon_runtime.faces.geometry import Reals as Floats
from anon_runtime.types import Pixels
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.encoders import ENCODERS, Clip, Dlib, Embedder, FaceNet, Points
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.reidentification import Metric
from benchmarks.evaluate.requirements import MissingError, data_of
from benchmarks.evaluate.types import Vector

pytestmark = pytest.mark.packages
dlib = pytest.importorskip("dlib")


@pytest.fixture(scope="module")
def encoder() -> Dlib:
    return Dlib()


def test_dlib_is_dlibs(encoder: Dlib, astronaut: Path) -> None:
    """The points are stored as shares of the image's size; dlib still gets the same face as by its own calls."""
    folder = "face_recognition_models", "models"
    shape = dlib.shape_predictor(
        str(data_of("face-recognition-models", *folder, "shape_predictor_5_face_landmarks.dat"))
    )
    network = dlib.face_recognition_model_v1(
        str(data_of("face-recognition-models", *folder, "dlib_face_recognition_resnet_model_v1.dat"))
    )
    photo = read_photo(astronaut)
    for image in (photo, photo[30:390, 70:431]):
        image = np.ascontiguousarray(image)
        box = max(dlib.get_frontal_face_detector()(image, 1), key=lambda box: box.area())
        expected = np.array(network.compute_face_descriptor(image, shape(image, box)))
        points = encoder.locate(image)
        assert points is not None
        assert points.shape == (7, 2)
        np.testing.assert_array_equal(encoder.embed(image, points), expected)


def test_one_person_is_nearer_than_another(encoder: Dlib, astronaut: Path) -> None:
    photo = read_photo(astronaut)
    face, mirrored = photo[30:390, 70:430], photo[30:390, 70:430][:, ::-1].copy()
    first, second = (encoder.embed(image, encoder.locate(image)) for image in (face, mirrored))
    assert np.linalg.norm(first - second) < 0.5
    assert np.linalg.norm(first - encoder.embed(photo[200:], None)) > 0.6


def test_the_biggest_of_two_faces(encoder: Dlib, astronaut: Path) -> None:
    photo = Image.fromarray(read_photo(astronaut)[30:390, 70:430])
    pair = Image.new("RGB", (720, 360))
    pair.paste(photo.resize((180, 180)), (0, 90))
    pair.paste(photo, (360, 0))
    points = encoder.locate(np.asarray(pair))
    assert points is not None
    assert points[:, 0].min() > 0.5


def test_a_face_that_is_not_found_is_cropped_where_its_originals_is(
    encoder: Dlib, astronaut: Path, coffee: Path, tmp_path: Path
) -> None:
    photo = read_photo(astronaut)[30:390, 70:430]
    original, hidden = tmp_path / "original.png", tmp_path / "hidden.png"
    Image.fromarray(photo).save(original)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(noise).resize((180, 180)).save(hidden)  # it has half the size; points are shares of it
    images = [ImageFile("a", original), ImageFile("b", coffee)]
    method = Method("m", {0: ImageFile("a", hidden), 1: ImageFile("b", hidden)})
    with Cache(tmp_path / "cache.npz", encoder.version) as cache:
        embedder = Embedder(encoder, cache)
        gallery, queries = embedder.originals(images), embedder.method(images, method)
        assert gallery.faceless.tolist() == [False, True]
        assert queries.faceless.tolist() == [True, True]
        points, noise = encoder.locate(photo), read_photo(hidden)
        assert points is not None
        np.testing.assert_array_equal(queries.vectors[0], encoder.embed(noise, points))
        np.testing.assert_array_equal(queries.vectors[1], encoder.embed(noise, None))
        assert (queries.vectors[0] != queries.vectors[1]).any(), "the same image, cropped by another original"


def test_nothing_is_embedded_twice(encoder: Dlib, astronaut: Path, tmp_path: Path) -> None:
    class Counting:
        name, version, calls = "counting", "1", 0
        metric: Metric = "cosine"

        def locate(self, image: Pixels) -> None:
            self.calls += 1

        def embed(self, image: Pixels, points: Points | None) -> Vector:
            self.calls += 1
            return np.ones(3)

    counting = Counting()
    twin = tmp_path / "twin.png"
    twin.write_bytes(astronaut.read_bytes())
    for _ in range(2):
        with Cache(tmp_path / "cache.npz", counting.version) as cache:
            Embedder(counting, cache).originals([ImageFile("a", astronaut), ImageFile("twin", twin)])
    assert counting.calls == 2, "one search and one embedding, for two files of one content, in two runs"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_clip_is_transformers(hub: Path, astronaut: Path, coffee: Path) -> None:
    """Random weights in CLIP's architecture, in the cache of the hub, compared with the steps of CLIP's processor."""
    from transformers import CLIPConfig, CLIPModel

    folder = hub / f"models--{Clip.repository.name.replace('/', '--')}" / "snapshots" / "0123456789"
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text(folder.name)
    torch.manual_seed(0)
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "patch_size": 32, "image_size": 224}
    model = CLIPModel(CLIPConfig(text_config=small, vision_config=vision, projection_dim=32)).eval()
    model.save_pretrained(folder)
    sizes = {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "CLIPImageProcessor", **sizes})
    )
    clip = ENCODERS["CLIP ViT-B/32"]()
    for path in (astronaut, coffee):
        image = read_photo(path)
        expected = torch.from_numpy(clip_pixels(image))
        with torch.no_grad():
            theirs = model.get_image_features(pixel_values=expected[None])[0].numpy()
        np.testing.assert_allclose(clip.embed(image, clip.locate(image)), theirs, atol=2e-4)


def clip_pixels(image: Pixels) -> Floats:
    """OpenAI's ``clip.load``: resize the shorter side to 224, bicubic; crop the centre; normalize."""
    scaled, scale = Image.fromarray(image), 224 / min(image.shape[:2])
    scaled = scaled.resize((int(scaled.width * scale), int(scaled.height * scale)), Image.Resampling.BICUBIC)
    left, top = round((scaled.width - 224) / 2), round((scaled.height - 224) / 2)
    values = np.asarray(scaled.crop((left, top, left + 224, top + 224)), np.float32) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    normalized: Floats = (values - mean) / std
    return normalized.transpose(2, 0, 1)


def test_what_clip_needs_is_named(hub: Path) -> None:
    with pytest.raises(MissingError) as caught:
        Clip()
    for word in ("CLIP ViT-B/32", "preprocessor_config.json", "hf download openai/clip-vit-base-patch32", str(hub)):
        assert word in str(caught.value)


def test_what_facenet_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for data, name in (
        ("VGGFace2", "20180402-114759-vggface2.pt"),
        ("CASIA-WebFace", "20180408-102900-casia-webface.pt"),
    ):
        with pytest.raises(MissingError, match=f"{data}.*{name}.*https://.*{name}.*{tmp_path}"):
            FaceNet(data)
