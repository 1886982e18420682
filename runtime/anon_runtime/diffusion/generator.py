"""Requests to images: text encoder, noise, sampling loop, guidance and VAE decoder, in this order."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..backends.base import check_finite
from ..backends.engines import Engines
from ..bundle.manifest import GeneratorSpec
from ..errors import GenerationError, UsageError
from ..timing import StageTimer
from ..types import EngineSource, Floats, Pixels, Portrait, Progress, Request, Sampler
from .acceleration import Acceleration, choose_evaluations
from .brownian import NoiseSpec, draw_initial, draw_noise, specify_noise
from .guidance import TextEmbeddings, make_denoiser
from .samplers import LOOPS, State
from .schedule import Schedule, load_schedule
from .text_encoder import ClipTokenizer, cut_phrases, encode_windows, split_windows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SamplingOptions:
    """How images are generated, with nothing left open.

    Attributes:
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        steps: of the sampler.
        guidance_scale: 1 turns guidance off.
        acceleration: what evaluations of the UNet leave out.
        prompt_truncate: cut prompts at 77 tokens.
    """

    sampler: Sampler
    steps: int
    guidance_scale: float
    acceleration: Acceleration
    prompt_truncate: bool = False

    @property
    def guided(self) -> bool:
        """Whether negative prompts are of any use."""
        return self.guidance_scale > 1


@dataclass(frozen=True)
class TokenizedRequest:
    """A request with its prompts as token windows (windows, 77), both filled up to the same number.

    Attributes:
        request: which it was made from.
        positive, negative: token ids; no negative ones without guidance.
    """

    request: Request
    positive: NDArray[np.int64]
    negative: NDArray[np.int64] | None

    @property
    def windows(self) -> int:
        """How many windows of text the image is generated from; images of one batch have equally many."""
        return len(self.positive)


class Generator:
    """Generates images from prompts.

    Args:
        engines: ``text_encoder``, ``unet``, ``vae_decoder`` and, for DeepCache, ``unet_cached``.
        spec: sizes and factors of the model.
        tokenizer: of the text encoder.
        schedule: tables of the sampler that the options name.
        options: how images are generated.
        one_batch: run both prompts of guidance in one call of the UNet, or in two.
    """

    def __init__(
        self,
        engines: EngineSource,
        spec: GeneratorSpec,
        tokenizer: ClipTokenizer,
        schedule: Schedule,
        options: SamplingOptions,
        *,
        one_batch: bool = True,
    ) -> None:
        self._engines, self._spec, self._one_batch = engines, spec, one_batch
        self.tokenizer, self.schedule, self.options = tokenizer, schedule, options
        self.evaluations = choose_evaluations(schedule, options.acceleration, guidance=options.guided)

    @classmethod
    def load(cls, engines: Engines, options: SamplingOptions) -> Self:
        """Read tokenizer and tables from a bundle.

        Raises:
            UsageError: it has no tables for the options.
            BundleError: one of its files is damaged.
        """
        path, manifest = engines.bundle.path, engines.bundle.manifest
        schedule = load_schedule(path / manifest.tables.path, options.sampler, options.steps)
        tokenizer = ClipTokenizer.load(path / manifest.tokenizer)
        one_batch = manifest.defaults.guidance_batch
        return cls(engines, manifest.generator, tokenizer, schedule, options, one_batch=one_batch)

    def check(self) -> None:
        """Make sure that there are all the engines that images need.

        Raises:
            BundleError: one is missing.
            BackendError: the device is not there.
        """
        self._engines.require("text_encoder", "unet", "vae_decoder", *["unet_cached"] * self._caches)

    @property
    def _caches(self) -> bool:
        return not all(evaluation.full for evaluation in self.evaluations)

    @cached_property
    def _noise_spec(self) -> NoiseSpec:
        return specify_noise(self.schedule)

    def tokenize(self, request: Request) -> TokenizedRequest:
        """Prompts to token windows; with ``prompt_truncate`` the first one, and a line in the log on what is cut."""
        prompts = [request.prompt, request.negative_prompt][: 1 + self.options.guided]
        windows = [split_windows(self.tokenizer, prompt) for prompt in prompts]
        count = max(map(len, windows))
        if self.options.prompt_truncate:
            count = 1
            for prompt in prompts:
                if cut := cut_phrases(self.tokenizer, prompt):
                    log.warning("`prompt_truncate` cuts what does not fit into 77 tokens: %s", ", ".join(cut))
        filled = [split_windows(self.tokenizer, prompt, count)[:count] for prompt in prompts]
        return TokenizedRequest(request, filled[0], filled[1] if self.options.guided else None)

    def generate(
        self, requests: Sequence[Request | TokenizedRequest], *, progress: Progress | None = None
    ) -> list[Portrait]:
        """Generate images as one batch for each number of text windows; each depends on its own request only.

        Args:
            requests: any number.
            progress: called with evaluations done and evaluations in all.

        Raises:
            GenerationError: an engine returned NaN or infinity.
            BundleError: an engine is missing, or not the one that was built.
        """
        self.check()
        groups: dict[int, dict[int, TokenizedRequest]] = {}
        for i, request in enumerate(requests):
            tokenized = self.tokenize(request) if isinstance(request, Request) else request
            groups.setdefault(tokenized.windows, {})[i] = tokenized
        portraits: dict[int, Portrait] = {}
        total = self.schedule.evaluations
        for number, members in enumerate(groups.values()):

            def report(done: int, before: int = number * total) -> None:
                if progress is not None:
                    progress((before + done) // len(groups), total)

            portraits |= zip(members, self._generate_batch(list(members.values()), report), strict=True)
        return [portraits[i] for i in range(len(requests))]

    def _generate_batch(self, batch: Sequence[TokenizedRequest], report: Callable[[int], None]) -> list[Portrait]:
        timer, latents = StageTimer(), np.empty(0, np.float32)
        for state in self.denoise(batch, timer=timer):
            latents = state.latents
            report(state.evaluation)
        with timer("vae"):
            images = self.decode(latents)
        share, requests = timer.share(len(batch)), [tokenized.request for tokenized in batch]
        return [
            Portrait(Image.fromarray(image), r.prompt, r.negative_prompt, r.seed, seconds=dict(share))
            for image, r in zip(images, requests, strict=True)
        ]

    def denoise(
        self, requests: Sequence[Request | TokenizedRequest], *, timer: StageTimer | None = None
    ) -> Iterator[State]:
        """The sampling loop of a batch, state by state; for previews, progress and cancelling.

        The noise is drawn on a thread of its own, while the text encoder and the first evaluations run.

        Raises:
            UsageError: there is no request, or the prompts need different numbers of windows: filling up the shorter
                ones would make an image depend on its batch. `generate` sorts them.
            GenerationError: the UNet returned NaN or infinity; names the evaluation.
        """
        batch = [self.tokenize(request) if isinstance(request, Request) else request for request in requests]
        if len({tokenized.windows for tokenized in batch}) != 1:
            why = "they need different numbers of text windows" if batch else "there is nothing to generate"
            raise UsageError(f"a batch of {len(batch)} prompts", why, "give one or more prompts of like length")
        timer, schedule, shape = timer or StageTimer(), self.schedule, self._spec.latent_shape
        seeds = [tokenized.request.seed for tokenized in batch]
        with ThreadPoolExecutor(1) as thread:
            drawn = [thread.submit(draw_noise, self._noise_spec, seed, shape) for seed in seeds]

            def noise(k: int) -> Floats:
                with timer("noise"):
                    return np.stack([future.result()[k] for future in drawn])

            with timer("text"):
                text = self._encode(batch)
            with timer("load"):
                unet = timer.timing("unet", self._engines["unet"])
                cached = timer.timing("unet", self._engines["unet_cached"]) if self._caches else None
            denoise = make_denoiser(
                unet,
                cached,
                text,
                self.options.guidance_scale,
                schedule.timesteps,
                self.evaluations,
                one_batch=self._one_batch,
            )
            with timer("noise"):
                initial = np.stack([draw_initial(seed, shape) for seed in seeds]) * schedule.init_noise_sigma
            for state in LOOPS[schedule.sampler](initial, schedule, noise, denoise):
                self._check_finite(state.latents, "unet", f"at evaluation {state.evaluation} of {schedule.evaluations}")
                yield state

    def _encode(self, batch: Sequence[TokenizedRequest]) -> TextEmbeddings:
        """Text embeddings of the positive and, with guidance, the negative prompts, in one call."""
        negative = [tokenized.negative for tokenized in batch if tokenized.negative is not None]
        states = encode_windows([*[t.positive for t in batch], *negative], self._engines["text_encoder"])
        return TextEmbeddings(states[: len(batch)], states[len(batch) :] if negative else None)

    def decode(self, latents: Floats) -> Pixels:
        """Latents (n, channels, h, w) to uint8 images (n, height, width, 3).

        Raises:
            GenerationError: the VAE returned NaN or infinity.
            BundleError: an engine is not the one that was built.
        """
        scaled = latents / np.float32(self._spec.vae_scaling_factor)
        decoded = np.asarray(self._engines["vae_decoder"]({"latent_sample": scaled})["sample"], np.float32)
        self._check_finite(decoded, "vae_decoder", "at the end")
        self._engines.verify()
        # diffusers' VaeImageProcessor: denormalize, clip, and round half to even.
        unit = np.clip(decoded * np.float32(0.5) + np.float32(0.5), 0, 1).transpose(0, 2, 3, 1)
        images: Pixels = (unit * np.float32(255)).round().astype(np.uint8)
        return images

    def _check_finite(self, values: Floats, role: str, when: str) -> None:
        try:
            check_finite(values, role, when)
        except GenerationError:
            self._engines.verify()  # damaged weights are the likelier reason, and the better message
            raise
