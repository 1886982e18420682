"""Random weights for the networks of the evaluation's packages, where the packages look for trained ones."""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from huggingface_hub import constants

from anon_export.demo.generator import initialise
from benchmarks.evaluate.predictors import DeepFaceDemography
from benchmarks.evaluate.quality import VisualDna


@pytest.fixture(scope="session")
def checkpoints(random_face_weights: Path) -> Path:
    """The folder where `torch.hub` keeps weights."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def facenet(random_face_weights: Path) -> Path:
    """The folder with weights of FaceNet's two networks."""
    from facenet_pytorch import InceptionResnetV1

    from benchmarks.evaluate.encoders import FaceNet

    folder = random_face_weights / "torch" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (classes, (name, _)) in enumerate(zip((8631, 10575), FaceNet.trained.values(), strict=True)):
        torch.manual_seed(seed)
        torch.save(InceptionResnetV1(classify=True, num_classes=classes).state_dict(), folder / name)
    return folder


def clean_fid_network() -> torch.nn.Module:
    """A small network with the interface of clean-fid's: its ``layers`` turn images in -1..1 into 2048 features."""
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 7, 8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 16, 2048),
    )
    return torch.nn.Sequential(OrderedDict(layers=layers))


@pytest.fixture(scope="session")
def inceptions(checkpoints: Path) -> Path:
    """The folder with weights of the Inception networks of clean-fid and torch-fidelity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    torch.jit.script(clean_fid_network()).save(str(checkpoints / "inception-2015-12-05.pt"))
    path = checkpoints / "weights-inception-2015-12-05-6726825d.pth"
    torch.save({}, path)
    with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    initialise(network)
    torch.save(network.state_dict(), path)
    return checkpoints


@pytest.fixture(scope="session")
def deepface(random_face_weights: Path) -> Path:
    """The folder with weights of DeepFace's emotion and gender networks; `random_face_weights` writes those of race."""
    from deepface.models.demography.pytorch import Emotion, Gender

    folder = Path(os.environ["DEEPFACE_HOME"]) / ".deepface" / "weights"
    torch.manual_seed(1)
    for module, (name, _) in ((Emotion, DeepFaceDemography.files[0]), (Gender, DeepFaceDemography.files[2])):
        network = module.base_model()
        initialise(network)
        torch.save(network.state_dict(), folder / name)
    return folder


@pytest.fixture(scope="session")
def mugs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with weights of Mugs ViT-B/16 and the ranges of its neurons, in a cache of the Hugging Face hub."""
    from vdna.networks.mugs_vit import vit_base

    hub = tmp_path_factory.mktemp("hub")
    repository = hub / f"models--{VisualDna.repository.name.replace('/', '--')}"
    folder = repository / "snapshots" / "0123456789" / "Mugs" / VisualDna.extractor
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789")
    torch.manual_seed(0)
    torch.save({"state_dict": vit_base(num_relation_blocks=1).state_dict()}, folder / "weights.pth")
    layers = [*(f"block_{i}" for i in range(12)), "last_norm"]
    ranges = {
        side: {layer: dict.fromkeys(map(str, range(768)), end) for layer in layers}
        for side, end in (("mins_per_neuron", -3.0), ("maxs_per_neuron", 3.0))
    }
    (folder / "activation_ranges.json").write_text(json.dumps(ranges))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(hub))
        yield folder
