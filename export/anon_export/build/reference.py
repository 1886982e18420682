"""The other side of every comparison: the same image by diffusers with PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anon_runtime import Request, Settings

from ..tables import make_scheduler
from .verify import IMAGE, REQUEST, SETTINGS

Floats = NDArray[np.float32]


class Diffusers:
    """diffusers' StableDiffusionPipeline, asked the way `Anonymizer.generate` is asked."""

    def __init__(self, pipeline: Any, timestep_spacing: str | None = None) -> None:
        self.pipeline, self._spacing = pipeline, timestep_spacing
        pipeline.set_progress_bar_config(disable=True)
        self._config = pipeline.scheduler.config

    def generate(self, requests: Sequence[Request], settings: Settings, *, latents: bool = False, **size: int) -> Floats:
        """Images (n, height, width, 3) in 0..1, or latents (n, channels, h, w), of a batch.

        ``size`` may hold a ``height`` and ``width`` in pixels that differ from the model's own.
        ``generator`` and ``noise_sampler_seed`` are both each image's seed.
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
            **size,
        ).images
        generated: Floats = result.numpy() if latents else result
        return generated


def to_pixels(unit: Floats) -> NDArray[np.uint8]:
    """diffusers' ``numpy_to_pil``: images in 0..1 to 8 bits."""
    return (unit * 255).round().astype(np.uint8)


def write_image(pipeline: Any, timestep_spacing: str, folder: Path, height: int, width: int, key: str) -> None:
    """Keep the image that diffusers generates, for `verify` to compare the bundle's with, and its key in it."""
    generated = Diffusers(pipeline, timestep_spacing).generate([REQUEST], SETTINGS, height=height, width=width)
    note = PngInfo()
    note.add_text("key", key)
    Image.fromarray(to_pixels(generated)[0]).save(folder / IMAGE, pnginfo=note)
