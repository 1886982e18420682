import pytest

from anon_export.models.diffusers_layout import choose_files, choose_weights
from anon_runtime.errors import AnonError


def test_choice_of_weights() -> None:
    both = ["config.json", "model.fp16.safetensors", "model.safetensors", "pytorch_model.bin"]
    assert choose_weights(both, "text_encoder", False, "x") == (["model.safetensors"], None)
    assert choose_weights(["model.fp16.safetensors"], "text_encoder", False, "x") == (
        ["model.fp16.safetensors"],
        "fp16",
    )
    shards = [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    assert choose_weights([*shards, "diffusion_pytorch_model.non_ema.safetensors"], "unet", False, "x") == (
        shards,
        None,
    )


def test_choice_of_files_on_the_hub() -> None:
    parts = ("text_encoder", "unet", "vae", "tokenizer", "scheduler")
    files = [
        "README.md",
        "model_index.json",
        "big.ckpt",
        "safety_checker/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    chosen = choose_files(files, parts, False, "x")
    skipped = {"README.md", "big.ckpt", "safety_checker/model.safetensors", "text_encoder/model.fp16.safetensors"}
    assert set(files) - set(chosen) == skipped | {"unet/diffusion_pytorch_model.bin"}
    assert choose_files(["config.json", "diffusion_pytorch_model.safetensors", "x.md"], ("vae",), False, "x") == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    with pytest.raises(AnonError, match="lacks unet"):
        choose_files([name for name in files if not name.startswith("unet")], parts, False, "x")
