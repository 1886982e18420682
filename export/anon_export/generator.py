"""Stable Diffusion's networks as components of a bundle: text encoder, UNet, and the VAE's encoder and decoder."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anon_runtime.bundle.manifest import EngineSpec, GeneratorSpec, Source
from anon_runtime.diffusion.device_loop import COLUMNS, ROLES
from anon_runtime.errors import UsageError

from .component import Component
from .graphs.options import GraphOptions
from .models.model import Model

# Of the VAE's weights, approximately.
SHARES = {"vae_encoder": 0.4, "vae_decoder": 0.6}
Export = Callable[[Path], dict[str, EngineSpec]]


def generator_spec(model: Model, height: int | None, width: int | None) -> GeneratorSpec:
    """The facts about the generator that the runtime needs, from the model's configs.

    Args:
        model: whose configs are read.
        height, width: of the images, in pixels; None is the model's own.

    Raises:
        UsageError: the height or width does not suit the model.
    """
    unet, vae = model.config("unet"), model.config("vae")
    size = unet.get("sample_size", 64)
    rows, columns = (size, size) if isinstance(size, int) else size
    factor = 2 ** (len(vae.get("block_out_channels", (0,))) - 1)
    multiple = factor * 2 ** (_unet_levels(model) - 1)
    for setting, side in {"height": height, "width": width}.items():
        if side is not None and (side < multiple or side % multiple):
            why = f"the model needs images whose sides are multiples of {multiple}"
            raise UsageError(f"`{setting}` {side}", why, f"use a multiple of {multiple}")
    spec = GeneratorSpec(
        rows * factor, columns * factor, unet.get("in_channels", 4), factor, vae.get("scaling_factor", 0.18215)
    )
    return replace(spec, height=height or spec.height, width=width or spec.width)


def generator_components(
    model: Model,
    source: Source,
    pipeline: Callable[[], Any],
    latent_shape: Sequence[int],
    graph_options: Mapping[str, GraphOptions],
) -> list[Component]:
    """Text encoder, UNet, VAE encoder and VAE decoder of a model.

    Args:
        model, source: where the weights are, and their digests.
        pipeline: loads diffusers' pipeline of the model once.
        latent_shape: channels, height and width of an image's latents.
        graph_options: how the graphs are written, by role.
    """
    sizes = model.sizes
    # The UNet takes and produces latents of no other sizes than these multiples.
    multiple = math.gcd(2 ** (_unet_levels(model) - 1), *latent_shape[1:])

    # torch is imported only when something is exported: a build that finds everything unchanged starts fast.
    def text_encoder(path: Path) -> dict[str, EngineSpec]:
        from .graphs import stable_diffusion as graphs

        options = graph_options["text_encoder"]
        return {"text_encoder": graphs.export_text_encoder(pipeline().text_encoder, path, options)}

    def unet(path: Path) -> dict[str, EngineSpec]:
        from .graphs import stable_diffusion as graphs

        options = graph_options["unet"]
        spec = graphs.export_unet(pipeline().unet, path, latent_shape, options)
        if options.cache_branch is None:
            return {"unet": spec}
        cached = graphs.extract_cached_unet(path, path.parent / "cached" / path.name)
        return {"unet": spec, "unet_cached": replace(cached, precision=spec.precision)}

    def vae_decoder(path: Path) -> dict[str, EngineSpec]:
        from .graphs import stable_diffusion as graphs

        options = graph_options["vae_decoder"]
        return {"vae_decoder": graphs.export_vae_decoder(pipeline().vae, path, latent_shape, options, multiple)}

    def vae_encoder(path: Path) -> dict[str, EngineSpec]:
        from .graphs import stable_diffusion as graphs

        options = graph_options["vae_encoder"]
        return {"vae_encoder": graphs.export_vae_encoder(pipeline().vae, path, latent_shape, options, multiple)}

    def component(role: str, part: str, export: Export) -> Component:
        options, config = graph_options[role], model.config(part)
        material = {
            "config": config,
            "weights": model.digests(part, source),
            "latents": list(latent_shape),
            "graph_options": vars(options),
        }
        roles = (role,) if options.cache_branch is None else ("unet", "unet_cached")
        # Winograd's weights are larger. Those in half precision are transformed only when an engine is loaded.
        larger = options.winograd and options.precision == "fp32"
        size = int(sizes[part] * SHARES.get(role, 1) * (1.5 if larger else 1))
        return Component(role, roles, material, size, options.precision, _with_config(export, config))

    return [
        component("text_encoder", "text_encoder", text_encoder),
        component("unet", "unet", unet),
        component("vae_encoder", "vae", vae_encoder),
        component("vae_decoder", "vae", vae_decoder),
    ]


def loop_component(spec: GeneratorSpec) -> Component:
    """The engines of the sampling loop on a GPU.

    Args:
        spec: sizes of the images and of their latents.
    """
    image_shape = (3, spec.height, spec.width)

    def export(folder: Path) -> dict[str, EngineSpec]:
        from .graphs.loop import export_loop

        return export_loop(folder, spec.latent_shape, image_shape)

    material = {"latents": list(spec.latent_shape), "image": list(image_shape), "columns": list(COLUMNS)}
    return Component("loop", ROLES, material, 50_000, "fp32", export)


def _unet_levels(model: Model) -> int:
    return len(model.config("unet").get("block_out_channels", (0,) * 4))


def _with_config(export: Export, config: Mapping[str, Any]) -> Export:
    """Export ``model.onnx`` into a folder, and write the network's config beside it for other tools."""

    def write(folder: Path) -> dict[str, EngineSpec]:
        specs = export(folder / "model.onnx")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return specs

    return write
