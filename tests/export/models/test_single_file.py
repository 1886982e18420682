import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from anon_export.models import single_file
from anon_export.models.loading import load_model, load_pipeline
from anon_export.models.single_file import CONFIGS
from anon_export.models.sources import find_model
from anon_runtime.errors import AnonError
from tests.export.models.ldm import to_checkpoint


@pytest.fixture(scope="module")
def pipeline(demo_model: Path) -> Any:
    return load_model(demo_model)


@pytest.fixture(scope="module")
def tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    return to_checkpoint(pipeline)


@pytest.fixture
def small_configs(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's sizes in place of Stable Diffusion 1.5's."""
    small = {name: json.loads((demo_model / name).read_text()) for name in CONFIGS}
    monkeypatch.setattr(single_file, "CONFIGS", small)


def same(ours: Any, theirs: Any) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_checkpoint_file_is_loaded_without_a_network(
    pipeline: Any, tensors: dict[str, torch.Tensor], tmp_path: Path, small_configs: None, suffix: str
) -> None:
    path = tmp_path / f"model.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": tensors}, path)
        with pytest.raises(AnonError, match=r"Python pickles.*`allow_pickle`"):
            find_model(str(path), tmp_path / "scratch")
    else:
        save_file(tensors, path)
    model = find_model(str(path), tmp_path / "scratch", allow_pickle=suffix == "ckpt")
    assert model.source().files.keys() == {path.name}
    assert model.name == path.name
    loaded = load_pipeline(model)
    for part in ("text_encoder", "unet", "vae"):
        assert same(getattr(loaded, part), getattr(pipeline, part)), part
    parts = {"text_encoder": loaded.text_encoder, "unet": loaded.unet, "vae": loaded.vae}
    assert model.sizes == {name: 4 * sum(t.numel() for t in net.state_dict().values()) for name, net in parts.items()}
    assert dict(loaded.scheduler.config) == dict(pipeline.scheduler.config)


def test_a_vae_in_one_file(
    pipeline: Any, tensors: dict[str, torch.Tensor], demo_model: Path, tmp_path: Path, small_configs: None
) -> None:
    changed = {name: tensor * 2 for name, tensor in tensors.items() if name.startswith("first_stage_model.")}
    save_file(changed, tmp_path / "vae.safetensors")
    model = find_model(str(demo_model), tmp_path / "scratch", vae=str(tmp_path / "vae.safetensors"))
    loaded = load_pipeline(model)
    assert same(loaded.unet, pipeline.unet)
    weight = pipeline.vae.decoder.conv_in.weight
    assert torch.equal(loaded.vae.decoder.conv_in.weight, weight * 2)
    assert model.source().vae == "vae.safetensors"


@pytest.mark.parametrize(
    ("name", "shape", "word"),
    [
        ("conditioner.embedders.0.x", (1,), "SDXL"),
        ("cond_stage_model.model.x", (1,), "Stable Diffusion 2"),
        ("lora_unet_x", (1,), "LoRA"),
        ("double_blocks.0.x", (1,), "Flux"),
        ("something", (1,), "no UNet"),
        (single_file.FIRST_CONVOLUTION, (320, 9, 3, 3), "9 channels.*inpainting"),
    ],
)
def test_other_checkpoints_are_named(tmp_path: Path, name: str, shape: tuple[int, ...], word: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape)}, path)
    with pytest.raises(AnonError, match=word) as caught:
        find_model(str(path), tmp_path / "scratch")
    assert "\n" not in str(caught.value)


def test_a_broken_download_is_named(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AnonError, match=r"no intact safetensors file.*download it again"):
        find_model(str(path), tmp_path / "scratch")
    save_file({"lora_unet_x": torch.zeros(1)}, path)
    with pytest.raises(AnonError, match="no decoder"):
        single_file.check(path, allow_pickle=False, vae_only=True)


def test_the_configs_are_stable_diffusion_s(tmp_path: Path) -> None:
    """859.5 M, 123.1 M and 83.7 M parameters: the counts of the published model's parts."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = single_file.write_configs(tmp_path)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    counts = [sum(p.numel() for p in net.parameters()) for net in (unet, text, vae)]
    assert counts == [859_520_964, 123_060_480, 83_653_863]
