"""Training the UNet and the text encoder together to predict the noise in latents from prompts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from . import loop
from .autoencoder import encode
from .captions import Mixture, caption
from .data import Jitter, Photos, vary
from .loop import Recipe

BATCH = 16
VARIANTS = 6  # of each photo's latents
JITTER = Jitter(shift=0.015, scale=0.03, turn=2, light=0.03)
CONTENT = 75  # tokens of a window without its start and end tokens
MOST_SIGNAL = 5  # signal-to-noise ratio above which errors have less weight (min-SNR, Hang et al., 2023)
ONE_WINDOW = 0.2  # share of batches whose prompts are cut to one window, as with `prompt_truncate`


@dataclass(frozen=True)
class Windows:
    """Turns prompts into windows of token ids in the same way as `anon_runtime.diffusion.text_encoder`."""

    tokenizer: CLIPTokenizer

    def __call__(self, prompts: list[str], most: int) -> Tensor:
        """Token ids (n, 77 * windows), as many windows as the longest prompt fills, at most ``most``."""
        tokens = [self.tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
        count = min(most, max(1, -(-max(map(len, tokens)) // CONTENT)))
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        ids = torch.full((len(prompts), count, CONTENT + 2), end)
        for row, own in zip(ids, tokens, strict=True):
            for window, start in zip(row, range(0, count * CONTENT, CONTENT), strict=True):
                content = own[start : start + CONTENT]
                window[: len(content) + 1] = torch.tensor([begin, *content])
        return ids.flatten(1)


@dataclass(frozen=True)
class Generator:
    """The parts of the generator that training uses."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    windows: Windows
    scheduler: PNDMScheduler


def train_denoiser(
    generator: Generator, photos: Photos, size: int, mixture: Mixture, recipe: Recipe, checkpoints: Path
) -> None:
    """Train UNet and text encoder on the autoencoder's latents.

    Args:
        generator: its UNet and text encoder are trained in place.
        photos: to train on.
        size: side of the generator's images.
        mixture: of prompts.
        recipe: steps and learning rate.
        checkpoints: the folder of checkpoints.
    """
    latents = loop.cached(checkpoints / "latents.pt", lambda: make_latents(generator.vae, photos, size))
    alphas = generator.scheduler.alphas_cumprod

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.choice(len(photos), BATCH, replace=False)
        clean = latents[rng.integers(0, VARIANTS, BATCH), rows].float()
        prompts = [caption(photos, int(row), mixture, rng) for row in rows]
        return noise_loss(generator, clean, prompts, alphas, 1 if rng.random() < ONE_WINDOW else 3)

    model = nn.ModuleDict({"unet": generator.unet, "text_encoder": generator.text_encoder})
    loop.train(model, loss, recipe, checkpoints, seed=2)


def make_latents(vae: AutoencoderKL, photos: Photos, size: int) -> Tensor:
    """Latents of varied photos: float16 (variants, n, 4, h, w)."""
    rng = np.random.default_rng(3)
    variants = range(VARIANTS)
    return torch.stack(
        [
            encode(vae, vary(photos.pixels, size, JITTER, rng)).half()
            for _ in tqdm(variants, desc="latents", unit="round")
        ]
    )


def noise_loss(generator: Generator, clean: Tensor, prompts: list[str], alphas: Tensor, windows: int) -> Tensor:
    """Mean squared error of the predicted noise at one random time per image.

    Errors at times with little noise have less weight, because the face is decided at earlier times. The networks run
    in bfloat16 where the processor supports it.

    Args:
        generator: its UNet predicts the noise.
        clean: latents (n, 4, h, w).
        prompts: n of them.
        alphas: the scheduler's cumulative products (1000,).
        windows: of text, at most.
    """
    n = len(clean)
    # One time from each n-th part of the range: the loss varies less than with independent times.
    times = ((torch.arange(n) + torch.rand(n)) / n * len(alphas)).long()[torch.randperm(n)]
    noise = torch.randn_like(clean)
    signal = alphas[times].sqrt().view(-1, 1, 1, 1)
    noisy = signal * clean + (1 - signal**2).sqrt() * noise
    ids = generator.windows(prompts, windows)
    with torch.autocast("cpu", torch.bfloat16, enabled=loop.HALF):
        states = generator.text_encoder(ids.view(-1, CONTENT + 2)).last_hidden_state
        predicted = generator.unet(noisy, times, states.reshape(n, ids.shape[1], -1)).sample
    errors = functional.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))
    ratio = alphas[times] / (1 - alphas[times])
    return (errors * (MOST_SIGNAL / ratio).clamp(max=1)).mean()
