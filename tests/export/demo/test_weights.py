from pathlib import Path

import pytest
import safetensors.torch
import torch

from anon_export.demo import weights
from anon_export.demo.networks import AttributeNet, DemographyNet
from anon_export.models.loading import load_model
from anon_runtime.bundle.integrity import sha256


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
