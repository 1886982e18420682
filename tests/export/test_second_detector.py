import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from anon_export import faces, second_detector
from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.build.verify import check_engine
from anon_export.second_detector import centerface_component, retinaface_component
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.faces.detection import DETECTORS, SECOND_DETECTOR_ROLE, detect, prior_boxes
from anon_runtime.settings import find_second_detector
from tests.conftest import pixels

WEIGHTS = "mobilenet0.25_Final.pth"


class Network(nn.Module):
    """Random weights with the inputs and outputs of facer's RetinaFace: 16 numbers for each prior box."""

    def __init__(self) -> None:
        super().__init__()
        self.grids = nn.ModuleList(nn.Conv2d(3, 2 * 16, stride, stride) for stride in (8, 16, 32))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = [grid(image / 255).permute(0, 2, 3, 1).reshape(image.shape[0], -1, 16) for grid in self.grids]
        boxes, scores, landmarks = torch.cat(rows, dim=1).split((4, 2, 10), dim=-1)
        return boxes, scores.softmax(dim=-1), landmarks


@pytest.fixture
def facer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of weights, in a process where the package facer is a network with random weights."""
    torch.manual_seed(0)
    found = SimpleNamespace(net=Network())
    content = {"facer": {}, "facer.face_detection": {"RetinaFaceDetector": lambda *_, **__: found}}
    for name, attributes in content.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**attributes))
    monkeypatch.setattr(second_detector, "version", lambda _package: "0.0.5")
    weights = tmp_path / "weights" / WEIGHTS
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    known = replace(faces.WEIGHTS["detector"], folder=lambda: weights.parent)
    monkeypatch.setitem(faces.WEIGHTS, "detector", known)
    return weights


def test_centerface_as_the_second_one(tmp_path: Path, astronaut: Path) -> None:
    component = centerface_component()
    spec = component.export(tmp_path)[SECOND_DETECTOR_ROLE]
    assert component.roles == (SECOND_DETECTOR_ROLE,)
    assert spec.signature == "centerface"
    engine = load_engine("onnxruntime", Path(spec.path), "cpu")
    assert check_engine(engine, spec, Path(spec.path), SECOND_DETECTOR_ROLE).relative <= 1e-4
    assert len(detect(engine, DETECTORS["centerface"], [pixels(astronaut)], 0.5)[0]) == 1
    assert abs(component.size - Path(spec.path).stat().st_size) < 1e5


def test_retinaface_needs_facer_and_its_weights(facer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = retinaface_component()
    facer.write_bytes(b"others")
    second = retinaface_component()
    assert first is not None
    assert second is not None
    assert first.material != second.material
    with monkeypatch.context() as patch:
        patch.setattr(second_detector, "is_installed", lambda name: name != "facer")
        assert retinaface_component() is None
    facer.unlink()
    assert retinaface_component() is None


def test_a_second_detector_comes_and_goes_and_nothing_else_is_built(
    facer: Path, cached: BuildOptions, forbid: Callable[..., list[str]], astronaut: Path
) -> None:
    forbid()
    before = Bundle.open(cached.folder).manifest
    assert find_second_detector(before) is None
    states: dict[str, str] = {}
    bundle = build(cached, lambda name, state: states.setdefault(name, state))
    assert states["faces/second_detector"] == "exporting"
    others = {name: state for name, state in states.items() if "/" in name and name != "faces/second_detector"}
    assert set(others.values()) == {"unchanged"}
    manifest = Bundle.open(bundle.path).manifest
    second = manifest.engines[SECOND_DETECTOR_ROLE]
    assert {role: spec for role, spec in manifest.engines.items() if role != SECOND_DETECTOR_ROLE} == before.engines
    assert find_second_detector(manifest) is DETECTORS["retinaface"]
    assert (second.path, second.precision) == ("faces/second_detector/model.onnx", "fp32")
    assert manifest.verification is not None
    assert manifest.verification.engines[SECOND_DETECTOR_ROLE].relative <= 1e-4
    with Engines(bundle) as engines:
        found = detect(engines[SECOND_DETECTOR_ROLE], DETECTORS["retinaface"], [pixels(astronaut)], 0.01)[0]
    assert 0 < len(found) <= len(prior_boxes(640, 640))

    facer.unlink()
    manifest = build(cached).manifest
    assert manifest.engines == before.engines
    assert not (cached.folder / "faces" / "second_detector").exists()
