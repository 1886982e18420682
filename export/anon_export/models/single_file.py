"""Checkpoints in one file, as Stable Diffusion was first released: which kinds are accepted, and their configs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anon_runtime.errors import AnonError

from .tensor_shapes import read_shapes

SCHEDULER = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
# The configs of Stable Diffusion 1.5, without what is the default of diffusers' and transformers' classes.
CONFIGS: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "safety_checker": [None, None],
        "requires_safety_checker": False, "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    },
    "scheduler/scheduler_config.json": SCHEDULER,
    "text_encoder/config.json": {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_size": 768,
        "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768,
        "hidden_act": "quick_gelu", "max_position_embeddings": 77, "vocab_size": 49408, "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 1,
    },
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8,
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL", "sample_size": 512, "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.18215,
    },
}  # fmt: skip
# The names of a part's tensors begin with these prefixes.
PREFIXES = {"text_encoder": "cond_stage_model.", "unet": "model.diffusion_model.", "vae": "first_stage_model."}
# The kind of a checkpoint by the beginning of a tensor's name that only this kind has.
FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"
OTHER_KINDS = {
    "conditioner.": "a checkpoint of SDXL",
    "cond_stage_model.model.": "a checkpoint of Stable Diffusion 2",
    "model.diffusion_model.joint_blocks.": "a checkpoint of Stable Diffusion 3",
    "double_blocks.": "a checkpoint of Flux",
    "model.diffusion_model.double_blocks.": "a checkpoint of Flux",
    "control_model.": "a ControlNet",
    "lora_": "a LoRA, which changes a model and is none",
}
FIX = "use a text-to-image checkpoint of Stable Diffusion 1.5's architecture"


def write_configs(folder: Path) -> Path:
    """Write the configs that diffusers would download for a checkpoint; returns the folder."""
    from ..demo.generator import write_tokenizer

    for name, content in CONFIGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    write_tokenizer(folder / "tokenizer")
    return folder


def check(path: Path, *, allow_pickle: bool, vae_only: bool) -> None:
    """Refuse a file that is no checkpoint of Stable Diffusion 1.5, or of a VAE, before it is loaded.

    Raises:
        AnonError: names what the file is instead.
    """
    if path.suffix != ".safetensors":
        if not allow_pickle:
            why = "it is no safetensors file; other checkpoints are Python pickles, which can run code of their maker's"
            raise AnonError(f"model {path}", f"{why} choice", "get safetensors, or trust the file with `allow_pickle`")
        return
    shapes = read_shapes(path)
    if vae_only:
        if not any("decoder." in name for name in shapes):
            raise AnonError(f"VAE {path}", "it holds no decoder", "use the VAE of a Stable Diffusion 1.5 model")
        return
    if kind := _other_kind(shapes):
        raise AnonError(f"model {path}", f"it is {kind}", FIX)
    if FIRST_CONVOLUTION not in shapes:
        raise AnonError(f"model {path}", "it holds no UNet of Stable Diffusion", FIX)
    if (channels := shapes[FIRST_CONVOLUTION][1]) != 4:
        raise AnonError(f"model {path}", f"its UNet takes {channels} channels (an inpainting or depth model)", FIX)


def _other_kind(names: Iterable[str]) -> str | None:
    return next((kind for name in names for start, kind in OTHER_KINDS.items() if name.startswith(start)), None)
