"""Classifier-free guidance (Ho and Salimans, 2022): the UNet engine as the denoiser that a sampler calls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Doubles, Engine, Floats
from .acceleration import Evaluation
from .samplers import Denoiser


@dataclass(frozen=True)
class TextEmbeddings:
    """Of the prompts of a batch, (n, tokens, width) each; without negative ones there is no guidance."""

    positive: Floats
    negative: Floats | None = None


def make_denoiser(
    unet: Engine,
    unet_cached: Engine | None,
    text: TextEmbeddings,
    guidance_scale: float,
    timesteps: Doubles,
    evaluations: Sequence[Evaluation],
    *,
    one_batch: bool,
) -> Denoiser:
    """A denoiser that predicts ``negative + guidance_scale * (positive - negative)``.

    Args:
        unet: engine with ``sample``, ``timestep``, ``encoder_hidden_states`` -> ``out_sample`` and, for DeepCache,
            ``deep``.
        unet_cached: the same with ``deep`` as an input; None if all evaluations are full.
        text: embeddings of the prompts.
        guidance_scale: above 1.
        timesteps: of each evaluation.
        evaluations: what each evaluation does.
        one_batch: run both prompts in one call of the UNet, or in two.
    """
    deep: dict[str, Floats] = {}  # the latest deep features, of the positive and of the negative prompt
    scale = np.float32(guidance_scale)

    def predict(sample: Floats, k: int, halves: dict[str, Floats]) -> list[Floats]:
        """The predictions for some of the two prompts, in one call."""
        count = len(halves)
        inputs = {
            "sample": np.concatenate([sample] * count),
            "timestep": np.asarray(timesteps[k], np.float32),
            "encoder_hidden_states": np.concatenate(list(halves.values())),
        }
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
