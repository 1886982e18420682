import json
import shutil
from pathlib import Path

import pytest

from anon_export.models.loading import load_pipeline
from anon_export.models.model import Model
from anon_export.models.sources import ALIASES, find_model
from anon_runtime.errors import AnonError


def find(name: Path | str, scratch: Path, **options: object) -> Model:
    return find_model(str(name), scratch, **options)  # type: ignore[arg-type]


def refused(word: str, name: Path | str, scratch: Path, **options: object) -> None:
    with pytest.raises(AnonError, match=word) as caught:
        find(name, scratch, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_in_diffusers_layout(demo_model: Path, tmp_path: Path) -> None:
    found = find(demo_model, tmp_path)
    source = found.source()
    assert source.model == demo_model.name
    assert source.revision is None
    assert {name.split("/")[0] for name in source.files} == {"text_encoder", "unet", "vae"}
    assert found.digests("unet", source) == [source.files["unet/diffusion_pytorch_model.safetensors"]]
    assert load_pipeline(found).unet.config.cross_attention_dim == 64


def test_folders_that_are_no_model(model: Path, tmp_path: Path) -> None:
    refused("no alias, no name on the hub", tmp_path / "absent", tmp_path)
    refused("model_index.json", tmp_path, tmp_path)
    shutil.rmtree(model / "vae")
    refused("lacks vae", model, tmp_path)
    for kind in ("StableDiffusionXLPipeline", "StableDiffusionInpaintPipeline"):
        (model / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        refused(kind, model, tmp_path)
    (model / "model_index.json").write_text("{")
    refused("not JSON", model, tmp_path)


@pytest.mark.parametrize(
    ("part", "key", "value", "word"),
    [
        ("scheduler/scheduler_config.json", "prediction_type", "v_prediction", "predicts v_prediction"),
        ("unet/config.json", "in_channels", 9, "takes 9 channels.*inpainting"),
        ("unet/config.json", "addition_embed_type", "text_time", "more than a prompt"),
        ("vae/config.json", "latent_channels", 16, "16 latent channels"),
    ],
)
def test_relatives_are_refused(model: Path, tmp_path: Path, part: str, key: str, value: object, word: str) -> None:
    config = json.loads((model / part).read_text())
    (model / part).write_text(json.dumps(config | {key: value}))
    refused(word, model, tmp_path)


def test_pickles_need_to_be_allowed(model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    refused("Python pickle.*`allow_pickle`", model, tmp_path)
    found = find(model, tmp_path, allow_pickle=True)
    assert load_pipeline(found).unet.config.in_channels == 4
    path.with_suffix(".bin").unlink()
    refused("unet has no weights", model, tmp_path, allow_pickle=True)


def test_another_vae(demo_model: Path, tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(5)
    config = AutoencoderKL.load_config(demo_model / "vae")
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "other")
    plain, changed = find(demo_model, tmp_path), find(demo_model, tmp_path, vae=str(tmp_path / "other"))
    assert changed.source().vae == "other"
    before, after = (m.digests("vae", m.source()) for m in (plain, changed))
    assert before != after
    weights = [load_pipeline(m).vae.decoder.conv_in.weight for m in (plain, changed)]
    assert not torch.equal(*weights)
    expected = AutoencoderKL.from_pretrained(tmp_path / "other").decoder.conv_in.weight
    assert torch.equal(weights[1], expected)


def test_the_paper_s_model_is_pinned() -> None:
    for repository, commit in ALIASES["realistic-vision"]:
        assert "/" in repository
        assert len(commit) == 40
