"""The face engines, compared with facer and DeepFace on the same pixels and with the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anon_export import faces as real_faces
from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.demo.generator import Architecture, write_generator
from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import AnonError
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES, deepface_crop, farl_crop
from anon_runtime.faces.detection import DETECTORS, SECOND_DETECTOR_ROLE, Face, detect
from anon_runtime.faces.geometry import Reals as Floats
from anon_runtime.faces.geometry import fit
from anon_runtime.settings import find_detector, find_second_detector
from anon_runtime.types import Engine, Pixels

from .conftest import TRAINED


@pytest.fixture(scope="session")
def facer_networks(random_face_weights: Path) -> tuple[Any, Any]:
    import facer

    found = {role: str(real_faces.WEIGHTS[role].find()) for role in ("detector", "attributes")}
    with real_faces.cpu_only():
        detector = facer.face_detector("retinaface/mobilenet", "cpu", model_path=found["detector"])
        attributes = facer.face_attr("farl/celeba/224", "cpu", model_path=found["attributes"])
    return detector, attributes


def chw(photo: Pixels) -> torch.Tensor:
    return torch.from_numpy(photo.transpose(2, 0, 1).copy())[None]


def compare_detectors(detector: Any, engine: Engine, photos: list[Pixels], threshold: float) -> int:
    """Compare boxes, landmarks, scores and their order after NMS with facer's detector; the number of boxes."""
    detector.threshold, compared = threshold, 0
    for photo in photos:
        pixels, _ = fit(photo, side=320, multiple=32)
        with torch.no_grad():
            theirs = detector(chw(pixels))
        outputs = engine({"image": chw(pixels).numpy().astype(np.float32)})
        own = {name: array[0] for name, array in outputs.items()}
        corners, scores, landmarks = DETECTORS["retinaface"].decode(own, pixels.shape[0], pixels.shape[1], threshold)
        assert len(corners) == len(theirs["rects"])
        if len(corners):
            np.testing.assert_allclose(scores, theirs["scores"], atol=1e-3)
            np.testing.assert_allclose(corners, theirs["rects"], atol=0.5)
            np.testing.assert_allclose(landmarks, theirs["points"], atol=0.5)
        compared += len(corners)
    return compared


@pytest.mark.parametrize("threshold", [0.8, 0.3])
def test_detector(
    facer_networks: tuple[Any, Any], engines: dict[str, Engine], photos: list[Pixels], threshold: float
) -> None:
    assert compare_detectors(facer_networks[0], engines["face_detector"], photos, threshold) > 0


def test_the_paper_s_second_detector_is_centerface(bundle: Bundle, photos: list[Pixels]) -> None:
    """It finds the astronaut's face, and nothing in the cup of coffee."""
    second = find_second_detector(bundle.manifest)
    assert second is DETECTORS["centerface"]
    assert bundle.manifest.verification is not None
    assert bundle.manifest.verification.engines[SECOND_DETECTOR_ROLE].relative <= 1e-4
    found = detect(Engines(bundle)[SECOND_DETECTOR_ROLE], second, [photos[0], photos[2]], second.threshold)
    assert [len(faces) for faces in found] == [1, 0]


def test_both_detectors_find_the_same_face(bundle: Bundle, photos: list[Pixels]) -> None:
    if not (TRAINED / real_faces.WEIGHTS["detector"].names[0]).is_file():
        pytest.skip("a detector with random weights finds no faces")
    detectors = {"face_detector": find_detector(bundle.manifest), SECOND_DETECTOR_ROLE: DETECTORS["centerface"]}
    eyes = []
    with Engines(bundle) as both:
        for role, detector in detectors.items():
            (face,) = detect(both[role], detector, [photos[0]], detector.threshold)[0]
            eyes.append(face.landmarks[:2])
    assert np.abs(eyes[0] - eyes[1]).max() < 10, "pixels"


def test_the_demo_s_second_detector_is_retinaface(
    facer_networks: tuple[Any, Any], photos: list[Pixels], tmp_path: Path
) -> None:
    write_generator(tmp_path / "model", Architecture(64, 64, (32, 64), (16, 32, 32), 32))
    built = build(BuildOptions(str(tmp_path / "model"), "demo", tmp_path, "demo"))
    assert find_second_detector(built.manifest) is DETECTORS["retinaface"]
    assert find_detector(built.manifest) is DETECTORS["centerface"]
    assert compare_detectors(facer_networks[0], Engines(built)[SECOND_DETECTOR_ROLE], photos[:3], 0.8) > 0


def landmarks_for(photo: Pixels, turn: float, size: float) -> Floats:
    """Five landmarks of a face in the middle of a photo, rotated by an angle in radians."""
    face = np.array([[-0.4, -0.35], [0.4, -0.35], [0, 0.05], [-0.32, 0.42], [0.32, 0.42]]) * size
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray(face @ [[c, s], [-s, c]] + np.array(photo.shape[1::-1]) / 2, np.float32)


@pytest.mark.parametrize(("turn", "size"), [(0.0, 60.0), (0.4, 90.0), (-0.9, 30.0), (0.1, 400.0)])
def test_aligned_crop_and_attributes(
    facer_networks: tuple[Any, Any], engines: dict[str, Engine], photos: list[Pixels], turn: float, size: float
) -> None:
    _, attributes = facer_networks
    seen: list[torch.Tensor] = []

    def record(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = attributes.net.register_forward_pre_hook(record)
    for photo in photos[:4]:
        points = landmarks_for(photo, turn, size)
        data = {"points": torch.from_numpy(points)[None], "image_ids": torch.zeros(1, dtype=torch.long)}
        with torch.no_grad():
            expected = attributes(chw(photo), data)["attrs"][0].numpy()
        crop = farl_crop(photo, Face((0, 0, 1, 1), 1, points))
        std = np.array([0.26862954, 0.26130258, 0.27577711])[:, None, None]  # in units of 0..1
        assert (np.abs(crop - seen[-1][0].numpy()) * std).mean() <= 1 / 255
        ours = engines["face_attributes"]({"image": crop[None]})["probabilities"][0]
        np.testing.assert_allclose(ours, expected, atol=2e-3)
        assert expected.std() > 0.01, "the scores differ, so the comparison means something"
    handle.remove()


def test_the_attribute_check_notices_another_alignment(
    facer_networks: tuple[Any, Any], engines: dict[str, Engine], photos: list[Pixels]
) -> None:
    _, attributes = facer_networks
    points = landmarks_for(photos[0], 0, 60)
    data = {"points": torch.from_numpy(points)[None], "image_ids": torch.zeros(1, dtype=torch.long)}
    with torch.no_grad():
        expected = attributes(chw(photos[0]), data)["attrs"][0].numpy()
    crop = farl_crop(photos[0], Face((0, 0, 1, 1), 1, points + 8))
    ours = engines["face_attributes"]({"image": crop[None]})["probabilities"][0]
    assert np.abs(ours - expected).max() > 2e-3


@pytest.mark.parametrize("box", [(180, 58, 91, 118), (0, 0, 300, 200), (400, 400, 20, 33)])
def test_age_and_race(
    random_face_weights: Path, engines: dict[str, Engine], photos: list[Pixels], box: tuple[int, int, int, int]
) -> None:
    from deepface import DeepFace
    from deepface.models.demography.pytorch import Age

    x, y, w, h = box
    crop = photos[0][y : y + h, x : x + w]
    bgr = np.ascontiguousarray(crop[..., ::-1])
    theirs = DeepFace.analyze(bgr, actions=("age", "race"), detector_backend="skip", silent=True)[0]
    boxed = deepface_crop(photos[0], Face((float(x), float(y), float(w), float(h)), 1, np.zeros((5, 2), np.float32)))[
        None
    ]
    outputs = engines["face_age"]({"image": np.ascontiguousarray(boxed)})
    outputs |= engines["face_race"]({"image": np.ascontiguousarray(boxed)})
    races = np.array([theirs["race"][label] for label in ETHNICITIES]) / 100
    np.testing.assert_allclose(outputs["race_probabilities"][0], races, atol=2e-3)
    top = np.sort(races)[-2:]
    if top[1] - top[0] > 4e-3:
        assert ETHNICITIES[int(outputs["race_probabilities"].argmax())] == theirs["dominant_race"]
    age = float((outputs["age_probabilities"][0].astype(np.float64) * np.arange(101)).sum())
    expected = float(Age.ApparentAgeClient().predict(boxed))
    assert abs(age - expected) <= 2e-3
    if abs(expected - round(expected)) > 4e-3:
        assert int(age) == theirs["age"]


def test_the_batch_size_is_free(engines: dict[str, Engine], bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    shapes = {"face_attributes": (3, 224, 224), "face_age": (224, 224, 3), "face_race": (224, 224, 3)}
    for role, shape in shapes.items():
        images = rng.random((3, *shape), dtype=np.float32)
        together = engines[role]({"image": images})
        for k in range(3):
            for name, values in engines[role]({"image": images[k : k + 1]}).items():
                np.testing.assert_allclose(together[name][k], values[0], atol=1e-4)
        assert bundle.spec(role).inputs[0].shape[0] == "batch"


def test_a_shared_trunk_makes_one_engine(bundle: Bundle) -> None:
    assert bundle.spec("face_age") == bundle.spec("face_race")
    assert [t.name for t in bundle.spec("face_age").outputs] == ["age_probabilities", "race_probabilities"]
    size = sum(path.stat().st_size for path in bundle.engine_path("face_age").parent.iterdir())
    one = real_faces.WEIGHTS["age"].find()
    assert one is not None
    assert one.stat().st_size < size < 1.95 * one.stat().st_size


def test_a_photo_becomes_a_portrait(bundle: Bundle, astronaut: Path, engines: dict[str, Engine]) -> None:
    """A detector with random weights finds a face somewhere in the photo; its box must lie inside the photo.

    The guard only measures here: the same detector finds no face, or several, in the portrait.
    """
    anonymizer = Anonymizer.of(Engines(bundle), Settings(steps=2, detection_threshold=0.3, guard="report"))
    assert bundle.spec("face_identity").signature == "identity"
    assert bundle.spec("face_detector").signature == "retinaface"
    portrait = anonymizer.anonymize(astronaut)
    assert portrait.image.size == (64, 64)
    x, y, w, h = portrait.face or (0, 0, 0, 0)
    assert 0 <= x <= x + w <= 512
    assert 0 <= y <= y + h <= 512
    assert w * h > 0
    assert portrait.attributes is not None
    assert list(portrait.attributes) == ["Ethnic", "Age", *CELEBA]


def test_labels_are_the_packages(facer_networks: tuple[Any, Any]) -> None:
    from deepface.models.demography.DemographyUtils import RACE_LABELS

    assert list(CELEBA) == facer_networks[1].labels
    assert list(ETHNICITIES) == RACE_LABELS


def test_facer_is_left_as_it_was() -> None:
    before = torch.nn.Module.cuda, torch.load

    def failing() -> None:
        with real_faces.cpu_only():
            assert (torch.nn.Module.cuda, torch.load) != before
            raise AnonError("x", "planned", "y")

    with pytest.raises(AnonError, match="planned"):
        failing()
    assert (torch.nn.Module.cuda, torch.load) == before


def test_damaged_weights_are_named(random_face_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("detector", "attributes"):
        folder = tmp_path / "torch" / "hub" / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / real_faces.WEIGHTS[role].names[0]).write_bytes(b"not weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    detector, attributes, _ = real_faces.face_components()
    for component in (detector, attributes):
        with pytest.raises(AnonError, match=r"facer's weights.*download it again") as caught:
            component.export(tmp_path / component.name)
        assert "\n" not in str(caught.value)


def test_every_missing_file_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    with pytest.raises(AnonError) as caught:
        real_faces.find_weights()
    for word in ("mobilenet0.25_Final.pth", "face_attribute.farl.celeba.pt", "age_model_weights", "343 MB", "https://"):
        assert word in str(caught.value)
    assert str(tmp_path) in str(caught.value)
