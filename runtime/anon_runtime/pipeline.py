"""The whole way: a photo, its face, the attributes, the prompts, the loop, a portrait."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .attributes import Attributes, read_attributes
from .backends import Engine, load_engine
from .bundle import Bundle, Defaults
from .errors import NoFaceError, UsageError
from .faces import DEFAULT_THRESHOLDS, DETECTORS, Face, biggest_face
from .guidance import check_finite, make_denoiser
from .images import read_photo
from .noise import draw_noise
from .prompt import write_prompts
from .sampler import LOOPS, State
from .schedule import Schedule, load_schedule
from .settings import Settings
from .text import Vocabulary, encode_prompts

T = TypeVar("T")
Progress = Callable[[int, int], None]  # evaluations done, evaluations in all


@dataclass(frozen=True)
class Extraction:
    """What was read from a photo: the biggest face and its attributes."""

    face: Face
    attributes: Attributes


@dataclass(frozen=True)
class Request:
    """One picture to paint."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Portrait:
    """A finished picture and how it came about.

    Attributes:
        image: PIL RGB picture of the bundle's size; contains no pixel of any photo.
        attributes, face: what was read from the photo; None where there was no photo. ``face`` is x, y, width, height
            in pixels of the upright photo.
        seconds: time by stage.
    """

    image: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    attributes: Attributes | None = None
    face: tuple[float, float, float, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class Anonymizer:
    """A bundle's engines, loaded when they are first needed.

    >>> anonymizer = Anonymizer.load("engines/demo")          # doctest: +SKIP
    >>> portrait = anonymizer.anonymize("photo.jpg", seed=7)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, settings: Settings | None = None) -> None:
        self.bundle = bundle
        self.settings = settings or Settings()
        self._engines: dict[str, Engine] = {}
        self._schedules: dict[tuple[str, int], Schedule] = {}
        self._words: Vocabulary | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: Settings | None = None) -> Self:
        """Open a bundle, checking its files.

        Raises:
            BundleError: there is none, or it is damaged.
        """
        return cls(Bundle.open(Path(path)), settings)

    def anonymize(
        self,
        photo: str | os.PathLike[str] | Image.Image | NDArray[np.uint8],
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Portrait:
        """Paint a new portrait with the attributes of the biggest face in a photo.

        Args:
            photo: a file, a PIL image, or uint8 RGB (height, width, 3).
            progress: called with evaluations done and evaluations in all.
            **changes: fields of `Settings` that differ from this object's, such as ``seed=7``.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            GenerationError: the engines returned no picture.
        """
        settings = replace(self.settings, **changes)
        self.check(settings)
        clock = Stopwatch()
        with clock("decode"):
            pixels = read_photo(photo)
        name = str(photo) if isinstance(photo, str | os.PathLike) else "the given image"
        found = self.extract(pixels, settings, name=name, clock=clock)
        prompt, negative = write_prompts(found.attributes)
        request = Request(prompt, negative, settings.seed)
        portrait = self.generate([request], settings, progress=progress, clock=clock)[0]
        return replace(portrait, attributes=found.attributes, face=found.face.box)

    def extract(
        self,
        photo: NDArray[np.uint8],
        settings: Settings,
        *,
        name: str = "the photo",
        clock: "Stopwatch | None" = None,
    ) -> Extraction:
        """Find the biggest face and read its attributes.

        Raises:
            NoFaceError: there is no face.
        """
        clock = clock or Stopwatch()
        height, width = photo.shape[:2]
        with clock("detect"):
            contract = self.bundle.spec("face_detector").contract
            threshold = settings.detection_threshold or DEFAULT_THRESHOLDS[contract]
            faces = DETECTORS[contract](self.engine("face_detector"), photo, threshold)
        if not faces:
            fix = "use a photo that shows one, or lower the detection threshold"
            raise NoFaceError(name, "no face was found in it", fix)
        face = biggest_face(faces, height, width)
        with clock("attributes"):
            engines = {role: self.engine(role) for role in ("face_attributes", "face_age", "face_race")}
            return Extraction(face, read_attributes(engines, [photo], [face])[0])

    def generate(
        self,
        requests: Sequence[Request],
        settings: Settings | None = None,
        *,
        progress: Progress | None = None,
        clock: "Stopwatch | None" = None,
    ) -> list[Portrait]:
        """Paint pictures from prompts as one batch; each depends on its own prompts and seed only.

        Raises:
            GenerationError: the engines returned no picture.
        """
        settings, clock = settings or self.settings, clock or Stopwatch()
        schedule = self.check(settings)
        latents = None
        for state in self.denoising(requests, settings, clock=clock):
            latents = state.latents
            if progress is not None:
                progress(state.evaluation, schedule.evaluations)
        assert latents is not None
        with clock("vae"):
            pictures = self.decode(latents)
        return [
            Portrait(Image.fromarray(p), r.prompt, r.negative_prompt, r.seed, seconds=dict(clock.seconds))
            for p, r in zip(pictures, requests, strict=True)
        ]

    def denoising(
        self, requests: Sequence[Request], settings: Settings, *, clock: "Stopwatch | None" = None
    ) -> Iterator[State]:
        """The sampling loop of a batch, state by state; for previews, progress and cancelling.

        Raises:
            GenerationError: the UNet returned NaN or infinity; names the step.
        """
        clock = clock or Stopwatch()
        schedule = self.check(settings)
        defaults, shape = self.bundle.manifest.defaults, self.bundle.manifest.generator.latent_shape
        with clock("text"):
            positive, negative = self._embed(requests, settings)
        with clock("noise"):
            noises = [draw_noise(schedule, request.seed, shape) for request in requests]
            initial = np.stack([noise.initial for noise in noises]) * schedule.init_noise_sigma
            noise = np.stack([noise.steps for noise in noises], axis=1)
        scale = _choose(settings.guidance_scale, defaults.guidance_scale)
        unet = self.engine("unet")
        denoise = make_denoiser(unet, positive, negative, scale, one_batch=defaults.guidance_batch)
        loop = LOOPS[schedule.sampler](initial, schedule, noise, denoise)
        for _ in range(schedule.evaluations):
            with clock("unet"):
                state = next(loop)
            check_finite(state.latents, "unet", f"at evaluation {state.evaluation} of {schedule.evaluations}")
            yield state

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Latents (n, channels, h, w) to uint8 pictures (n, height, width, 3)."""
        scaled = latents / np.float32(self.bundle.manifest.generator.vae_scaling_factor)
        decoded = np.asarray(self.engine("vae_decoder")({"latent_sample": scaled})["sample"], np.float32)
        check_finite(decoded, "vae_decoder", "at the end")
        # diffusers' VaeImageProcessor: denormalize, clip, and round half to even.
        unit = np.clip(decoded * np.float32(0.5) + np.float32(0.5), 0, 1).transpose(0, 2, 3, 1)
        return (unit * np.float32(255)).round().astype(np.uint8)

    def check(self, settings: Settings) -> Schedule:
        """Read the tables that settings ask for.

        Raises:
            UsageError: the bundle has none for them.
        """
        defaults: Defaults = self.bundle.manifest.defaults
        key = _choose(settings.sampler, defaults.sampler), _choose(settings.steps, defaults.steps)
        if key not in self._schedules:
            path = self.bundle.path / self.bundle.manifest.tables.path
            self._schedules[key] = load_schedule(path, *key)
        return self._schedules[key]

    def engine(self, role: str) -> Engine:
        """An engine of the bundle, loaded once; roles that share a file share the engine."""
        path = str(self.bundle.engine_path(role))
        if path not in self._engines:
            self._engines[path] = load_engine(self.bundle.manifest.target, Path(path))
        return self._engines[path]

    def _embed(
        self, requests: Sequence[Request], settings: Settings
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Text embeddings of the positive and, with guidance, the negative prompts."""
        if not requests:
            raise UsageError("no prompt", "there is nothing to paint", "give at least one")
        if self._words is None:
            self._words = Vocabulary.load(self.bundle.path / self.bundle.manifest.tokenizer)
        guided = _choose(settings.guidance_scale, self.bundle.manifest.defaults.guidance_scale) > 1
        prompts = [r.prompt for r in requests] + [r.negative_prompt for r in requests if guided]
        truncate = settings.prompt_truncate
        states = encode_prompts(prompts, self._words, self.engine("text_encoder"), truncate=truncate)
        count = len(requests)
        return states[:count], states[count:] if guided else None


def _choose(value: T | None, default: T) -> T:
    return default if value is None else value


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as part of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
