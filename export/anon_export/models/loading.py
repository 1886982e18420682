"""A `Model` on this disk -> diffusers' pipeline in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anon_runtime.errors import AnonError, first_line

from ..extras import explain_import_error
from .model import Model, Weights
from .sources import find_model

FIX = "check that the files are intact and of Stable Diffusion 1.5's shape"


def load_pipeline(model: Model) -> Any:
    """diffusers' ``StableDiffusionPipeline`` of a model: fp32, on the CPU, without a safety checker.

    Raises:
        AnonError: diffusers or transformers cannot load it.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    # diffusers shows its own progress bar and warns about the absent safety checker.
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    folder = model.folders["unet"].parent
    extra: dict[str, Any] = {} if model.vae is None else {"vae": _load_vae(model)}
    with loaded_by("diffusers", f"model {model.name}", FIX):
        if model.checkpoint is not None:
            return StableDiffusionPipeline.from_single_file(
                str(model.checkpoint),
                config=str(folder),
                local_files_only=True,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
                **extra,
            )
        return StableDiffusionPipeline.from_pretrained(
            folder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
            variant=model.weights["unet"].variant,
            use_safetensors=_safe(*model.weights.values()),
            **extra,
        ).to(torch.float32)


def load_model(folder: Path) -> Any:
    """`load_pipeline` of a folder in diffusers' layout."""
    return load_pipeline(find_model(str(folder), folder))


def _load_vae(model: Model) -> Any:
    from diffusers import AutoencoderKL

    folder, weights = model.folders["vae"], model.weights["vae"]
    with loaded_by("diffusers", f"VAE {model.vae}", FIX):
        if weights.paths[0].parent != folder:
            path, config = str(weights.paths[0]), str(folder.parent)
            return AutoencoderKL.from_single_file(path, config=config, subfolder="vae", local_files_only=True)
        vae = AutoencoderKL.from_pretrained(folder, variant=weights.variant, use_safetensors=_safe(weights))
        return vae.to(torch.float32)


def _safe(*weights: Weights) -> bool | None:
    """diffusers' ``use_safetensors``: None allows pickles, which `sources` has refused unless they were allowed."""
    return all(path.suffix == ".safetensors" for part in weights for path in part.paths) or None


@contextmanager
def loaded_by(package: str, what: str, fix: str) -> Iterator[None]:
    """Turn the errors that a package raises for a damaged or foreign file into one message.

    Raises:
        AnonError: about ``what``, with the fix; or about a package that cannot be imported.
    """
    try:
        yield
    except AnonError:
        raise
    except Exception as error:  # noqa: BLE001 (the errors of torch, diffusers and safetensors share no base class)
        why = f"{package} cannot load it ({first_line(error)})"
        raise explain_import_error(error) or AnonError(what, why, fix) from None
