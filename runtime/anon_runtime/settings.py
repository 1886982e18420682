"""The choices of a run: one field for every option of ``anon-run``."""

import math
from dataclasses import dataclass

from .diffusion.acceleration import FAST_LEVELS, Acceleration
from .diffusion.schedule import SAMPLERS
from .errors import UsageError
from .faces.attributes import CELEBA, Attributes, check_attributes
from .faces.prompt import STYLES
from .folder.identity import check_number, check_seed

_NUMBERS: dict[str, type] = {
    "steps": int, "guidance_scale": float, "batch_size": int, "threads": int, "detection_threshold": float,
    "min_face": int,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What to generate; None means the bundle's default.

    Attributes:
        seed: 0 .. 2**64 - 1; the same seed, attributes and engines give the same image.
        steps: of the sampler, from 1 to what the bundle's tables cover.
        guidance_scale: 1 turns guidance off and halves the work.
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        acceleration: what evaluations may leave out; one of `acceleration.FAST_LEVELS`, of which the first is exact.
        batch_size: images generated at once; an image does not depend on it.
        threads: of engines on the CPU; an image depends on it in its last digit, so that a folder keeps to one number.
        prompt_truncate: cut prompts at 77 tokens, as diffusers does, instead of reading all of them.
        prompt_style: ``paper`` or ``natural``; see `prompt.write_prompts`.
        ignore: attributes that no prompt mentions.
        attributes: used instead of what the networks would read from a face; see `attributes.check_attributes`.
        detection_threshold: lowest score of a face, 0..1; None is the detector's own.
        min_face: faces whose shorter side has fewer pixels are not seen.
        more_formats: read BMP, GIF, PPM and TIFF, too; see `images.FORMATS`.
        no_face: whether a photo without a face is an ``error`` or to ``skip``; it never gives an image.

    Raises:
        UsageError: a value is out of range.
    """

    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    acceleration: Acceleration = FAST_LEVELS[0]
    batch_size: int | None = None
    threads: int | None = None
    prompt_truncate: bool = False
    prompt_style: str = "paper"
    ignore: tuple[str, ...] = ()
    attributes: Attributes | None = None
    detection_threshold: float | None = None
    min_face: int = 0
    no_face: str = "error"
    more_formats: bool = False

    def __post_init__(self) -> None:
        for name, kind in _NUMBERS.items():
            if getattr(self, name) is not None or name == "min_face":
                object.__setattr__(self, name, check_number(name, getattr(self, name), kind))
        # Of its own, whatever becomes of what was given.
        object.__setattr__(self, "ignore", tuple(self.ignore))
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps", "an image needs at least one", "use 1 or more")
        if self.guidance_scale is not None and not (math.isfinite(self.guidance_scale) and self.guidance_scale >= 1):
            why = "guidance is a finite number of at least 1"
            raise UsageError(f"guidance scale {self.guidance_scale}", why, "use 1 for none, 7.5 for the paper's way")
        if self.sampler is not None:
            _choice("sampler", self.sampler, SAMPLERS)
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}", "a batch holds at least one", "use 1 or more")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"{self.threads} threads", "engines need at least one", "use 1 or more")
        _choice("prompt style", self.prompt_style, STYLES)
        _choice("no_face", self.no_face, ("error", "skip"))
        for name in self.ignore:
            _choice("attribute to ignore", name, tuple(n for n in CELEBA if n != "Male"))
        if self.attributes is not None:
            object.__setattr__(self, "attributes", check_attributes(self.attributes, "attributes"))
        if self.min_face < 0:
            raise UsageError(f"smallest face of {self.min_face} pixels", "it is negative", "use 0 or more")
        if self.detection_threshold is not None and not 0 < self.detection_threshold < 1:
            why = "a score lies between 0 and 1"
            raise UsageError(f"detection threshold {self.detection_threshold}", why, "use a value such as 0.5")


def _choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{what} {value!r}", "there is no such choice", f"use one of: {', '.join(allowed)}")
