"""TensorRT for RTX builds without a GPU, so the builder's calls are the real ones; running its plans needs a GPU."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from anon_export.build import plan as build_plan
from anon_export.build.builder import build, runs_here
from anon_export.build.options import BuildOptions
from anon_export.graphs import stable_diffusion
from anon_export.graphs.export import engine_spec, export_graph, seeded_normal
from anon_export.graphs.options import Precision
from anon_export.targets import tensorrt
from anon_export.targets.shapes import Range
from anon_runtime import Anonymizer
from anon_runtime.backends import tensorrt as trt
from anon_runtime.backends.base import cache_folder
from anon_runtime.backends.cuda import Cuda
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Defaults, EngineSpec
from anon_runtime.errors import AnonError, BackendError, UsageError
from tests.conftest import edit_manifest

pytestmark = [pytest.mark.packages, pytest.mark.usefixtures("own_cache")]
pytest.importorskip(trt.RTX_LIBRARIES)
runtime = pytest.importorskip("cuda.bindings.runtime")
HAS_GPU = runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess


def test_every_engine_is_a_plan(rtx_bundle: Bundle) -> None:
    manifest = rtx_bundle.manifest
    assert manifest.gpu == "sm_89"
    assert manifest.target == "tensorrt-rtx"
    assert manifest.tools["tensorrt_rtx_cu13_bindings"]
    assert "unet_cached" in manifest.engines
    for role, spec in manifest.engines.items():
        assert spec.path.endswith("/model.plan")
        assert rtx_bundle.engine_path(role).stat().st_size > 1000
    assert not list(rtx_bundle.path.rglob("*.onnx*")), "graphs are intermediate"
    cache = list(cache_folder().glob("tensorrt-rtx-*-sm_89.timing"))
    assert len(cache) == 1
    assert cache[0].stat().st_size > 0


@pytest.mark.skipif(HAS_GPU, reason="this machine may be able to run them")
def test_what_has_not_run_is_not_called_verified(rtx_bundle: Bundle, astronaut: Path) -> None:
    assert not runs_here("sm_89")
    assert rtx_bundle.manifest.verification is None
    with pytest.raises(BackendError, match="nvidia-smi"):
        Anonymizer.load(rtx_bundle.path).describe(astronaut)


def test_a_second_build_builds_nothing(rtx_bundle: Bundle, tmp_path: Path) -> None:
    options = BuildOptions("demo", "demo", rtx_bundle.path.parent, "demo", "tensorrt-rtx", deepcache=True)
    assert build_plan.prepare(options, tmp_path / "a").unchanged
    for change in ({"gpu": "sm_86"}, {"batch_size": Range(1, 2, 8)}, {"text_windows": Range(1, 1, 1)}):
        after = build_plan.prepare(replace(options, **change), tmp_path / next(iter(change)))
        assert not any(step.kept for step in after.steps), change


def test_defaults_are_not_those_of_the_bundle_that_was_there(own_bundle: Path) -> None:
    """That one was measured on a processor, and its batch may not fit."""
    edit_manifest(own_bundle, defaults=asdict(Defaults(guidance_batch=False, batch_size=8)))
    folder, sizes = own_bundle.parent, Range(1, 2, 3)
    made = build(BuildOptions("demo", own_bundle.name, folder, "none", "tensorrt-rtx", batch_size=sizes))
    assert made.path == own_bundle
    assert made.manifest.defaults == Defaults(batch_size=2)


def test_graphs_are_checked_before_they_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if HAS_GPU:
        pytest.skip("engines themselves are checked where they run")
    real = stable_diffusion.export_text_encoder

    def wrong(model: Any, *arguments: Any) -> EngineSpec:
        spec = real(model, *arguments)
        graph = onnx.load(spec.path)
        weight = next(t for t in graph.graph.initializer if t.name.endswith("layer_norm1.weight"))
        array = onnx.numpy_helper.to_array(weight) * 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(array.astype("float32"), weight.name))
        onnx.save(graph, spec.path)
        return spec

    monkeypatch.setattr(stable_diffusion, "export_text_encoder", wrong)
    with pytest.raises(AnonError, match=r"text_encoder engine.*differs from PyTorch"):
        build(BuildOptions("demo", "demo", tmp_path, "none", "tensorrt-rtx"))
    assert list(tmp_path.iterdir()) == []


def test_half_precision_stays_half(tmp_path: Path) -> None:
    path = tmp_path / "net" / "model.onnx"

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 64, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.convolution(image.to(self.convolution.weight.dtype))
            return result.float()

    sizes = {}
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        image = {"image": seeded_normal(2, 3, 16, 16)}
        spec = export_graph(Net(), image, {"image": {0: "batch"}}, ("out",), path, precision=precision)
        assert spec.precision == precision
        assert spec.inputs[0].dtype == "float32"
        made = tensorrt.convert("tensorrt-rtx", spec, {"batch": Range(1, 1, 4)}, "sm_86")
        sizes[precision] = Path(made.path).stat().st_size
    assert sizes["fp16"] < sizes["fp32"]


def test_graphs_that_tensorrt_refuses_are_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Abacus", ["x"], ["y"], domain="nowhere")
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:]))
    onnx.save(model, tmp_path / "model.onnx")
    spec = engine_spec(model, tmp_path / "model.onnx")
    with pytest.raises(AnonError, match=r"TensorRT does not parse it.*Plugin not found") as caught:
        tensorrt.convert("tensorrt-rtx", spec, {"batch": Range(1, 1, 4)}, "sm_89")
    assert "\n" not in str(caught.value)


def test_architectures() -> None:
    assert tensorrt.architecture("tensorrt-rtx", None) == "sm_89"
    assert tensorrt.architecture("tensorrt-rtx", "sm_86") == "sm_86"
    with pytest.raises(UsageError, match=r"sm_90.*use one of: sm_120, .*sm_89"):
        tensorrt.architecture("tensorrt-rtx", "sm_90")
    if not HAS_GPU:
        with pytest.raises(BackendError, match="nvidia-smi"):
            tensorrt.architecture("tensorrt", None)


def test_tensorrt_builds_for_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cuda, "architecture", lambda _: "sm_90")
    assert tensorrt.architecture("tensorrt", None) == "sm_90"
    with pytest.raises(UsageError, match="builds for the GPU that it runs on, which is sm_90"):
        tensorrt.architecture("tensorrt", "sm_80")
