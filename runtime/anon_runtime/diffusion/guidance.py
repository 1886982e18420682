"""Classifier-free guidance: the UNet engine as the denoiser that a sampler calls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Engine
from .acceleration import Evaluation
from .samplers import Denoiser, Floats


@dataclass(frozen=True)
class Text:
    """Text embeddings (n, tokens, width) of the prompts; without negative ones there is no guidance."""

    positive: Floats
    negative: Floats | None = None


def make_denoiser(
    unet: Engine, unet_cached: Engine | None, text: Text, guidance_scale: float, timesteps: NDArray[np.float64],
    evaluations: Sequence[Evaluation], *, one_batch: bool,
) -> Denoiser:  # fmt: skip
    """A denoiser that predicts ``negative + guidance_scale * (positive - negative)``.

    Args:
        unet: engine with ``sample``, ``timestep``, ``encoder_hidden_states`` -> ``out_sample`` and, to reuse, ``deep``.
        unet_cached: the same with ``deep`` as an input; None if no evaluation reuses features.
        text: embeddings of the prompts.
        guidance_scale: above 1.
        timesteps: of each evaluation.
        evaluations: what each evaluation does.
        one_batch: run both halves in one call, or in two.
    """
    deep: dict[str, Floats] = {}  # the latest features of each half
    scale = np.float32(guidance_scale)

    def predict(sample: Floats, k: int, halves: dict[str, Floats]) -> list[Floats]:
        """The halves' predictions, in one call."""
        count = len(halves)
        inputs = {
            "sample": np.concatenate([sample] * count), "timestep": np.asarray(timesteps[k], np.float32),
            "encoder_hidden_states": np.concatenate(list(halves.values())),
        }  # fmt: skip
        if evaluations[k].full or unet_cached is None:
            outputs = unet(inputs)
            if unet_cached is not None:
                deep.update(zip(halves, np.split(np.asarray(outputs["deep"], np.float32), count), strict=True))
        else:
            outputs = unet_cached(inputs | {"deep": np.concatenate([deep[half] for half in halves])})
        return np.split(np.asarray(outputs["out_sample"], np.float32), count)

    def denoise(sample: Floats, k: int) -> Floats:
        positive = {"positive": text.positive}
        if text.negative is None or not evaluations[k].guided:
            return predict(sample, k, positive)[0]
        negative = {"negative": text.negative}
        if one_batch:
            away, towards = predict(sample, k, negative | positive)
        else:
            away, towards = predict(sample, k, negative)[0], predict(sample, k, positive)[0]
        with np.errstate(all="ignore"):  # the caller checks the result
            return away + scale * (towards - away)

    return denoise
