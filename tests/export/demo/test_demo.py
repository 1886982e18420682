from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageOps
from transformers import CLIPTokenizer

from anon_export.demo import faces, weights
from anon_export.demo.networks import FIRST_PAIRS, AttributeNet, DemographyNet, FaceNet
from anon_export.models.loading import load_model
from anon_runtime import Anonymizer, Request
from anon_runtime.bundle.integrity import sha256
from anon_runtime.errors import AnonError
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.detection import DETECTORS, detect
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Attributes, Pixels


def test_the_vocabulary_is_clips(demo_model: Path) -> None:
    """Token ids of CLIP's own tokenizer for a caption, as published in its README's notebook."""
    tokenizer = CLIPTokenizer.from_pretrained(demo_model / "tokenizer")
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(faces, "distribution", absent)
    with pytest.raises(AnonError, match=r"anon-engines\[demo\]"):
        faces.find_centerface()


@pytest.fixture(scope="module")
def generated(anonymizer: Anonymizer) -> list[tuple[Attributes, Pixels]]:
    """Twelve made-up people of both sexes, young and dark-haired or old and grey, and their portraits."""
    ages = ((24, ("Young", "Black_Hair")), (68, ("Gray_Hair", "Bags_Under_Eyes")))
    sexes = ((0.0, ("No_Beard", "Wearing_Lipstick", "Arched_Eyebrows")), (1.0, ("Big_Nose", "Bushy_Eyebrows")))
    people: list[Attributes] = [
        {"Ethnic": ethnicity, "Age": age, **dict.fromkeys(CELEBA, 0.0), **dict.fromkeys(young + own, 1.0), "Male": male}
        for ethnicity in ("white", "black", "asian")
        for male, own in sexes
        for age, young in ages
    ]
    requests = [Request(*write_prompts(person), seed=seed) for seed, person in enumerate(people)]
    portraits = anonymizer.generate(requests)
    return [(person, np.asarray(portrait.image)) for person, portrait in zip(people, portraits, strict=True)]


def test_the_demo_generates_one_face_per_image(
    anonymizer: Anonymizer, generated: list[tuple[Attributes, Pixels]]
) -> None:
    detector = DETECTORS[anonymizer.engines.bundle.spec("face_detector").signature]
    images = [image for _, image in generated]
    found = detect(anonymizer.engines["face_detector"], detector, images, detector.threshold)
    assert sum(len(faces) == 1 for faces in found) >= 11


@pytest.mark.parametrize("name", ["Male", "Gray_Hair", "Young"])
def test_the_demo_generates_what_its_prompts_say(
    anonymizer: Anonymizer, generated: list[tuple[Attributes, Pixels]], name: str
) -> None:
    """A floor: of all pairs of images with and without it, the attribute engine orders nine in ten rightly."""
    read = [float(anonymizer.describe(image).attributes[name]) for _, image in generated]
    with_it = [score for score, (person, _) in zip(read, generated, strict=True) if person[name]]
    without = [score for score, (person, _) in zip(read, generated, strict=True) if not person[name]]
    assert np.mean([a > b for a in with_it for b in without]) >= 0.9


def test_another_seed_is_another_face(anonymizer: Anonymizer) -> None:
    prompts = write_prompts({"Ethnic": "white", "Age": 30, **dict.fromkeys(CELEBA, 0.0), "Young": 1.0})
    first, second = (
        np.asarray(p.image, int) for p in anonymizer.generate([Request(*prompts, 1), Request(*prompts, 2)])
    )
    assert np.abs(first - second).mean() > 10


def test_the_demo_reads_a_photograph(anonymizer: Anonymizer, astronaut: Path) -> None:
    """Eileen Collins at 35, in a photograph of another kind than those of training; see the model card's limits."""
    person = anonymizer.describe(astronaut).attributes
    assert 20 < float(person["Age"]) < 50
    assert person["Ethnic"] == "white"
    assert float(person["Bald"]) < 0.5 < float(person["Young"])
    assert person["Attractive"] == 0, "nobody judged it"


VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda photo: photo,
    "mirrored": ImageOps.mirror,
    "cut": lambda photo: photo.crop((70, 10, 400, 340)),
    "small": lambda photo: photo.resize((300, 300)),
    "turned": lambda photo: photo.rotate(6, Image.Resampling.BILINEAR),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_demo_sees_a_smiling_woman(anonymizer: Anonymizer, astronaut: Path, view: str) -> None:
    """What `make demo` shows first; the photograph was never trained on."""
    with Image.open(astronaut) as photo:
        seen = anonymizer.describe(VIEWS[view](photo.convert("RGB")))
    assert " woman, " in seen.prompt
    assert " Smiling ," in seen.prompt
    assert float(seen.attributes["Male"]) < 0.4, "clearly"
    assert float(seen.attributes["Smiling"]) > 0.6, "clearly"


def test_each_attribute_is_read_by_one_pair() -> None:
    net = AttributeNet().eval()
    for i, member in enumerate(net.nets):
        assert isinstance(member, FaceNet)
        # The logits of the first pair are 0 and 1, and those of the second pair 2 and 3.
        torch.nn.init.zeros_(member.attributes.weight)
        torch.nn.init.constant_(member.attributes.bias, float(i))
    scores = net(torch.zeros(1, 3, 224, 224))[0]
    for name, score in zip(CELEBA, scores, strict=True):
        said = torch.sigmoid(torch.tensor(0.5 if name in FIRST_PAIRS else 2.5))
        torch.testing.assert_close(score, said if name != "Attractive" else torch.tensor(0.0))


def test_weights_survive_writing_and_reading(demo_model: Path, tmp_path: Path) -> None:
    """Of the table of words only those rows are kept that prompts can reach."""
    pipeline = load_model(demo_model)
    weights.save_generator(tmp_path / "g.safetensors", pipeline, pipeline.tokenizer)
    assert weights.faces_digest() != sha256(tmp_path / "g.safetensors")
    again = weights.load_generator(tmp_path / "g.safetensors")
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(again, part), getattr(pipeline, part)
        for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_face_networks_survive_writing_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight changes by half a step at most, of which the largest in its row is 127; a second time, by nothing."""
    torch.manual_seed(0)
    nets = AttributeNet(), DemographyNet()
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    weights.save_faces(tmp_path / weights.FACES, *nets)
    again = weights.load_faces()
    for ours, theirs in zip(nets, again, strict=True):
        read = theirs.state_dict()
        for name, tensor in ours.state_dict().items():
            rows = tensor.float().reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.float().reshape(1, -1)
            most = rows.abs().amax(dim=1, keepdim=True) * (0.5 / 127 + 2**-10)  # and half precision's rounding
            assert ((rows - read[name].float().reshape(rows.shape)).abs() <= most).all(), name
    weights.save_faces(tmp_path / "second.safetensors", *again)
    weights_of = (safetensors.torch.load_file(tmp_path / name) for name in (weights.FACES, "second.safetensors"))
    first, second = weights_of
    assert all(torch.equal(first[name], second[name]) for name in first if first[name].dtype == torch.int8)


def test_the_weights_fit_into_the_repository() -> None:
    files = [path for path in weights.FOLDER.iterdir() if path.name.endswith(".safetensors")]
    assert len(files) == 2
    assert sum(len(path.read_bytes()) for path in files) < 25_000_000
