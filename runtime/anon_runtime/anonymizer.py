"""The whole way: a photo, its face, the attributes, the prompts, the loop, a portrait."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .backends.base import Engine, check_finite, load_engine, physical_cores, resolve_device
from .bundle.bundle import Bundle
from .bundle.integrity import Inspection
from .bundle.manifest import Defaults
from .diffusion.acceleration import Evaluation, choose_evaluations
from .diffusion.brownian import NoisePlan, draw_initial, draw_noise, plan_noise
from .diffusion.guidance import Text, make_denoiser
from .diffusion.samplers import LOOPS, State
from .diffusion.schedule import Schedule, load_schedule
from .diffusion.text_encoder import ClipTokenizer, count_windows, cut_phrases, encode_prompts
from .errors import GenerationError, NoFaceError, PhotoError, UsageError
from .faces.attributes import Attributes, read_attributes
from .faces.decoding import Decoded, load_photo
from .faces.detection import DETECTORS, Face, biggest_face, detect
from .faces.prompt import write_prompts
from .settings import Settings
from .timing import StageTimer
from .types import Description, Portrait, Request

log = logging.getLogger(__name__)
T = TypeVar("T")
Source = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
Progress = Callable[[int, int], None]  # evaluations done, evaluations in all


class Anonymizer:
    """A bundle's engines, loaded when they are first needed.

    >>> anonymizer = Anonymizer.load("engines/demo")          # doctest: +SKIP
    >>> portrait = anonymizer.anonymize("photo.jpg", seed=7)  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings | None = None,
        device: str | None = None,
        inspection: Inspection | None = None,
    ) -> None:
        self.bundle, self._device, self._inspection = bundle, device, inspection
        self.settings = settings or Settings()
        self._engines: dict[str, Engine] = {}
        self._schedules: dict[tuple[str, int], tuple[Schedule, NoisePlan]] = {}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        settings: Settings | None = None,
        *,
        checksum: bool = True,
        device: str | None = None,
    ) -> Self:
        """Open a bundle, checking its files; without ``checksum`` only their sizes.

        Large files are hashed while the engines start; the first result waits for it.

        ``device`` is what the engines run on: ``cpu``, ``cuda`` or ``tensorrt``; see `backends.load_engine`.

        Raises:
            BundleError: there is none, or it is damaged.
        """
        bundle = Bundle.read(Path(path))
        return cls(bundle, settings, device, bundle.check(checksum=checksum))

    @cached_property
    def device(self) -> str:
        """What the engines run on: ``cpu``, ``cuda`` or ``tensorrt``.

        Raises:
            BackendError: the bundle's target has no such device, or its library is not installed.
        """
        return resolve_device(self.bundle.manifest.target, self._device)

    @property
    def threads(self) -> int | None:
        """Of an engine on the CPU; None on a GPU."""
        return (self.settings.threads or physical_cores()) if self.device == "cpu" else None

    @property
    def batch_size(self) -> int:
        """How many images to generate at once, for whoever has many."""
        return _choose(self.settings.batch_size, self.bundle.manifest.defaults.batch_size)

    def anonymize(
        self,
        photo: Source,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Portrait:
        """Generate a new portrait with the attributes of the biggest face in a photo.

        Args:
            photo: a file, a PIL image, or uint8 RGB (height, width, 3).
            progress: called with evaluations done and evaluations in all.
            **changes: fields of `Settings` that differ from this object's, such as ``seed=7``.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            GenerationError: the engines returned no image.
        """
        settings = replace(self.settings, **changes)
        self.check(settings)
        self.check_faces(settings)
        description = self.describe(photo, settings)
        return self.generate([description.request], settings, progress=progress)[0].of(description)

    def describe(self, photo: Source | None, settings: Settings | None = None) -> Description:
        """Find the biggest face of a photo, read its attributes and write the prompts.

        Without a photo, the settings' attributes are described.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
        """
        settings = settings or self.settings
        if photo is None:
            if settings.attributes is None:
                raise UsageError("nothing to describe", "there is neither a photo nor attributes", "give one of them")
            return Description(_request(settings.attributes, settings), dict(settings.attributes), None, {})
        result = self.describe_all([photo], settings)[0]
        if isinstance(result, PhotoError):
            raise result
        return result

    def describe_all(
        self, photos: Sequence[Source], settings: Settings | None = None
    ) -> list[Description | PhotoError]:
        """`describe` for several photos, whose networks run as a batch; a photo that fails gives its error.

        Raises:
            BundleError: a file of the bundle is not the one that was built.
        """
        settings = settings or self.settings
        results: dict[int, Description | PhotoError] = {}
        decoded: dict[int, Decoded] = {}
        seconds: dict[int, float] = {}
        for i, photo in enumerate(photos):
            start = time.perf_counter()
            try:
                decoded[i] = load_photo(photo, more_formats=settings.more_formats)
            except PhotoError as error:
                results[i] = error
            seconds[i] = time.perf_counter() - start
        for i, result in zip(decoded, self.describe_decoded(list(decoded.values()), settings), strict=True):
            if isinstance(result, Description):
                results[i] = replace(result, seconds={"decode": seconds[i]} | result.seconds)
            else:
                results[i] = type(result)(_name(photos[i]), result.why, result.fix)
        return [results[i] for i in range(len(photos))]

    def describe_decoded(
        self, photos: Sequence[Decoded], settings: Settings | None = None
    ) -> list[Description | PhotoError]:
        """`describe_all` for photos that are in memory already.

        Raises:
            BundleError: a file of the bundle is not the one that was built.
        """
        settings, clock = self._checked(settings), StageTimer()
        results: dict[int, Description | PhotoError] = {}
        with clock("detect"):
            detector, engine = DETECTORS[self.bundle.spec("face_detector").signature], self.engine("face_detector")
            found = detect(engine, detector, [photo.pixels for photo in photos], settings.detection_threshold)
        chosen: dict[int, Face] = {}
        for i, (photo, faces) in enumerate(zip(photos, found, strict=True)):
            large = [face for face in faces if min(face.box[2:]) * photo.reduction >= settings.min_face]
            if large:
                chosen[i] = biggest_face(large, *photo.pixels.shape[:2])
            else:
                results[i] = _no_face(faces, settings)
        with clock("attributes"):
            attributes = self._attributes([photos[i].pixels for i in chosen], list(chosen.values()), settings)
        self._finish_inspection()
        share = {stage: seconds / len(photos) for stage, seconds in clock.seconds.items()}
        for (i, face), own in zip(chosen.items(), attributes, strict=True):
            x, y, w, h = (side * photos[i].reduction for side in face.box)
            results[i] = Description(_request(own, settings), own, (x, y, w, h), dict(share))
        return [results[i] for i in range(len(photos))]

    def _attributes(
        self, photos: Sequence[NDArray[np.uint8]], faces: Sequence[Face], settings: Settings
    ) -> list[Attributes]:
        if not photos or settings.attributes is not None:
            return [dict(settings.attributes or {}) for _ in photos]
        engines = {role: self.engine(role) for role in ("face_attributes", "face_age", "face_race")}
        return read_attributes(engines, photos, faces)

    def generate(
        self, requests: Sequence[Request], settings: Settings | None = None, *, progress: Progress | None = None
    ) -> list[Portrait]:
        """Generate images from prompts as one batch; each depends on its own prompts and seed only.

        Raises:
            GenerationError: the engines returned no image.
        """
        settings = self._checked(settings)
        self.check(settings)
        evaluations = self.schedule_for(settings).evaluations
        groups: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(self.count_windows(request, settings), []).append(i)
        portraits: dict[int, Portrait] = {}
        for number, members in enumerate(groups.values()):
            before = number * evaluations

            def report(done: int, before: int = before) -> None:
                if progress is not None:
                    progress((before + done) // len(groups), evaluations)

            portraits |= zip(members, self._generate([requests[i] for i in members], settings, report), strict=True)
        return [portraits[i] for i in range(len(requests))]

    def _generate(
        self, requests: Sequence[Request], settings: Settings, report: Callable[[int], None]
    ) -> list[Portrait]:
        """Generate images whose prompts have the same number of windows."""
        clock, latents = StageTimer(), np.empty(0, np.float32)
        for state in self.denoising(requests, settings, clock=clock):
            latents = state.latents
            report(state.evaluation)
        with clock("vae"):
            images = self.decode(latents)
        share = {stage: seconds / len(requests) for stage, seconds in clock.seconds.items()}
        return [
            Portrait(Image.fromarray(image), r.prompt, r.negative_prompt, r.seed, seconds=dict(share))
            for image, r in zip(images, requests, strict=True)
        ]

    def denoising(
        self, requests: Sequence[Request], settings: Settings, *, clock: StageTimer | None = None
    ) -> Iterator[State]:
        """The sampling loop of a batch, state by state; for previews, progress and cancelling.

        The noise is drawn on a thread of its own, while the text encoder and the first evaluations run.

        Raises:
            UsageError: there is no request, or their prompts need different numbers of windows: filling up the shorter
                ones would make an image depend on its batch. `generate` sorts them.
            GenerationError: the UNet returned NaN or infinity; names the evaluation.
        """
        settings, clock = self._checked(settings), clock or StageTimer()
        schedule, plan = self._plan(settings)
        defaults, shape = self.bundle.manifest.defaults, self.bundle.manifest.generator.latent_shape
        with ThreadPoolExecutor(1) as thread:
            drawn = [thread.submit(draw_noise, plan, request.seed, shape) for request in requests]

            def noise(k: int) -> NDArray[np.float32]:
                with clock("noise"):
                    return np.stack([future.result()[k] for future in drawn])

            with clock("text"):
                text = self._embed(requests, settings)
            scale = self._guidance_scale(settings)
            evaluations = self._evaluations(schedule, settings)
            with clock("load"):
                unet = clock.timing("unet", self.engine("unet"))
                full = all(evaluation.full for evaluation in evaluations)
                cached = None if full else clock.timing("unet", self.engine("unet_cached"))
            denoise = make_denoiser(
                unet, cached, text, scale, schedule.timesteps, evaluations, one_batch=defaults.guidance_batch
            )
            with clock("noise"):
                initial = np.stack([draw_initial(r.seed, shape) for r in requests]) * schedule.init_noise_sigma
            for state in LOOPS[schedule.sampler](initial, schedule, noise, denoise):
                self._check_finite(state.latents, "unet", f"at evaluation {state.evaluation} of {schedule.evaluations}")
                yield state

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Latents (n, channels, h, w) to uint8 images (n, height, width, 3).

        Raises:
            GenerationError: the VAE returned NaN or infinity.
            BundleError: a file of the bundle is not the one that was built.
        """
        scaled = latents / np.float32(self.bundle.manifest.generator.vae_scaling_factor)
        decoded = np.asarray(self.engine("vae_decoder")({"latent_sample": scaled})["sample"], np.float32)
        self._check_finite(decoded, "vae_decoder", "at the end")
        self._finish_inspection()
        # diffusers' VaeImageProcessor: denormalize, clip, and round half to even.
        unit = np.clip(decoded * np.float32(0.5) + np.float32(0.5), 0, 1).transpose(0, 2, 3, 1)
        return (unit * np.float32(255)).round().astype(np.uint8)

    def _check_finite(self, values: NDArray[np.float32], role: str, when: str) -> None:
        try:
            check_finite(values, role, when)
        except GenerationError:
            self._finish_inspection()  # damaged weights are the likelier reason, and the better message
            raise

    def _finish_inspection(self) -> None:
        if self._inspection is not None:
            self._inspection.finish()

    def schedule_for(self, settings: Settings) -> Schedule:
        """The sampler's tables that settings ask for.

        Raises:
            UsageError: the bundle has none for them.
        """
        return self._plan(settings)[0]

    def check(self, settings: Settings) -> None:
        """Make sure that the bundle has all that images of these settings need.

        Raises:
            UsageError: it has no tables for them.
            BundleError: it lacks an engine.
            BackendError: its target has no such device, or its library is not installed.
        """
        schedule = self.schedule_for(self._checked(settings))
        roles = ["text_encoder", "unet", "vae_decoder"]
        if not all(evaluation.full for evaluation in self._evaluations(schedule, settings)):
            roles.append("unet_cached")
        for role in roles:
            self.bundle.spec(role)
        resolve_device(self.bundle.manifest.target, self._device)

    def check_faces(self, settings: Settings) -> None:
        """Make sure that the bundle has the engines that photos need.

        Raises:
            BundleError: it lacks one.
        """
        read = () if settings.attributes is not None else ("face_attributes", "face_age", "face_race")
        for role in ("face_detector", *read):
            self.bundle.spec(role)

    def _checked(self, settings: Settings | None) -> Settings:
        """Settings for one call, which cannot change what was decided when the engines were loaded.

        Raises:
            UsageError: they would.
        """
        settings = settings or self.settings
        if settings.threads not in (None, self.settings.threads):
            why = "engines keep the number of threads that they were loaded with"
            fix = "give it to Anonymizer.load, in its settings"
            raise UsageError(f"{settings.threads} threads for one call", why, fix)
        return settings

    def _evaluations(self, schedule: Schedule, settings: Settings) -> tuple[Evaluation, ...]:
        return choose_evaluations(schedule, settings.acceleration, guidance=self._guidance_scale(settings) > 1)

    def _plan(self, settings: Settings) -> tuple[Schedule, NoisePlan]:
        defaults: Defaults = self.bundle.manifest.defaults
        sampler = _choose(settings.acceleration.sampler, defaults.sampler)
        key = _choose(settings.sampler, sampler), _choose(settings.steps, defaults.steps)
        if key not in self._schedules:
            schedule = load_schedule(self.bundle.path / self.bundle.manifest.tables.path, *key)
            self._schedules[key] = schedule, plan_noise(schedule)
        return self._schedules[key]

    def engine(self, role: str) -> Engine:
        """An engine of the bundle, loaded once; roles that share a file share the engine."""
        path = str(self.bundle.engine_path(role))
        if path not in self._engines:
            manifest, key = self.bundle.manifest, self.bundle.spec(role).key
            self._engines[path] = load_engine(manifest.target, Path(path), self.device, manifest.gpu, self.threads, key)
        return self._engines[path]

    def _embed(self, requests: Sequence[Request], settings: Settings) -> Text:
        """Text embeddings of the positive and, with guidance, the negative prompts."""
        windows = {self.count_windows(request, settings) for request in requests}
        if len(windows) != 1:
            why = "they need different numbers of text windows" if windows else "there is nothing to generate"
            raise UsageError(f"a batch of {len(requests)} prompts", why, "give one or more prompts of like length")
        guided = self._guidance_scale(settings) > 1
        prompts = [r.prompt for r in requests] + [r.negative_prompt for r in requests if guided]
        if settings.prompt_truncate:
            _warn_of_cuts(self.vocabulary, prompts)
        states = encode_prompts(prompts, self.vocabulary, self.engine("text_encoder"), windows.pop())
        count = len(requests)
        return Text(states[:count], states[count:] if guided else None)

    def count_windows(self, request: Request, settings: Settings | None = None) -> int:
        """How many windows of text an image is generated from; both its prompts are filled up to it."""
        settings = settings or self.settings
        if settings.prompt_truncate:
            return 1
        negative = [request.negative_prompt] if self._guidance_scale(settings) > 1 else []
        return count_windows(self.vocabulary, request.prompt, *negative)

    def _guidance_scale(self, settings: Settings) -> float:
        return _choose(settings.guidance_scale, self.bundle.manifest.defaults.guidance_scale)

    @cached_property
    def vocabulary(self) -> ClipTokenizer:
        """The bundle's tokenizer, loaded once."""
        return ClipTokenizer.load(self.bundle.path / self.bundle.manifest.tokenizer)


def _name(photo: Source) -> str:
    return str(photo) if isinstance(photo, str | os.PathLike) else "the given image"


def _no_face(faces: Sequence[Face], settings: Settings) -> NoFaceError:
    name = "a photo"
    if faces:
        why = f"no face in it has {settings.min_face} pixels or more"
        return NoFaceError(name, why, "use a larger photo, or allow smaller faces with --min-face")
    return NoFaceError(name, "no face was found in it", "use a photo that shows one, or lower --detection-threshold")


def _request(attributes: Attributes, settings: Settings) -> Request:
    return Request(*write_prompts(attributes, settings.prompt_style, settings.ignore), settings.seed)


def _warn_of_cuts(words: ClipTokenizer, prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if cut := cut_phrases(words, prompt):
            log.warning("--prompt-truncate cuts what does not fit into 77 tokens: %s", ", ".join(cut))


def _choose(value: T | None, default: T) -> T:
    return default if value is None else value
