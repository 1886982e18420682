import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anon_export.build import plan as build_plan
from anon_export.build.options import BuildOptions
from anon_export.demo.generator import DEMO, write_generator
from anon_export.models.loading import load_model


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp16"},
        {"height": 64},
        {"static": True},
        pytest.param({"target": "openvino"}, marks=pytest.mark.packages),
    ],
)
def test_keys_follow_the_options(cached: BuildOptions, tmp_path: Path, change: dict[str, Any]) -> None:
    before = build_plan.prepare(cached, tmp_path / "a")
    assert before.unchanged
    assert before.size == 0
    after = build_plan.prepare(replace(cached, **change), tmp_path / "b")
    assert not after.unchanged
    assert not any(step.kept for step in after.steps if step.component.name == "unet")
    assert after.size > 0


def test_keys_follow_tools_and_code(cached: BuildOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (name, replacement) in enumerate(
        [("version", lambda _tool: "0.0"), ("engine_code", lambda: "other code")]
    ):
        with monkeypatch.context() as patch:
            patch.setattr(build_plan, name, replacement)
            after = build_plan.prepare(cached, tmp_path / str(number))
        assert not after.unchanged
        assert not any(step.kept for step in after.steps)


def test_keys_follow_the_weights(demo_model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = Path(shutil.copytree(demo_model, tmp_path / "model"))
    options = BuildOptions(str(model), "m", tmp_path / "out", "none")
    before = {step.component.name: step.key for step in build_plan.prepare(options, tmp_path / "a").steps}
    path = next((model / "vae").glob("*.safetensors"))
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] + 1e-3}, path)
    after = {step.component.name: step.key for step in build_plan.prepare(options, tmp_path / "b").steps}
    assert {name for name in before if before[name] != after[name]} == {"vae_encoder", "vae_decoder"}


def test_another_vae_for_the_demo(tmp_path: Path) -> None:
    write_generator(tmp_path / "other", replace(DEMO, seed=5))
    options = BuildOptions("demo", "demo", tmp_path, "none", vae=str(tmp_path / "other"))
    own, other = (build_plan.prepare(p, tmp_path / n) for p, n in ((replace(options, vae=None), "a"), (options, "b")))
    assert other.source.vae == "other"
    changed = {a.component.name for a, b in zip(own.steps, other.steps, strict=True) if a.key != b.key}
    assert changed == {"vae_encoder", "vae_decoder"}


def test_estimates_follow_what_is_written(tmp_path: Path) -> None:
    """Whatever precision the weights have in their files: a bundle in fp32 takes four bytes for each."""
    full, half = tmp_path / "full", tmp_path / "half"
    write_generator(full, DEMO)
    pipeline = load_model(full)
    pipeline.to(torch.float16).save_pretrained(half)
    files = [sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in (full, half)]
    assert files[1] < 0.55 * files[0]
    sizes = [
        build_plan.prepare(BuildOptions(str(model), "m", tmp_path / "out", "none"), tmp_path / "s").size
        for model in (full, half)
    ]
    assert sizes[0] == sizes[1] > files[0]
    rounded = BuildOptions(str(half), "m", tmp_path / "out", "none", precision="fp16-weights")
    assert build_plan.prepare(rounded, tmp_path / "s").size < 0.7 * sizes[0]
