"""The demo's generator: the classes of Stable Diffusion 1.5's networks with small widths, and CLIP's tokenizer."""

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
MERGES = 49408 - 2 * 256 - 2  # CLIP's vocabulary without the bytes (inside and at the end of words) and two marks


@dataclass(frozen=True)
class Architecture:
    """Sizes of a model of Stable Diffusion 1.5's shape.

    Attributes:
        height, width: of the images, in pixels.
        unet_widths: channels of the UNet's levels.
        vae_widths: channels of the autoencoder's levels; each but the last one halves the image.
        text_width: of a text embedding.
        seed: of the random weights.
        plain_levels: levels of the UNet without cross-attention, as indices from the front or the back.
        vae_attention: whether the autoencoder's middle has attention.
    """

    height: int = 128
    width: int = 128
    unet_widths: tuple[int, ...] = (32, 64, 64, 64)
    vae_widths: tuple[int, ...] = (16, 32, 32, 32)
    text_width: int = 64
    seed: int = SEED
    plain_levels: tuple[int, ...] = (-1,)
    vae_attention: bool = True

    @property
    def factor(self) -> int:
        """Pixels per latent pixel along a side."""
        return 1 << (len(self.vae_widths) - 1)


# The trained one. Only its lowest level has attention to text: on the others it would cost more than all convolutions.
DEMO = Architecture(
    96, 96, unet_widths=(64, 128, 192), vae_widths=(32, 32, 64), plain_levels=(0, 1), vae_attention=False
)


@dataclass(frozen=True)
class Parts:
    """The networks of a generator."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel


def make_parts(a: Architecture) -> Parts:
    """Networks with random weights, as their libraries initialise them."""
    torch.manual_seed(a.seed)
    plain = [level % len(a.unet_widths) for level in a.plain_levels]
    attention = ["" if level in plain else "CrossAttn" for level in range(len(a.unet_widths))]
    unet = UNet2DConditionModel(
        sample_size=(a.height // a.factor, a.width // a.factor),
        block_out_channels=a.unet_widths,
        layers_per_block=1,
        cross_attention_dim=a.text_width,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in attention),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(attention)),
    )
    vae = AutoencoderKL(
        sample_size=max(a.height, a.width),
        block_out_channels=a.vae_widths,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * len(a.vae_widths),
        mid_block_add_attention=a.vae_attention,
        up_block_types=("UpDecoderBlock2D",) * len(a.vae_widths),
        scaling_factor=0.18215,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=a.text_width,
            intermediate_size=4 * a.text_width,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=a.text_width,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )
    return Parts(unet, vae, text_encoder)


def write_generator(folder: Path, architecture: Architecture | None = None) -> None:
    """Write a model with random weights as a diffusers folder."""
    parts = make_parts(architecture or Architecture())
    for model in (parts.unet, parts.vae, parts.text_encoder):
        initialise(model)
    write_model(folder, parts)


def write_model(folder: Path, parts: Parts) -> None:
    """Write networks, CLIP's tokenizer and Stable Diffusion's scheduler as a diffusers folder."""
    write_tokenizer(folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        unet=parts.unet,
        scheduler=make_scheduler(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def make_scheduler() -> PNDMScheduler:
    """The scheduler config that ships with Stable Diffusion 1.5."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def initialise(model: nn.Module) -> None:
    """Use He's initialisation. With torch's own, signals are so small that attention is uniform and hides mistakes."""
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
