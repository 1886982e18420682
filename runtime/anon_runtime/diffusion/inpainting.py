"""Inpainting: a part of a picture is painted anew, and the rest stays.

This is what diffusers' ``StableDiffusionInpaintPipeline`` does with an ordinary UNet, at strength 1: the loop begins
with noise everywhere, and after each evaluation the latents outside of the mask are replaced by those of the picture,
noised to the level that the sampler has reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.base import check_finite
from ..errors import UsageError
from ..types import Canvas, Engine, Floats, Mask, Pixels
from .schedule import Schedule

# The numbers that diffusers draws before the noise of the updates: for the latents of the picture, for the initial
# latents, and for the latents of the picture without its masked part, which an ordinary UNet does not take.
DRAWS = 3


def make_canvas(pixels: Pixels, mask: Mask, block: int) -> Canvas:
    """Return a canvas that holds nothing of what is painted anew.

    The mask grows to whole blocks, because each latent stands for a block of pixels. What is painted anew is filled
    with the mean colour of the rest, before any network sees it.

    Args:
        pixels: uint8 (height, width, 3), RGB.
        mask: bool (height, width), whether a pixel is painted anew.
        block: the height and width of a block, in pixels; both sides of the picture are multiples of it.

    Raises:
        UsageError: the sizes do not fit together, or nothing or everything is painted anew.
    """
    height, width = mask.shape
    if pixels.shape != (height, width, 3) or height % block or width % block:
        why = f"its shape is {pixels.shape}, that of its mask {mask.shape}, and its blocks have {block} pixels"
        raise UsageError("the canvas", why, "give a picture and a mask of whole blocks")
    blocks = mask.reshape(height // block, block, width // block, block).any(axis=(1, 3))
    grown = blocks.repeat(block, axis=0).repeat(block, axis=1)
    if grown.all() or not grown.any():
        raise UsageError("the canvas", "nothing or everything of it would be painted anew", "choose another mask")
    filled = pixels.copy()
    filled[grown] = np.rint(pixels[~grown].mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return Canvas(filled, grown)


@dataclass(frozen=True)
class Known:
    """What stays of the pictures of a batch.

    Attributes:
        latents: float32 (n, channels, height, width), of the pictures.
        noise: float32 of the same shape, the initial noise.
        masks: float32 (n, 1, height, width), 1 where the pictures are painted anew.
    """

    latents: Floats
    noise: Floats
    masks: Floats

    def blend(self, schedule: Schedule, k: int, x: Floats) -> Floats:
        """Return the latents after evaluation k, with what stays in its place.

        Args:
            schedule: the tables of the sampler.
            k: the index of the evaluation, 0 .. E - 1.
            x: float32 (n, channels, height, width), the latents that the sampler has computed.
        """
        known = self.latents
        if k + 1 < schedule.evaluations:
            # diffusers' sampler with two evaluations a step has the level of the step's end at its midpoint, too.
            level = 2 * (k // 2) + 2 if schedule.sampler == "dpmpp_sde" else k + 1
            known = schedule.alphas[level] * self.latents + schedule.sigmas[level] * self.noise
        blended: Floats = (1 - self.masks) * known + self.masks * x
        return blended


def encode_canvases(
    canvases: Sequence[Canvas], drawn: Sequence[Floats], encoder: Engine, scaling_factor: float, block: int
) -> Known:
    """Return what stays of some canvases, as diffusers' ``prepare_latents`` and ``prepare_mask_latents`` compute it.

    Args:
        canvases: the canvases.
        drawn: for each of them float32 (2 or more, channels, height, width): the noise of its latents, and the initial
            noise.
        encoder: the VAE's encoder.
        scaling_factor: of the VAE.
        block: the height and width of the pixels that a latent stands for.

    Raises:
        GenerationError: the encoder returned NaN or infinity.
    """
    pixels = np.stack([canvas.pixels for canvas in canvases]).transpose(0, 3, 1, 2)
    sample = np.float32(2) * (pixels.astype(np.float32) / np.float32(255)) - np.float32(1)
    # One by one, as diffusers does, so that what stays of a picture does not depend on the others.
    encoded = [encoder({"sample": sample[i : i + 1]})["latent_parameters"] for i in range(len(sample))]
    parameters = np.concatenate(encoded).astype(np.float32)
    check_finite(parameters, "vae_encoder", "at the beginning")
    mean, log_variance = np.split(parameters, 2, axis=1)
    halved = np.float64(0.5) * np.clip(log_variance, -30, 20)
    deviation = np.exp(halved).astype(np.float32)  # 99 % of the numbers are those of torch's exp
    noise = np.stack([numbers[0] for numbers in drawn])
    latents = np.float32(scaling_factor) * (mean + deviation * noise)
    masks = np.stack([canvas.mask[None, ::block, ::block] for canvas in canvases]).astype(np.float32)
    return Known(latents, np.stack([numbers[1] for numbers in drawn]), masks)
