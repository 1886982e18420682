"""The command with all packages and random weights."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.types import Pixels
from benchmarks.evaluate.__main__ import main
from benchmarks.evaluate.encoders import ENCODERS
from benchmarks.evaluate.quality import INCEPTIONS, CleanFid, TorchFidelity


def test_every_row_runs_where_its_weights_are(
    facenet: Path,
    inceptions: Path,
    mugs: Path,
    deepface: Path,
    bundle: Bundle,
    photos: list[Pixels],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLIP and HSEmotion are missing here; they are tested in tests/benchmarks. FID is computed of 16 features."""
    for network in (CleanFid, TorchFidelity):
        monkeypatch.setattr(network, "features", lambda self, p, whole=network.features: whole(self, p)[:16])
    for name in ("photos", "other"):
        (tmp_path / name).mkdir()
    for i, photo in enumerate(photos[:2]):
        Image.fromarray(photo[:256, :256]).save(tmp_path / "photos" / f"{i}.png")
        Image.fromarray(photo[:256, :256][:, ::-1]).save(tmp_path / "other" / f"{i}.png")
    out = tmp_path / "report"
    arguments = [str(tmp_path / "photos"), f"other={tmp_path / 'other'}", "--engines", str(bundle.path), "-o", str(out)]
    assert main(arguments) == 0
    found = json.loads((out / "report.json").read_text())
    for name in ENCODERS:
        assert ("missing" in found["reid"][name]) == name.startswith("CLIP")
    for name in (*INCEPTIONS, "Visual DNA"):
        assert found["quality"][name]["other"]["all"]["of"] == 2
    assert found["quality"]["Visual DNA"]["other"]["all"]["image"] > 0
    assert "other" in found["utility"]["DeepFace"]
    assert "other" in found["utility"]["face engines"]
    assert constants.HF_HUB_CACHE in found["reid"]["CLIP ViT-B/32"]["missing"]
    text = (out / "report.md").read_text()
    assert all(f"| {encoder} | other | 2 |" in text for encoder in ENCODERS if not encoder.startswith("CLIP"))
