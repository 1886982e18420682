import json
from pathlib import Path

import onnxruntime
import pytest

from anon_export import build as builder
from anon_export.build import Plan
from anon_runtime.bundle import MANIFEST, Bundle
from anon_runtime.errors import AnonError, OutputError


def test_manifest_tells_the_truth_about_the_engines(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    for role in bundle.manifest.engines:
        session = onnxruntime.InferenceSession(bundle.engine_path(role), providers=["CPUExecutionProvider"])
        spec = bundle.spec(role)
        for recorded, real in ((spec.inputs, session.get_inputs()), (spec.outputs, session.get_outputs())):
            assert [t.name for t in recorded] == [t.name for t in real]
            assert [list(t.shape) for t in recorded] == [t.shape for t in real]
            names = {"float32": "tensor(float)", "int64": "tensor(int64)"}
            assert [names[t.dtype] for t in recorded] == [t.type for t in real]
        assert spec.precision == "fp32"


def test_manifest_names_source_and_tools(demo_bundle: Path) -> None:
    manifest = Bundle.open(demo_bundle).manifest
    assert manifest.source.model == "demo"
    assert {path.split("/")[0] for path in manifest.source.files} == {"text_encoder", "unet", "vae"}
    assert set(manifest.tools) >= {"torch", "diffusers", "onnx"}
    assert manifest.tables.timestep_spacing == "leading"
    assert (manifest.defaults.sampler, manifest.defaults.steps, manifest.defaults.guidance_scale) == (
        "dpmpp_sde",
        15,
        7.5,
    )


def test_nothing_of_the_build_machine_is_in_the_bundle(demo_bundle: Path) -> None:
    home = str(Path(__file__).parents[2]).encode()
    for path in demo_bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert home not in content and b"site-packages" not in content, path


def test_optimum_opens_the_bundle(demo_bundle: Path) -> None:
    """Other tools can use the engines: Optimum's own pipeline paints from the folder."""
    optimum = pytest.importorskip("optimum.onnxruntime")
    pipeline = optimum.ORTStableDiffusionPipeline.from_pretrained(demo_bundle)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a man", num_inference_steps=2).images[0].size == (128, 128)


def test_a_failed_build_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "demo"
    old.mkdir()
    (old / MANIFEST).write_text("old")

    def fail(*_: object) -> None:
        raise AnonError("tables", "planned", "none")

    monkeypatch.setattr(builder.graphs, "export_text_encoder", fail)
    with pytest.raises(AnonError, match="planned"):
        builder.build(Plan("demo", "demo", tmp_path, "none"), lambda _: None)
    assert (old / MANIFEST).read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_a_build_replaces_the_old_bundle_whole(tmp_path: Path) -> None:
    old = tmp_path / "demo"
    old.mkdir()
    (old / "stale").write_text("old")
    with builder._staging(old) as folder:
        (folder / "fresh").write_text("new")
        assert (old / "stale").exists(), "the old one stays until the new one stands"
    assert [p.name for p in old.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [old]


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--output"):
        builder.build(Plan("demo", "demo", tmp_path / "file", "none"), lambda _: None)


def test_model_index_is_kept(demo_bundle: Path) -> None:
    assert json.loads((demo_bundle / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
