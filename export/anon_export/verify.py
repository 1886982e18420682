"""Engines against the PyTorch model that they were built from: numbers on seeded inputs, then a whole picture."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.bundle import EngineError, Verification
from anon_runtime.errors import AnonError
from anon_runtime.text import WINDOW

from . import graphs
from .reference import Diffusers, psnr, to_pixels

# Largest difference of an engine's output, relative to the largest value of PyTorch's; lowest PSNR of a picture.
RELATIVE_BOUNDS = {"fp32": 1e-4, "fp16": 2e-2}
PICTURE_BOUNDS = {"fp32": 60.0, "fp16": 40.0}
REQUEST = Request("closeup portrait photo of a white 34 woman, Smiling , Young , ", " Bald , Mustache , ", seed=7)
# Two steps go through every part of the loop; a full-size model takes minutes for fifteen.
SETTINGS = Settings(steps=2)


def verify(anonymizer: Anonymizer, pipeline: Any) -> Verification:
    """Compare a bundle's engines with the diffusers pipeline that they were built from.

    Raises:
        AnonError: an engine or the picture is further from PyTorch than its precision allows.
    """
    bundle = anonymizer.bundle
    engines = {role: _compare(anonymizer, role, *make(pipeline, bundle)) for role, make in _INPUTS.items()}
    for role, error in engines.items():
        bound = RELATIVE_BOUNDS[bundle.spec(role).precision]
        if not error.relative <= bound:
            why = f"it differs from PyTorch by {error.relative:.1e} of the largest value, the bound is {bound:.0e}"
            raise AnonError(f"the {role} engine", why, "report the model and the versions of torch and onnxruntime")
    theirs = Diffusers(pipeline, bundle.manifest.tables.timestep_spacing).paint([REQUEST], SETTINGS)
    ours = anonymizer.generate([REQUEST], SETTINGS)[0].image
    ratio = min(psnr(np.asarray(ours), to_pixels(theirs)[0]), 999.0)  # JSON knows no infinity
    bound = PICTURE_BOUNDS[bundle.spec("unet").precision]
    if not ratio >= bound:
        why = f"it differs from diffusers' (PSNR {ratio:.1f} dB, the bound is {bound:.0f})"
        raise AnonError("a picture of the bundle", why, "report the model and the versions of torch and onnxruntime")
    return Verification(engines, ratio)


def _compare(
    anonymizer: Anonymizer, role: str, module: torch.nn.Module, inputs: dict[str, torch.Tensor]
) -> EngineError:
    with torch.no_grad():
        theirs = module.eval()(*inputs.values())
    first = (theirs[0] if isinstance(theirs, tuple) else theirs).numpy()
    name = anonymizer.bundle.spec(role).outputs[0].name
    ours = anonymizer.engine(role)({key: tensor.numpy() for key, tensor in inputs.items()})[name]
    return measure(np.asarray(ours, np.float32), first)


def measure(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> EngineError:
    """Differences of two arrays; NaN anywhere makes all of them NaN."""
    error = np.abs(ours.astype(np.float64) - theirs)
    largest = float(np.abs(theirs).max())
    return EngineError(
        max=float(error.max()),
        mean=float(error.mean()),
        p999=float(np.quantile(error, 0.999)),
        relative=float(error.max() / max(largest, 1e-12)),
    )


def _seeded(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _text_inputs(pipeline: Any, _bundle: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    size = pipeline.text_encoder.config.vocab_size
    ids = torch.randint(0, size, (2, WINDOW), generator=torch.Generator().manual_seed(0))
    return graphs.TextEncoder(pipeline.text_encoder), {"input_ids": ids}


def _unet_inputs(pipeline: Any, bundle: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    width = pipeline.unet.config.cross_attention_dim
    sample, states = _seeded(2, *bundle.manifest.generator.latent_shape), _seeded(2, 2 * WINDOW, width)
    inputs = {"sample": sample, "timestep": torch.tensor(417.25), "encoder_hidden_states": states}
    return graphs.Unet(pipeline.unet), inputs


def _vae_inputs(pipeline: Any, bundle: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    return graphs.VaeDecoder(pipeline.vae), {"latent_sample": _seeded(1, *bundle.manifest.generator.latent_shape)}


_INPUTS: dict[str, Callable[[Any, Any], tuple[torch.nn.Module, dict[str, torch.Tensor]]]] = {
    "text_encoder": _text_inputs,
    "unet": _unet_inputs,
    "vae_decoder": _vae_inputs,
}
