"""The sizes that an engine is built for: what its free dimensions may be, and are at best."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from anon_runtime.bundle import EngineSpec
from anon_runtime.errors import UsageError
from anon_runtime.text import WINDOW

# The detectors' input: sides are multiples of 32, and the longer one is 640 (see `anon_runtime.faces.detect`).
DETECTOR_SIDES = (32, 640, 640)


@dataclass(frozen=True)
class Range:
    """The lowest, the most frequent and the highest value of a dimension."""

    low: int
    best: int
    high: int

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """From ``4`` or ``1:2:4``.

        Raises:
            UsageError: it is neither, or does not rise.
        """
        if match := re.fullmatch(r"(\d+)(?::(\d+):(\d+))?", text):
            low, best, high = (int(number or match[1]) for number in match.groups())
            if 1 <= low <= best <= high:
                return cls(low, best, high)
        raise UsageError(f"{option} {text}", "it is no range that rises from 1", "write one number, or low:best:high")

    def times(self, low: int, best: int, high: int) -> "Range":
        """Each value multiplied with its own factor."""
        return Range(self.low * low, self.best * best, self.high * high)


@dataclass(frozen=True)
class Shapes:
    """What the engines of a bundle are asked for.

    Attributes:
        batch: pictures painted at once.
        windows: windows of 77 tokens that a prompt takes; the paper's take one to three.
        latent_height, latent_width: of a picture.
    """

    batch: Range
    windows: Range
    latent_height: int
    latent_width: int

    def ranges(self, spec: EngineSpec) -> dict[str, Range]:
        """The range of every free dimension of an engine, by name.

        Guidance doubles the UNet's batch; without it, and for the last picture of a batch, less is asked.
        """
        batch, windows = self.batch, self.windows
        height, width = (Range(side, side, side) for side in (self.latent_height, self.latent_width))
        pairs = Range(1, 2 * batch.best, 2 * batch.high)
        if spec.contract == "text_encoder":
            return {"batch": pairs.times(1, windows.best, windows.high)}
        if spec.contract == "unet":
            tokens = windows.times(WINDOW, WINDOW, WINDOW)
            return {"batch": pairs, "tokens": tokens, "latent_height": height, "latent_width": width}
        if spec.contract == "vae_decoder":
            return {"batch": batch, "latent_height": height, "latent_width": width}
        sides = Range(*DETECTOR_SIDES)
        return {"batch": batch, "height": sides, "width": sides}


def fill(shape: tuple[int | str, ...], ranges: Mapping[str, Range]) -> tuple[list[int], list[int], list[int]]:
    """The lowest, best and highest shape of an input."""
    known = [ranges[size] if isinstance(size, str) else Range(size, size, size) for size in shape]
    return [r.low for r in known], [r.best for r in known], [r.high for r in known]
