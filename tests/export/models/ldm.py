"""A diffusers pipeline written as one checkpoint file, in the names of CompVis' latent-diffusion: made up for tests."""

import re
from typing import Any

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def to_checkpoint(pipeline: Any) -> dict[str, torch.Tensor]:
    """Tensors by their names in a checkpoint file."""
    tensors = {f"cond_stage_model.transformer.{name}": t for name, t in pipeline.text_encoder.state_dict().items()}
    layers = pipeline.unet.config.layers_per_block
    for name, tensor in pipeline.unet.state_dict().items():
        tensors[f"model.diffusion_model.{_unet_name(name, layers)}"] = tensor
    levels = len(pipeline.vae.config.block_out_channels)
    for name, tensor in pipeline.vae.state_dict().items():
        square = "attentions" in name and tensor.ndim == 2
        tensors[f"first_stage_model.{_vae_name(name, levels)}"] = tensor[:, :, None, None] if square else tensor
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _unet_name(name: str, layers: int) -> str:
    for theirs, ours in UNET.items():
        if name.startswith(f"{theirs}."):
            rest = name.removeprefix(f"{theirs}.")
            return f"{ours}.{_rename(rest, RESNET) if 'resnets' in theirs else rest}"
    side, block, kind, number, rest = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
    first = int(block) * (layers + 1) + (1 if side == "down" else 0)
    blocks = {"down": "input_blocks", "up": "output_blocks"}[side]
    if kind == "downsamplers":
        return f"{blocks}.{first + layers}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"{blocks}.{first + layers}.{1 if int(block) == 0 else 2}.{rest}"
    inside = "0." + _rename(rest, RESNET) if kind == "resnets" else f"1.{rest}"
    return f"{blocks}.{first + int(number)}.{inside}"


def _vae_name(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    if "mid_block.attentions.0." in name:
        start, rest = name.split("mid_block.attentions.0.")
        return f"{start}mid.attn_1.{_rename(rest, ATTENTION)}"
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)

    def up(match: re.Match[str]) -> str:
        return f"up.{levels - 1 - int(match[1])}."

    name = re.sub(r"up_blocks\.(\d+)\.", up, name)
    return re.sub(r"\.resnets\.(\d+)", r".block.\1", name).replace("upsamplers.0", "upsample")


def _rename(name: str, names: dict[str, str]) -> str:
    start = next(key for key in names if name.startswith(f"{key}."))
    return names[start] + name.removeprefix(start)
