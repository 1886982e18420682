"""What a bundle is made of: components that are exported, kept and replaced one by one."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anon_runtime.bundle.manifest import EngineSpec, Source

from .keys import digest
from .options import GraphOptions
from ..models.sources import Model


@dataclass(frozen=True)
class Component:
    """One folder of a bundle.

    Attributes:
        name: of the folder, relative to the bundle's.
        roles: what its engines do in the bundle.
        material: what it is made from: configs, shapes, and the sha256 of weight files.
        size: of its weights, in bytes of fp32, about.
        precision: see `GraphOptions`.
        export: writes its graphs below a folder; their entries for the manifest, by role.
    """

    name: str
    roles: tuple[str, ...]
    material: Mapping[str, Any]
    size: int
    precision: str
    export: Callable[[Path], dict[str, EngineSpec]]

    def key(self, common: Mapping[str, Any]) -> str:
        """sha256 over its material, its precision and what all components of a build have in common."""
        return digest({"name": self.name, "precision": self.precision, "material": self.material, "common": common})


def generator_components(
    model: Model, source: Source, pipeline: Callable[[], Any], latent_shape: Sequence[int], forms: Mapping[str, GraphOptions]
) -> list[Component]:  # fmt: skip
    """Text encoder, UNet and VAE decoder of a model.

    Args:
        model, source: where the weights lie, and their digests.
        pipeline: loads diffusers' pipeline of the model, once.
        latent_shape: channels, height and width of an image's latents.
        forms: of the graphs, by role.
    """

    sizes = model.sizes

    def text_encoder(path: Path) -> dict[str, EngineSpec]:
        return {"text_encoder": _graphs().export_text_encoder(pipeline().text_encoder, path, forms["text_encoder"])}

    def unet(path: Path) -> dict[str, EngineSpec]:
        spec = _graphs().export_unet(pipeline().unet, path, latent_shape, forms["unet"])
        if not forms["unet"].deep:
            return {"unet": spec}
        return {"unet": spec, "unet_cached": _graphs().extract_cached(path, path.parent / "cached" / path.name)}

    def vae_decoder(path: Path) -> dict[str, EngineSpec]:
        # The UNet gives it no other sizes.
        levels = len(model.config("unet").get("block_out_channels", (0,) * 4))
        multiple = math.gcd(2 ** (levels - 1), *latent_shape[1:])
        form = forms["vae_decoder"]
        return {"vae_decoder": _graphs().export_vae_decoder(pipeline().vae, path, latent_shape, form, multiple)}

    def component(role: str, part: str, export: Callable[[Path], dict[str, EngineSpec]]) -> Component:
        config, weights = model.config(part), model.digests(part, source)
        roles = ("unet", "unet_cached") if forms[role].deep else (role,)

        def write(folder: Path) -> dict[str, EngineSpec]:
            specs = export(folder / "model.onnx")
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            return specs

        material = {"config": config, "weights": weights, "latents": list(latent_shape), "form": vars(forms[role])}
        # Weights in half precision get Winograd's form when an engine is loaded.
        grown = forms[role].winograd and forms[role].precision == "fp32"
        size = sizes[part] * (3 if grown else 2) // 2
        return Component(role, roles, material, size, forms[role].precision, write)

    return [
        component("text_encoder", "text_encoder", text_encoder),
        component("unet", "unet", unet),
        component("vae_decoder", "vae", vae_decoder),
    ]


def _graphs() -> Any:
    """Late: a build that finds everything unchanged gets by without torch."""
    from ..graphs import export as graphs

    return graphs
