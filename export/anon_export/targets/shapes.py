"""The sizes that an engine is built for: what its free dimensions may be, and are at best."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.diffusion.text_encoder import WINDOW
from anon_runtime.errors import UsageError

# The detectors' input: sides are multiples of 32, and the longer one is 640; see `anon_runtime.faces.detection`.
DETECTOR_SIDES = (32, 640, 640)


@dataclass(frozen=True)
class Range:
    """The lowest, the most frequent and the highest value of a dimension."""

    low: int
    best: int
    high: int

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """From ``4``, which is the best and the highest value, or ``1:2:4``.

        Raises:
            UsageError: it is neither, or does not rise from 1.
        """
        if match := re.fullmatch(r"(?:(\d+):(\d+):)?(\d+)", text):
            high = int(match[3])
            low, best = int(match[1] or 1), int(match[2] or high)
            if 1 < low <= best <= high:
                why = "engines are asked for one as well: a folder's last batch may hold less, a prompt may be short"
                raise UsageError(f"{option} {text}", why, f"write 1:{best}:{high}")
            if 1 == low <= best <= high:
                return cls(low, best, high)
        raise UsageError(f"{option} {text}", "it is no range that rises from 1", "write one number, or 1:best:high")

    def times(self, low: int, best: int, high: int) -> "Range":
        """Each value multiplied with its own factor."""
        return Range(self.low * low, self.best * best, self.high * high)

    def reach(self, least: int) -> "Range":
        """At least so high."""
        return Range(self.low, self.best, max(self.high, least))


@dataclass(frozen=True)
class Shapes:
    """What the engines of a bundle are asked for.

    Attributes:
        batch: images generated at once.
        windows: windows of 77 tokens that a prompt takes; the paper's take one to three.
    """

    batch: Range
    windows: Range

    def ranges(self, spec: EngineSpec) -> dict[str, Range]:
        """The range of every free dimension of an engine, by name.

        Guidance doubles the UNet's batch; without it, and for the last image of a batch, less is asked. The check of
        a UNet has two windows of text, and those of face engines have two photos, whatever the bundle is for.
        """
        batch, windows = self.batch, self.windows
        pairs = batch.times(1, 2, 2)
        if spec.signature == "text_encoder":
            return {"batch": pairs.times(1, windows.best, windows.high)}
        if spec.signature == "unet":
            return {"batch": pairs, "tokens": windows.reach(2).times(WINDOW, WINDOW, WINDOW)}
        if spec.signature == "vae_decoder":
            return {"batch": batch}
        sides = Range(*DETECTOR_SIDES)
        return {"batch": batch.reach(2), "height": sides, "width": sides}


def fill(shape: tuple[int | str, ...], ranges: Mapping[str, Range]) -> tuple[list[int], list[int], list[int]]:
    """The lowest, best and highest shape of an input."""
    known = [ranges[size] if isinstance(size, str) else Range(size, size, size) for size in shape]
    return [r.low for r in known], [r.best for r in known], [r.high for r in known]
