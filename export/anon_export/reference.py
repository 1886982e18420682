"""The other side of every comparison: the same picture by diffusers with PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anon_runtime import Request, Settings

from .tables import make_scheduler

Floats = NDArray[np.float32]


class Diffusers:
    """diffusers' StableDiffusionPipeline, asked the way `Anonymizer.generate` is asked."""

    def __init__(self, pipeline: Any, timestep_spacing: str | None = None) -> None:
        self.pipeline, self._spacing = pipeline, timestep_spacing
        pipeline.set_progress_bar_config(disable=True)
        self._config = pipeline.scheduler.config

    def paint(self, requests: Sequence[Request], settings: Settings, *, latents: bool = False) -> Floats:
        """Pictures (n, height, width, 3) in 0..1, or latents (n, channels, h, w), of a batch.

        ``generator`` and ``noise_sampler_seed`` are both each picture's seed.
        """
        sampler = settings.sampler or "dpmpp_sde"
        self.pipeline.scheduler = make_scheduler(self._config, sampler, self._spacing)
        seeds = [request.seed for request in requests]
        if sampler == "dpmpp_sde":
            self.pipeline.scheduler.noise_sampler_seed = seeds
        result = self.pipeline(
            [request.prompt for request in requests],
            negative_prompt=[request.negative_prompt for request in requests],
            num_inference_steps=settings.steps or 15,
            guidance_scale=settings.guidance_scale or 7.5,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="latent" if latents else "np",
        ).images
        painted: Floats = result.numpy() if latents else result
        return painted


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB; infinite if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def to_pixels(unit: Floats) -> NDArray[np.uint8]:
    """diffusers' ``numpy_to_pil``: pictures in 0..1 to 8 bits."""
    return (unit * 255).round().astype(np.uint8)
