"""Classifier-free guidance: the UNet engine as the denoiser that a sampler calls."""

import numpy as np
from numpy.typing import NDArray

from .backends import Engine
from .errors import GenerationError
from .sampler import Denoiser, Floats


def make_denoiser(
    unet: Engine, positive: Floats, negative: Floats | None, guidance_scale: float, *, one_batch: bool
) -> Denoiser:
    """A denoiser that predicts ``negative + guidance_scale * (positive - negative)``.

    Args:
        unet: engine with ``sample``, ``timestep``, ``encoder_hidden_states`` -> ``out_sample``.
        positive, negative: text embeddings (n, tokens, width); without a negative one there is no guidance.
        guidance_scale: above 1.
        one_batch: run both halves in one call, or in two.
    """

    def predict(sample: Floats, timestep: np.float32, states: Floats) -> Floats:
        inputs = {"sample": sample, "timestep": np.asarray(timestep, np.float32), "encoder_hidden_states": states}
        return np.asarray(unet(inputs)["out_sample"], np.float32)

    if negative is None:
        return lambda sample, timestep: predict(sample, timestep, positive)
    both = np.concatenate([negative, positive])
    scale = np.float32(guidance_scale)

    def denoise(sample: Floats, timestep: np.float32) -> Floats:
        if one_batch:
            away, towards = np.split(predict(np.concatenate([sample, sample]), timestep, both), 2)
        else:
            away, towards = predict(sample, timestep, negative), predict(sample, timestep, positive)
        with np.errstate(all="ignore"):  # the caller checks the result
            return away + scale * (towards - away)

    return denoise


def check_finite(array: NDArray[np.float32], engine: str, when: str) -> None:
    """Refuse numbers that would give a black or broken picture.

    Raises:
        GenerationError: names the engine and the step.
    """
    if not np.isfinite(array).all():
        fix = "use fp32 engines, or report the model if it is fp32 already"
        raise GenerationError(
            f"the {engine} engine {when}", "it returned NaN or infinity, so no picture is written", fix
        )
