"""Where a model comes from: a folder in diffusers' layout -> its components."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anon_runtime.bundle import Source, sha256
from anon_runtime.errors import AnonError

PARTS = ("text_encoder", "tokenizer", "unet", "vae", "scheduler")


@dataclass(frozen=True)
class Components:
    """What a Stable Diffusion 1.5 model is made of.

    Attributes:
        source: identifier and the sha256 of each weight file.
        folder: the model on disk.
        pipeline: diffusers' ``StableDiffusionPipeline``, fp32, on the CPU.
    """

    source: Source
    folder: Path
    pipeline: Any


def load_folder(folder: Path, name: str | None = None) -> Components:
    """Load a model from a folder in diffusers' layout; only safetensors weights are read.

    Args:
        folder: holds ``model_index.json`` and a folder a component.
        name: how the manifest calls the source; the folder's name if None.

    Raises:
        AnonError: the folder is no such model.
    """
    _check(folder)
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    # It draws a bar of its own and warns about the absent safety checker.
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            use_safetensors=True, local_files_only=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        why = f"diffusers cannot load it ({str(error).splitlines()[0]})"
        raise AnonError(
            f"model {folder}", why, "check that `StableDiffusionPipeline.from_pretrained` opens it"
        ) from None
    _check_architecture(folder, pipeline)
    weights = sorted(path for part in PARTS for path in (folder / part).rglob("*.safetensors"))
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in weights}
    return Components(Source(name or folder.name, files), folder, pipeline)


def _check_architecture(folder: Path, pipeline: Any) -> None:
    """Refuse relatives of Stable Diffusion 1.5 that the runtime cannot paint with.

    Raises:
        AnonError: says which kind of model it is.
    """
    unet, vae = pipeline.unet.config, pipeline.vae.config
    kinds = {
        f"its UNet takes {unet.in_channels} channels (an inpainting or depth model)": unet.in_channels != 4,
        "its UNet wants more than a prompt (a class, a time or an added embedding)": bool(
            unet.class_embed_type or unet.addition_embed_type or unet.time_cond_proj_dim
        ),
        f"it predicts {pipeline.scheduler.config.prediction_type}": (
            pipeline.scheduler.config.prediction_type != "epsilon"
        ),
        f"its VAE has {vae.latent_channels} latent channels": vae.latent_channels != 4,
    }
    for why, refused in kinds.items():
        if refused:
            fix = "use a text-to-image model of Stable Diffusion 1.5's architecture that predicts noise"
            raise AnonError(f"model {folder}", why, fix)


def _check(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        why = "it is neither `demo` nor a folder with a model_index.json"
        raise AnonError(f"model {folder}", why, "name a folder in diffusers' layout")
    try:
        kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError):
        raise AnonError(str(index), "it is not JSON", "get an intact copy of the model") from None
    if kind != "StableDiffusionPipeline":
        why = f"it is a {kind}, not a StableDiffusionPipeline"
        raise AnonError(f"model {folder}", why, "use a model of Stable Diffusion 1.5's architecture")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise AnonError(f"model {folder}", f"it lacks {', '.join(missing)}", "get an intact copy of the model")
