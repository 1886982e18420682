"""The graphs of Stable Diffusion's networks, with the names of inputs and outputs that Optimum uses."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.diffusion.text_encoder import WINDOW
from anon_runtime.errors import UsageError

from .attention import fused_attention
from .export import engine_spec, export_graph, save_graph, seeded_generator, seeded_normal
from .fp16_weights import store_as_fp16
from .options import GraphOptions
from .reference_outputs import REFERENCE_OUTPUTS, write_reference_outputs
from .winograd import use_winograd


class TextEncoder(nn.Module):
    """CLIP's text model: ``input_ids`` (n, 77) -> ``last_hidden_state`` (n, 77, width), ``pooler_output``; float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids."""
        output = self.model(input_ids)
        return output.last_hidden_state.float(), output.pooler_output.float()


class Unet(nn.Module):
    """The denoiser: ``sample``, a scalar ``timestep``, ``encoder_hidden_states`` -> ``out_sample``; all float32.

    The timestep is not converted to half precision, which cannot represent its fractions.

    Args:
        model: diffusers' UNet.
        cache_branch: also return ``deep``, the features (n, channels, height, width) before the last
            ``cache_branch + 1`` layers of the topmost level; None is not to return them. The layers that are left need
            only as many layers of the way down, see ``DeepCache/extension/deepcache.py`` (Ma et al., 2023).
    """

    def __init__(self, model: Any, cache_branch: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.last_deep = None if cache_branch is None else _layer_before(model.up_blocks, cache_branch)

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict the noise in a sample."""
        kept: list[Tensor] = []
        layer: nn.Module | None = self.last_deep
        hook = None

        def keep(_module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
            """Let the rest of the network follow from ``deep`` itself; otherwise a graph could not be cut there."""
            first = output[0] if isinstance(output, tuple) else output
            kept.append(first.float())
            again = kept[0].to(first.dtype)
            return (again, *output[1:]) if isinstance(output, tuple) else again

        if layer is not None:
            hook = layer.register_forward_hook(keep)
        dtype = self.model.dtype
        try:
            output = self.model(sample.to(dtype), timestep, encoder_hidden_states.to(dtype), return_dict=False)[0]
        finally:
            if hook is not None:
                hook.remove()
        predicted: Tensor = output.float()
        return (predicted, kept[0]) if kept else predicted


def _layer_before(up_blocks: Any, branch: int) -> nn.Module:
    """The module whose output is the input of the last ``branch + 1`` layers of the topmost level.

    Raises:
        UsageError: the level has fewer layers.
    """
    top = up_blocks[-1]
    number = len(top.resnets) - 1 - branch  # of the first layer that is left
    if number < 0:
        why = f"the topmost level of this UNet has {len(top.resnets)} layers"
        raise UsageError(f"`cache_branch` {branch}", why, f"use at most {len(top.resnets) - 1}")
    layer: nn.Module = up_blocks[-2] if number == 0 else (getattr(top, "attentions", None) or top.resnets)[number - 1]
    return layer


class VaeEncoder(nn.Module):
    """Images to latents: ``sample`` (n, 3, H, W) in -1..1 -> ``latent_parameters`` (n, 2 c, h, w); float32.

    The parameters are the mean and the logarithm of the variance of the latents, before the scaling factor.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor) -> Tensor:
        """Encode images."""
        output: Tensor = self.model.encode(sample.to(self.model.dtype), return_dict=False)[0].parameters
        return output.float()


class VaeDecoder(nn.Module):
    """Latents to images: ``latent_sample`` (n, c, h, w) -> ``sample`` (n, 3, H, W) in -1..1; float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode latents that were divided by the scaling factor."""
        output: Tensor = self.model.decode(latent_sample.to(self.model.dtype), return_dict=False)[0]
        return output.float()


def export_text_encoder(model: Any, path: Path, options: GraphOptions) -> EngineSpec:
    """Export CLIP's text model with a free batch."""
    ids = torch.randint(0, model.config.vocab_size, (2, WINDOW), generator=seeded_generator())
    axes = {"input_ids": {0: "batch"}}
    outputs = ("last_hidden_state", "pooler_output")
    spec = export_graph(TextEncoder(model), {"input_ids": ids}, axes, outputs, path, precision=options.exported)
    return _rewrite(path, spec, options, {})


def export_unet(model: Any, path: Path, latent_shape: Sequence[int], options: GraphOptions) -> EngineSpec:
    """Export the UNet with a free batch and number of tokens.

    Height and width are free as well where `example_latents` allows it.
    """
    levels = len(model.config.block_out_channels)
    sample, free = example_latents(latent_shape, levels, static=options.static)
    width = model.config.cross_attention_dim
    inputs = {
        "sample": sample,
        "timestep": torch.tensor(417.25),
        "encoder_hidden_states": seeded_normal(2, WINDOW, width),
    }
    axes = {"sample": {0: "batch"} | free, "timestep": {}, "encoder_hidden_states": {0: "batch", 1: "tokens"}}
    reference_inputs = inputs | {
        "sample": seeded_normal(1, *latent_shape),
        "encoder_hidden_states": seeded_normal(1, 2 * WINDOW, width),
    }
    network = Unet(model, options.cache_branch)
    outputs = ("out_sample",) if options.cache_branch is None else ("out_sample", "deep")
    with fused_attention(model) if options.fused_attention else nullcontext():
        spec = export_graph(
            network, inputs, axes, outputs, path, reference_inputs=reference_inputs, precision=options.exported
        )
    return _rewrite(path, spec, options, dict.fromkeys(free.values(), 2 ** (levels - 1)))


def extract_cached_unet(unet: Path, path: Path) -> EngineSpec:
    """Extract the part of a UNet's graph that computes ``out_sample`` from its inputs and ``deep``; see `Unet`."""
    model = onnx.load(unet, load_external_data=False)
    inputs = [value.name for value in model.graph.input] + ["deep"]
    part = onnx.utils.Extractor(model).extract_model(inputs, ["out_sample"])
    onnx.external_data_helper.load_external_data_for_model(part, str(unet.parent))
    save_graph(part, path)
    with np.load(unet.with_name(REFERENCE_OUTPUTS), allow_pickle=False) as kept:
        arrays = {name: kept[f"input {name}"] for name in inputs[:-1]} | {"deep": kept["output deep"]}
        outputs = {"out_sample": kept["output out_sample"]}
    write_reference_outputs(path.with_name(REFERENCE_OUTPUTS), arrays, outputs)
    return engine_spec(part, path, signature="unet_cached")


def export_vae_decoder(
    model: Any, path: Path, latent_shape: Sequence[int], options: GraphOptions, multiple: int = 1
) -> EngineSpec:
    """Export the VAE's decoder with a free batch, height and width; see `export_unet`.

    With ``options.winograd`` it takes latents whose height and width are multiples of ``multiple``.
    """
    sample, free = example_latents(latent_shape, 1, static=options.static)
    side = -(-16 // multiple) * multiple
    reference_shape = latent_shape if options.static else (latent_shape[0], side, side + multiple)
    with fused_attention(model) if options.fused_attention else nullcontext():
        spec = export_graph(
            VaeDecoder(model),
            {"latent_sample": sample},
            {"latent_sample": {0: "batch"} | free},
            ("sample",),
            path,
            reference_inputs={"latent_sample": seeded_normal(1, *reference_shape)},
            precision=options.exported,
        )
    return _rewrite(path, spec, options, dict.fromkeys(free.values(), multiple))


def export_vae_encoder(
    model: Any, path: Path, latent_shape: Sequence[int], options: GraphOptions, multiple: int = 1
) -> EngineSpec:
    """Export the VAE's encoder with a free batch, height and width; see `export_vae_decoder`."""
    block = 2 ** (len(model.config.block_out_channels) - 1)
    latents, free = example_latents(latent_shape, 1, static=options.static)
    axes = {axis: name.removeprefix("latent_") for axis, name in free.items()}
    side = -(-16 // multiple) * multiple
    reference_shape = latent_shape[1:] if options.static else (side, side + multiple)

    def images(count: int, height: int, width: int) -> Tensor:
        return seeded_normal(count, 3, height * block, width * block).clamp(-1, 1)

    with fused_attention(model) if options.fused_attention else nullcontext():
        spec = export_graph(
            VaeEncoder(model),
            {"sample": images(len(latents), *latents.shape[2:])},
            {"sample": {0: "batch"} | axes},
            ("latent_parameters",),
            path,
            reference_inputs={"sample": images(1, *reference_shape)},
            precision=options.exported,
        )
    return _rewrite(path, spec, options, dict.fromkeys(axes.values(), multiple * block))


def _rewrite(path: Path, spec: EngineSpec, options: GraphOptions, smallest: Mapping[str, int]) -> EngineSpec:
    """Store weights in half precision and rewrite convolutions, where the options ask for it.

    ``smallest`` holds a value of each free dimension; all other values are multiples of it.
    """
    if options.exported != "fp16-weights" and not options.winograd:
        return replace(spec, precision=options.precision) if options.cuda else spec
    model = onnx.load(path)
    if options.precision == "fp16-weights":
        store_as_fp16(model)
    if options.winograd:
        use_winograd(model, smallest)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    save_graph(model, path)
    return replace(engine_spec(model, path), precision=options.precision)


def example_latents(latent_shape: Sequence[int], levels: int, *, static: bool = False) -> tuple[Tensor, dict[int, str]]:
    """Latents to trace a network with, and the names of their free dimensions by axis.

    The exporter takes a dimension for a constant if it becomes 1 on some level or equals another dimension. The
    example is therefore large enough and not square, whatever the model's own size is. A size that the levels cannot
    halve evenly is traced as it is and stays fixed, because diffusers then computes something else.

    Args:
        latent_shape: channels, height and width of the model's own latents.
        levels: of the network. Each one but the last halves height and width.
        static: keep the model's own height and width.
    """
    channels, height, width = latent_shape
    multiple = 2 ** (levels - 1)
    if static or height % multiple or width % multiple:
        return seeded_normal(2, channels, height, width), {}
    side = max(4 * multiple, 16)
    return seeded_normal(2, channels, side, side + multiple * 2), {2: "latent_height", 3: "latent_width"}
