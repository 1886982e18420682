"""The demo's generator: Stable Diffusion 1.5's component classes at small widths, made from a fixed seed."""

import gzip
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SEED = 20240417
MERGES = 49408 - 2 * 256 - 2  # CLIP's vocabulary without the bytes (alone, and at the end of a word) and two marks


@dataclass(frozen=True)
class Architecture:
    """Sizes of a model of Stable Diffusion 1.5's shape.

    Attributes:
        height, width: of the pictures, in pixels.
        unet_widths: channels of the UNet's levels; all but the last one have cross-attention.
        vae_widths: channels of the autoencoder's levels; each but the last one halves the picture.
        text_width: of a text embedding.
        seed: of the random weights.
    """

    height: int = 128
    width: int = 128
    unet_widths: tuple[int, ...] = (32, 64, 64, 64)
    vae_widths: tuple[int, ...] = (16, 32, 32, 32)
    text_width: int = 64
    seed: int = SEED


def write_generator(folder: Path, architecture: Architecture | None = None) -> None:
    """Write a model with random weights as a diffusers folder; the demo's if no architecture is given."""
    a = architecture or Architecture()
    torch.manual_seed(a.seed)
    factor, levels = 2 ** (len(a.vae_widths) - 1), len(a.unet_widths)
    unet = UNet2DConditionModel(
        sample_size=(a.height // factor, a.width // factor), block_out_channels=a.unet_widths, layers_per_block=1,
        cross_attention_dim=a.text_width, attention_head_dim=4, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
    )  # fmt: skip
    vae = AutoencoderKL(
        sample_size=max(a.height, a.width), block_out_channels=a.vae_widths, layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * len(a.vae_widths),
        up_block_types=("UpDecoderBlock2D",) * len(a.vae_widths), scaling_factor=0.18215,
    )  # fmt: skip
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=a.text_width, intermediate_size=4 * a.text_width, num_hidden_layers=2, num_attention_heads=4,
            projection_dim=a.text_width, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
        )
    )  # fmt: skip
    for model in (unet, vae, text_encoder):
        initialise(model)
    # The scheduler config that ships with Stable Diffusion 1.5.
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    write_tokenizer(folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), unet=unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def initialise(model: nn.Module) -> None:
    """He's initialisation: torch's own keeps signals so small that attention is uniform and hides mistakes."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def write_tokenizer(folder: Path) -> None:
    """Write CLIP's tokenizer files from the vocabulary that this package carries (see its CREDITS.md)."""
    packed = files(__package__).joinpath("clip_tokenizer", "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    alphabet = list(_byte_alphabet())
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge.split()) for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = marks | {"pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(
        json.dumps(marks | {"pad_token": "<|endoftext|>"}), encoding="utf-8"
    )


def _byte_alphabet() -> str:
    """The printable character that stands for each byte, in the order of GPT-2's ``bytes_to_unicode``."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return "".join(map(chr, [*printable, *range(256, 256 + others)]))
