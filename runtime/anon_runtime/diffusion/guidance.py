"""Classifier-free guidance (Ho and Salimans, 2022): makes a denoiser for the samplers from the UNet engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Doubles, Engine, Floats
from .acceleration import Evaluation
from .samplers import Denoiser


@dataclass(frozen=True)
class TextEmbeddings:
    """The text embeddings of the prompts of a batch.

    Attributes:
        positive: float32 (n, tokens, width).
        negative: float32 (n, tokens, width); None without guidance.
    """

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
    """Return a denoiser that predicts ``negative + guidance_scale * (positive - negative)``.

    Args:
        unet: the UNet engine, with inputs ``sample``, ``timestep`` and ``encoder_hidden_states`` and outputs
            ``out_sample`` and, for DeepCache, ``deep``.
        unet_cached: the same with ``deep`` as an input instead of an output; None if all evaluations run the full UNet.
        text: the embeddings of the prompts.
        guidance_scale: the scale of guidance, above 1; not used without negative embeddings.
        timesteps: float64 (E,), the timestep of each evaluation.
        evaluations: the work of each evaluation.
        one_batch: whether both prompts go through the UNet in one call.
    """
    deep: dict[str, Floats] = {}  # the latest deep features by prompt, "positive" and "negative"
    scale = np.float32(guidance_scale)

    def predict(sample: Floats, k: int, halves: dict[str, Floats]) -> list[Floats]:
        """Return the predictions for one or both of the prompts, computed in one call."""
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
        with np.errstate(all="ignore"):  # no warnings for NaN or infinity, because the caller checks the result
            return away + scale * (towards - away)

    return denoise
