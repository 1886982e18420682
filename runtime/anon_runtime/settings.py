"""The settings that users choose, and the resolved settings that follow from them for one bundle before work begins."""

import math
from dataclasses import dataclass, replace

from .bundle.integrity import REBUILD
from .bundle.manifest import Manifest
from .diffusion.acceleration import FAST_LEVELS, Acceleration
from .diffusion.generator import SamplingOptions
from .errors import BundleError, UsageError
from .faces.attributes import CELEBA, check_attributes
from .faces.detection import DETECTORS, SECOND_DETECTOR_ROLE, Detector
from .faces.identity import IDENTITY_ROLE
from .faces.prompt import STYLES, PromptStyle
from .faces.reader import ReadingOptions
from .guard.options import GuardOptions, Mode
from .types import SAMPLERS, Attributes, Sampler, check_choice, check_float, check_integer


@dataclass(frozen=True)
class Settings:
    """The settings for reading photos and generating images; None stands for the bundle's default.

    Attributes:
        steps: the number of steps of the sampler, from 1 to the number that the bundle has tables for.
        guidance_scale: the scale of guidance, 1 or more; 1 turns guidance off and halves the work.
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``; None means the sampler of the acceleration, or else the bundle's.
        acceleration: the level of fast mode, one of `FAST_LEVELS`; the first one is exact.
        prompt_truncate: whether to cut prompts at 77 tokens, as diffusers does, instead of using all tokens.
        prompt_style: ``paper`` or ``natural``; see `anon_runtime.faces.prompt.write_prompts`.
        ignore: attributes that no prompt mentions.
        attributes: attributes to use instead of those that the engines compute; see
            `anon_runtime.faces.attributes.check_attributes`.
        detection_threshold: the lowest score of a face, between 0 and 1; None means the default of the detector, which
            is lower where every face of a photo is to be replaced.
        min_face: faces whose shorter side has fewer pixels than this are ignored.
        more_formats: whether to read BMP, GIF, PPM and TIFF as well; see `anon_runtime.faces.decoding`.
        guard: what to do with portraits that resemble somebody: ``strict``, ``report`` or ``off``; None means strict if
            the bundle has a face-recognition network, and otherwise off.
        fmr, attempts, min_rank, best_of: see `anon_runtime.guard.options.GuardOptions`.

    Raises:
        UsageError: a value is out of range.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    sampler: Sampler | None = None
    acceleration: Acceleration = FAST_LEVELS[0]
    prompt_truncate: bool = False
    prompt_style: PromptStyle = "paper"
    ignore: tuple[str, ...] = ()
    attributes: Attributes | None = None
    detection_threshold: float | None = None
    min_face: int = 0
    more_formats: bool = False
    guard: Mode | None = None
    fmr: float = GuardOptions.fmr
    attempts: int = GuardOptions.attempts
    min_rank: int = GuardOptions.min_rank
    best_of: int = GuardOptions.best_of

    def __post_init__(self) -> None:
        # Numbers of any library become Python's own numbers. Collections are copied, because their owner may change
        # them.
        checked = {"ignore": tuple(self.ignore), "min_face": check_integer("min_face", self.min_face)}
        if self.steps is not None:
            checked["steps"] = check_integer("steps", self.steps)
        if self.guidance_scale is not None:
            checked["guidance_scale"] = check_float("guidance_scale", self.guidance_scale)
        if self.detection_threshold is not None:
            checked["detection_threshold"] = check_float("detection_threshold", self.detection_threshold)
        if self.attributes is not None:
            checked["attributes"] = check_attributes(self.attributes, "attributes")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_generation()
        self._check_reading()
        self._guard(self.guard or "strict")

    def _check_generation(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps", "an image needs at least one", "use 1 or more")
        if self.guidance_scale is not None and not (math.isfinite(self.guidance_scale) and self.guidance_scale >= 1):
            why = "guidance is a finite number of at least 1"
            raise UsageError(f"guidance scale {self.guidance_scale}", why, "use 1 for none, 7.5 for the paper's way")
        if self.sampler is not None:
            check_choice("sampler", self.sampler, SAMPLERS)

    def _check_reading(self) -> None:
        check_choice("prompt style", self.prompt_style, STYLES)
        for name in self.ignore:
            check_choice("attribute to ignore", name, tuple(n for n in CELEBA if n != "Male"))
        if self.min_face < 0:
            raise UsageError(f"smallest face of {self.min_face} pixels", "it is negative", "use 0 or more")
        if self.detection_threshold is not None and not 0 < self.detection_threshold < 1:
            why = "a score lies between 0 and 1"
            raise UsageError(f"detection threshold {self.detection_threshold}", why, "use a value such as 0.5")

    def _guard(self, mode: Mode) -> GuardOptions:
        return GuardOptions(mode, self.fmr, self.attempts, self.min_rank, self.best_of)

    def resolve(self, manifest: Manifest) -> "ResolvedSettings":
        """Return these settings with the defaults of a bundle and of its face detector for all values that are None.

        Args:
            manifest: the manifest of the bundle.

        Raises:
            BundleError: this runtime does not know the bundle's face detector.
            UsageError: portraits are to be checked, and the bundle has no face-recognition network.
        """
        recognizes = manifest.identity is not None and IDENTITY_ROLE in manifest.engines
        if self.guard in ("strict", "report") and not recognizes:
            why = f"bundle {manifest.name} has no face-recognition network"
            raise UsageError(f"`guard` {self.guard}", why, "build the bundle with one, or use off")
        defaults = manifest.defaults
        detector = find_detector(manifest)
        return ResolvedSettings(
            detector,
            ReadingOptions(
                detector.threshold if self.detection_threshold is None else self.detection_threshold,
                self.min_face,
                self.more_formats,
                self.prompt_style,
                self.ignore,
                self.attributes,
                detector.careful if self.detection_threshold is None else self.detection_threshold,
            ),
            SamplingOptions(
                self.sampler or self.acceleration.sampler or defaults.sampler,
                defaults.steps if self.steps is None else self.steps,
                defaults.guidance_scale if self.guidance_scale is None else self.guidance_scale,
                self.acceleration,
                self.prompt_truncate,
            ),
            self._guard(self.guard or ("strict" if recognizes else "off")),
        )


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings for one bundle, with a value for each of them.

    Attributes:
        detector: the pre- and post-processing of the bundle's face detector.
        reading: the settings for reading photos.
        sampling: the settings for generating images.
        guard: the options of the guard.
    """

    detector: Detector
    reading: ReadingOptions
    sampling: SamplingOptions
    guard: GuardOptions


def find_detector(manifest: Manifest) -> Detector:
    """Return the pre- and post-processing of a bundle's face detector; any one for a bundle without face engines.

    Args:
        manifest: the manifest of the bundle.

    Raises:
        BundleError: this runtime does not know the face detector.
    """
    if "face_detector" not in manifest.engines:
        return DETECTORS["centerface"]
    signature = manifest.engines["face_detector"].signature
    if signature not in DETECTORS:
        why = f"this runtime does not know its face detector, {signature!r}"
        raise BundleError(f"bundle {manifest.name}", why, f"build it for one of: {', '.join(DETECTORS)}")
    return DETECTORS[signature]


def find_second_detector(manifest: Manifest) -> Detector | None:
    """Return the pre- and post-processing of a bundle's second face detector; None if the bundle has none.

    Args:
        manifest: the manifest of the bundle.

    Raises:
        BundleError: this runtime does not know the detector, or it is the same network as the first one, whose mistakes
            it would repeat.
    """
    second, first = (manifest.engines.get(role) for role in (SECOND_DETECTOR_ROLE, "face_detector"))
    if second is None:
        return None
    if first is not None and first.signature == second.signature:
        why = f"both of its face detectors are {second.signature}, and the second one has to be another network"
        raise BundleError(f"bundle {manifest.name}", why, REBUILD)
    return find_detector(replace(manifest, engines={"face_detector": second}))
