"""The other side of every comparison: the same picture by diffusers with PyTorch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anon_export.sources import load_folder
from anon_export.tables import make_scheduler
from anon_runtime import Anonymizer, Request, Settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Floats = NDArray[np.float32]


class Diffusers:
    """diffusers' StableDiffusionPipeline on a model folder, asked the way `Anonymizer.generate` is asked."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = load_folder(folder).pipeline
        self.pipeline.set_progress_bar_config(disable=True)
        self._config = self.pipeline.scheduler.config

    def paint(self, requests: Sequence[Request], settings: Settings, *, latents: bool = False) -> Floats:
        """Pictures (n, height, width, 3) in 0..1, or latents (n, channels, h, w), of a batch.

        ``generator`` and ``noise_sampler_seed`` are both each picture's seed.
        """
        sampler = settings.sampler or "dpmpp_sde"
        self.pipeline.scheduler = make_scheduler(self._config, sampler)
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
        return result.numpy() if latents else result


class TorchEngine:
    """A torch module that answers like an engine, so that both sides can share one denoiser."""

    def __init__(self, module: Any, inputs: Sequence[str], output: str) -> None:
        self._module, self._inputs, self._output = module, inputs, output

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the module on arrays."""
        with torch.no_grad():
            result = self._module(*(torch.tensor(inputs[name]) for name in self._inputs), return_dict=False)[0]
        return {self._output: result.numpy()}


def share_networks(anonymizer: Anonymizer, reference: Diffusers) -> None:
    """Let a runtime call the reference's UNet and text encoder, so that only the loops differ."""
    pipeline = reference.pipeline
    shared = {
        "unet": TorchEngine(pipeline.unet, ("sample", "timestep", "encoder_hidden_states"), "out_sample"),
        "text_encoder": TorchEngine(pipeline.text_encoder, ("input_ids",), "last_hidden_state"),
    }
    for role, engine in shared.items():
        anonymizer._engines[str(anonymizer.bundle.engine_path(role))] = engine


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB; infinite if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def to_pixels(unit: Floats) -> NDArray[np.uint8]:
    """diffusers' ``numpy_to_pil``: pictures in 0..1 to 8 bits."""
    return (unit * 255).round().astype(np.uint8)
