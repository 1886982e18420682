"""Training the autoencoder to reconstruct crops of photos."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from .data import Jitter, Photos, vary
from .loop import Recipe, train

BATCH = 16
CROP = 48  # for a convolutional network, small crops of many images are better than a few whole images
JITTER = Jitter(shift=0.05, scale=0.15, turn=8, light=0.15)
KL_WEIGHT = 2e-6


def train_autoencoder(vae: AutoencoderKL, photos: Photos, size: int, recipe: Recipe, checkpoints: Path) -> None:
    """Train on photos, and scale every latent channel to mean 0 and variance 1 on them.

    Args:
        vae: trained in place.
        photos: to train on.
        size: side of the generator's images.
        recipe: steps and learning rate.
        checkpoints: the folder of checkpoints.
    """

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.choice(len(photos), BATCH, replace=False)
        return reconstruction_loss(vae, crop(vary(photos.pixels[rows], size, JITTER, rng), rng))

    train(vae, loss, recipe, checkpoints, seed=1)
    standardise(vae, encode(vae, vary(photos.pixels, size, Jitter(0, 0, 0, 0), np.random.default_rng(0))))


@torch.no_grad()
def standardise(vae: AutoencoderKL, latents: Tensor) -> None:
    """Move the latents' mean and standard deviation into the 1 x 1 convolutions before and after them.

    The decoder's images stay the same, and the scaling factor becomes 1.

    Args:
        vae: changed in place.
        latents: (n, 4, h, w) of the training images.
    """
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    before, after, channels = vae.quant_conv, vae.post_quant_conv, len(mean)
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= deviation.view(1, -1, 1, 1)
    before.bias[:channels] -= mean
    before.bias[:channels] /= deviation
    before.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    before.bias[channels:] -= 2 * deviation.log()
    vae.register_to_config(scaling_factor=1.0)


def crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A square of each image, (n, 3, CROP, CROP)."""
    room = images.shape[-1] - CROP + 1
    corners = rng.integers(0, room, (len(images), 2))
    return torch.stack([p[:, y : y + CROP, x : x + CROP] for p, (y, x) in zip(images, corners, strict=True)])


def reconstruction_loss(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Absolute errors of pixels, edges and mean colours, and a small Kullback-Leibler divergence from N(0, 1)."""
    posterior = vae.encode(images).latent_dist
    error = vae.decode(posterior.sample()).sample - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    halves = functional.avg_pool2d(error, 2)
    coarse = halves.diff(dim=-1).abs().mean() + halves.diff(dim=-2).abs().mean()
    colours = functional.avg_pool2d(error, 8).abs().mean()
    loss: Tensor = error.abs().mean() + edges + coarse + colours + KL_WEIGHT * posterior.kl().mean()
    return loss


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Latents (n, 4, h, w) of images, not scaled."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in images.split(16)])
