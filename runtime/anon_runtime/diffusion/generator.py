"""The generator: from requests to images, by text encoder, noise, sampling loop, guidance and VAE decoder."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..backends.base import check_finite, not_finite
from ..backends.engines import Engines
from ..bundle.manifest import GeneratorSpec
from ..errors import GenerationError, UsageError
from ..timing import StageTimer
from ..types import Canvas, EngineSource, Floats, Pixels, Portrait, Progress, Request, Sampler
from .acceleration import Acceleration, choose_evaluations
from .brownian import NoiseSpec, draw_initial, draw_noise, specify_noise
from .device_loop import ROLES, DeviceLoops, DeviceState, make_table
from .guidance import TextEmbeddings, make_denoiser
from .inpainting import DRAWS, Known, encode_canvases
from .samplers import LOOPS, Blend, State, keep
from .schedule import Schedule, load_schedule
from .text_encoder import ClipTokenizer, cut_phrases, encode_windows, split_windows

log = logging.getLogger(__name__)
ScheduleSource = Callable[[Sampler, int], Schedule]


@dataclass(frozen=True)
class SamplingOptions:
    """The settings for generating images, with a value for each of them.

    Attributes:
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        steps: the number of steps of the sampler.
        guidance_scale: the scale of guidance; 1 turns guidance off.
        acceleration: the level of fast mode.
        prompt_truncate: whether to cut prompts at 77 tokens.
    """

    sampler: Sampler
    steps: int
    guidance_scale: float
    acceleration: Acceleration
    prompt_truncate: bool = False

    @property
    def guided(self) -> bool:
        """Whether guidance is used, so that negative prompts have an effect."""
        return self.guidance_scale > 1


@dataclass(frozen=True)
class TokenizedRequest:
    """A request whose prompts are tokenized into windows; both prompts are padded to the same number of windows.

    Attributes:
        request: the request that was tokenized.
        positive: int64 (windows, 77), the token ids of the prompt.
        negative: int64 (windows, 77), the token ids of the negative prompt; None without guidance.
    """

    request: Request
    positive: NDArray[np.int64]
    negative: NDArray[np.int64] | None

    @property
    def windows(self) -> int:
        """The number of text windows; it is the same for all images of a batch."""
        return len(self.positive)

    @property
    def kind(self) -> tuple[int, bool]:
        """The number of text windows, and whether there is a canvas: the same for all images of a batch."""
        return self.windows, self.request.canvas is not None


class Generator:
    """A generator of images from prompts.

    Args:
        engines: ``text_encoder``, ``unet``, ``vae_decoder`` and, for DeepCache, ``unet_cached``; for requests with a
            canvas, ``vae_encoder``.
        spec: sizes and factors of the model.
        tokenizer: the tokenizer of the text encoder.
        schedules: a function that returns the tables of a sampler and a number of steps.
        options: the settings for generating images.
        one_batch: whether the positive and the negative prompt go through the UNet in one call.
        loops: the loops on the GPU that the engines are on; None to run the loop on the processor.
    """

    def __init__(
        self,
        engines: EngineSource,
        spec: GeneratorSpec,
        tokenizer: ClipTokenizer,
        schedules: ScheduleSource,
        options: SamplingOptions,
        *,
        one_batch: bool = True,
        loops: DeviceLoops | None = None,
    ) -> None:
        self._engines, self._spec, self._schedules, self._one_batch = engines, spec, schedules, one_batch
        self._loops = loops
        self.tokenizer, self.options = tokenizer, options
        self.schedule = schedules(options.sampler, options.steps)
        self.evaluations = choose_evaluations(self.schedule, options.acceleration, guidance=options.guided)

    @classmethod
    def load(cls, engines: Engines, options: SamplingOptions) -> Self:
        """Return a generator for a bundle; its tokenizer and tables are read, but no engine is loaded.

        Args:
            engines: the engines of the bundle.
            options: the settings for generating images.

        Raises:
            UsageError: the bundle has no tables for the options.
            BundleError: one of its files is damaged.
        """
        path, manifest = engines.bundle.path, engines.bundle.manifest
        schedules = partial(load_schedule, path / manifest.tables.path)
        tokenizer = ClipTokenizer.load(path / manifest.tokenizer)
        one_batch = manifest.defaults.guidance_batch
        spec, on_device = manifest.generator, set(ROLES) <= set(manifest.engines)
        loops = DeviceLoops(engines, spec.latent_shape) if on_device else None
        return cls(engines, spec, tokenizer, schedules, options, one_batch=one_batch, loops=loops)

    def using(self, options: SamplingOptions) -> Self:
        """Return a generator with the same engines and tokenizer, and other settings.

        Args:
            options: the settings for generating images; with the same ones, this generator is returned.

        Raises:
            UsageError: there are no tables for the options.
        """
        if options == self.options:
            return self
        return type(self)(
            self._engines,
            self._spec,
            self.tokenizer,
            self._schedules,
            options,
            one_batch=self._one_batch,
            loops=self._loops,
        )

    def check(self, *, canvases: bool = False) -> None:
        """Check that there are all engines that images need.

        Args:
            canvases: whether requests have canvases.

        Raises:
            BundleError: an engine is missing.
            BackendError: the device is not available.
        """
        small = () if self._loops is None else ROLES
        more = [*small, *["unet_cached"] * self._caches, *["vae_encoder"] * canvases]
        self._engines.require("text_encoder", "unet", "vae_decoder", *more)

    @property
    def _caches(self) -> bool:
        return not all(evaluation.full for evaluation in self.evaluations)

    @cached_property
    def _noise_spec(self) -> NoiseSpec:
        return specify_noise(self.schedule)

    def tokenize(self, request: Request) -> TokenizedRequest:
        """Tokenize the prompts of a request.

        With ``prompt_truncate``, only the first window of a prompt is kept, and the phrases that are cut are logged.
        """
        prompts = [request.prompt, request.negative_prompt][: 1 + self.options.guided]
        windows = [split_windows(self.tokenizer, prompt) for prompt in prompts]
        if self.options.prompt_truncate:
            windows = [some[:1] for some in windows]
            for prompt in prompts:
                if cut := cut_phrases(self.tokenizer, prompt):
                    log.warning("`prompt_truncate` cuts what does not fit into 77 tokens: %s", ", ".join(cut))
        count = max(map(len, windows))
        padded = [np.concatenate([some, split_windows(self.tokenizer, "", count - len(some))]) for some in windows]
        return TokenizedRequest(request, padded[0], padded[1] if self.options.guided else None)

    def generate(
        self,
        requests: Sequence[Request | TokenizedRequest],
        *,
        progress: Progress | None = None,
        after: Callable[[State], object] = lambda state: None,
    ) -> list[Portrait]:
        """Generate images; each image depends only on its own request.

        Requests with the same number of text windows are generated as one batch.

        Args:
            requests: any number of requests, tokenized or not.
            progress: a function that is called with the number of evaluations that are done and the number of all.
            after: a function that is called with the state of a batch after each evaluation. It can end the work by
                raising an exception.

        Returns:
            The portraits in the order of the requests.

        Raises:
            GenerationError: an engine returned NaN or infinity.
            BackendError: an engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        self.check()
        groups: dict[tuple[int, bool], dict[int, TokenizedRequest]] = {}
        for i, request in enumerate(requests):
            tokenized = self.tokenize(request) if isinstance(request, Request) else request
            groups.setdefault(tokenized.kind, {})[i] = tokenized
        portraits: dict[int, Portrait] = {}
        total = self.schedule.evaluations
        for number, members in enumerate(groups.values()):

            def report(done: int, before: int = number * total) -> None:
                if progress is not None:
                    progress((before + done) // len(groups), total)

            portraits |= zip(members, self._generate_batch(list(members.values()), report, after), strict=True)
        return [portraits[i] for i in range(len(requests))]

    def _generate_batch(
        self, batch: Sequence[TokenizedRequest], report: Callable[[int], None], after: Callable[[State], object]
    ) -> list[Portrait]:
        timer, images = StageTimer(), np.empty(0, np.uint8)
        for state in self.denoise(batch, timer=timer):
            report(state.evaluation)
            after(state)
            if state.evaluation == self.schedule.evaluations:
                with timer("vae"):
                    images = self._finish(state) if isinstance(state, DeviceState) else self.decode(state.latents)
        share, requests = timer.share(len(batch)), [tokenized.request for tokenized in batch]
        return [
            Portrait(Image.fromarray(image), r.prompt, r.negative_prompt, r.seed, seconds=dict(share))
            for image, r in zip(images, requests, strict=True)
        ]

    def denoise(
        self, requests: Sequence[Request | TokenizedRequest], *, timer: StageTimer | None = None
    ) -> Iterator[State]:
        """Run the sampling loop of a batch and yield its state after each evaluation.

        A caller can use the states for previews and progress, and can stop the loop at any time. The noise is drawn on
        another thread, while the text encoder and the first evaluations run.

        Args:
            requests: one or more requests, all with a canvas or all without one, whose prompts need the same number of
                text windows. The shorter prompts are not padded here, because an image would then depend on its batch;
                `generate` groups the requests instead.
            timer: the timer that the stages are added to.

        Yields:
            The state after each evaluation; the last one holds the final latents.

        Raises:
            UsageError: there is no request, or the requests do not fit together.
            GenerationError: the UNet returned NaN or infinity; the message names the evaluation.
            BackendError: an engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        batch = [self.tokenize(request) if isinstance(request, Request) else request for request in requests]
        if len({tokenized.kind for tokenized in batch}) != 1:
            why = "they need different numbers of text windows" if batch else "there is nothing to generate"
            if len({tokenized.windows for tokenized in batch}) == 1:
                why = "some of them have a canvas, and others have none"
            raise UsageError(f"a batch of {len(batch)} prompts", why, "give one or more prompts of like length")
        canvases = [tokenized.request.canvas for tokenized in batch if tokenized.request.canvas is not None]
        self._check_canvases(canvases)
        timer, seeds = timer or StageTimer(), [tokenized.request.seed for tokenized in batch]
        with ThreadPoolExecutor(1) as thread:
            shape, before = self._spec.latent_shape, DRAWS if canvases else 1
            drawn = [thread.submit(draw_noise, self._noise_spec, seed, shape, before) for seed in seeds]
            if self._loops is None or canvases:
                yield from self._denoise_on_host(batch, canvases, drawn, timer)
            else:
                yield from self._denoise_on_device(self._loops, batch, drawn, timer)

    def _draw_initial(self, batch: Sequence[TokenizedRequest]) -> Floats:
        drawn = [draw_initial(tokenized.request.seed, self._spec.latent_shape)[0] for tokenized in batch]
        return np.stack(drawn) * self.schedule.init_noise_sigma

    def _check_canvases(self, canvases: Sequence[Canvas]) -> None:
        spec = self._spec
        for canvas in canvases:
            if canvas.mask.shape != (spec.height, spec.width):
                height, width = canvas.mask.shape
                why = f"the images of this bundle have {spec.height} x {spec.width} pixels"
                raise UsageError(f"a canvas of {height} x {width} pixels", why, "scale it")
        if canvases:
            self._engines.require("vae_encoder")

    def _encode_canvases(self, canvases: Sequence[Canvas], batch: Sequence[TokenizedRequest]) -> Known:
        spec = self._spec
        drawn = [draw_initial(tokenized.request.seed, spec.latent_shape, 2) for tokenized in batch]
        return encode_canvases(
            canvases, drawn, self._engines["vae_encoder"], spec.vae_scaling_factor, spec.vae_scale_factor
        )

    def _denoise_on_host(
        self,
        batch: Sequence[TokenizedRequest],
        canvases: Sequence[Canvas],
        drawn: Sequence[Future[Floats]],
        timer: StageTimer,
    ) -> Iterator[State]:
        schedule = self.schedule

        def noise(k: int) -> Floats:
            with timer("noise"):
                return np.stack([future.result()[k] for future in drawn])

        with timer("text"):
            text = self._encode(batch)
        self._engines.release("text_encoder")
        with timer("load"):
            unet = timer.timing("unet", self._engines["unet"])
            cached = timer.timing("unet", self._engines["unet_cached"]) if self._caches else None
        scale, one_batch = self.options.guidance_scale, self._one_batch
        denoise = make_denoiser(unet, cached, text, scale, schedule.timesteps, self.evaluations, one_batch=one_batch)
        blend: Blend = keep
        if canvases:
            with timer("vae"):
                known = self._encode_canvases(canvases, batch)
            initial, blend = known.noise * schedule.init_noise_sigma, partial(known.blend, schedule)
        else:
            with timer("noise"):
                initial = self._draw_initial(batch)
        for state in LOOPS[schedule.sampler](initial, schedule, noise, denoise, blend):
            self._check_finite(state.latents, "unet", self._when(state.evaluation))
            yield state

    def _denoise_on_device(
        self, loops: DeviceLoops, batch: Sequence[TokenizedRequest], drawn: Sequence[Future[Floats]], timer: StageTimer
    ) -> Iterator[State]:
        """The same on a GPU, where NaN and infinity are noticed when the image leaves it."""
        schedule = self.schedule
        with ExitStack() as held:
            with timer("load"):
                borrowed = loops.borrow(len(batch), batch[0].windows, schedule.evaluations, caches=self._caches)
                loop = held.enter_context(borrowed)
            yield from loop.denoise(
                [*(t.negative for t in batch if t.negative is not None), *(t.positive for t in batch)],
                lambda: self._draw_initial(batch),
                lambda: np.stack([future.result() for future in drawn], axis=1),
                make_table(schedule, self.options.guidance_scale, self._spec.vae_scaling_factor),
                self.evaluations,
                timer,
            )

    def _when(self, evaluation: int) -> str:
        return f"at evaluation {evaluation} of {self.schedule.evaluations}"

    def _encode(self, batch: Sequence[TokenizedRequest]) -> TextEmbeddings:
        """Return the text embeddings of all positive and, with guidance, all negative prompts, computed in one call."""
        negative = [tokenized.negative for tokenized in batch if tokenized.negative is not None]
        states = encode_windows([*[t.positive for t in batch], *negative], self._engines["text_encoder"])
        return TextEmbeddings(states[: len(batch)], states[len(batch) :] if negative else None)

    def decode(self, latents: Floats) -> Pixels:
        """Decode latents into images.

        Args:
            latents: float32 (n, channels, latent height, latent width).

        Returns:
            uint8 (n, height, width, 3), RGB.

        Raises:
            GenerationError: the VAE returned NaN or infinity.
            BackendError: the engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        scaled = latents / np.float32(self._spec.vae_scaling_factor)
        decoded = np.asarray(self._engines["vae_decoder"]({"latent_sample": scaled})["sample"], np.float32)
        self._check_finite(decoded, "vae_decoder", "at the end")
        self._engines.verify()
        # This is what diffusers' VaeImageProcessor does: denormalize, clip, and round half to even.
        unit = np.clip(decoded * np.float32(0.5) + np.float32(0.5), 0, 1).transpose(0, 2, 3, 1)
        images: Pixels = (unit * np.float32(255)).round().astype(np.uint8)
        return images

    def _finish(self, state: DeviceState) -> Pixels:
        """Decode latents on the device that they are on."""
        images, finite, decoded = state.decode()
        self._engines.verify()  # damaged weights may be the cause of the errors below
        if finite < state.evaluation:
            raise not_finite("unet", self._when(finite + 1))
        if not decoded:
            raise not_finite("vae_decoder", "at the end")
        return images

    def _check_finite(self, values: Floats, role: str, when: str) -> None:
        try:
            check_finite(values, role, when)
        except GenerationError:
            self._engines.verify()  # if damaged weights are the cause, this raises an error that says so
            raise
