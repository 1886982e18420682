"""The shapes that an engine is built for: the range of each free dimension."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.diffusion.device_loop import ROLES
from anon_runtime.diffusion.schedule import evaluations
from anon_runtime.diffusion.text_encoder import WINDOW
from anon_runtime.errors import UsageError

# The sides of the detectors' input are multiples of 32 up to 640; see `anon_runtime.faces.detection`.
DETECTOR_SIDES = (32, 640, 640)


@dataclass(frozen=True)
class Range:
    """The lowest, the most frequent and the highest value of a dimension.

    TensorRT chooses the kernels that are fastest for the most frequent value.
    """

    low: int
    best: int
    high: int

    @classmethod
    def parse(cls, text: str, setting: str) -> Self:
        """Read ``4``, which is the most frequent and the highest value, or ``1:2:4``.

        Args:
            text: of the user.
            setting: its name in messages.

        Raises:
            UsageError: the text is neither, or the values do not rise from 1.
        """
        if match := re.fullmatch(r"(?:(\d+):(\d+):)?(\d+)", text):
            high = int(match[3])
            low, best = int(match[1] or 1), int(match[2] or high)
            if 1 < low <= best <= high:
                why = "engines are asked for one as well: a folder's last batch may be smaller, a prompt may be short"
                raise UsageError(f"`{setting}` {text}", why, f"write 1:{best}:{high}")
            if 1 == low <= best <= high:
                return cls(low, best, high)
        raise UsageError(f"`{setting}` {text}", "it is no range that rises from 1", "write one number, or 1:best:high")

    def times(self, low: int, best: int, high: int) -> "Range":
        """Each value multiplied by its own factor."""
        return Range(self.low * low, self.best * best, self.high * high)

    def reach(self, least: int) -> "Range":
        """The same range, with a highest value of at least ``least``."""
        return Range(self.low, self.best, max(self.high, least))


# Of `dpmpp_sde`, which has the most, with the numbers of steps that bundles have tables for.
EVALUATIONS = Range(*(evaluations("dpmpp_sde", steps) for steps in (1, 15, 50)))


@dataclass(frozen=True)
class Shapes:
    """The batches and prompts that the engines of a bundle are built for.

    Attributes:
        batch: images generated at once.
        windows: windows of 77 tokens that a prompt takes. The paper's prompts take one to three.
    """

    batch: Range
    windows: Range

    def ranges(self, spec: EngineSpec) -> dict[str, Range]:
        """The range of every free dimension of an engine, by name.

        Guidance doubles the UNet's batch. Without guidance, and in the last batch, it is smaller. The ranges also hold
        the reference inputs: a UNet's have two windows of text, and those of face engines have two photos.
        """
        batch, windows = self.batch, self.windows
        pairs = batch.times(1, 2, 2)
        if spec.signature == "text_encoder":
            return {"batch": pairs.times(1, windows.best, windows.high)}
        if spec.signature in ("unet", "unet_cached"):
            return {"batch": pairs, "tokens": windows.reach(2).times(WINDOW, WINDOW, WINDOW)}
        if spec.signature in ("vae_encoder", "vae_decoder"):
            return {"batch": batch}
        if spec.signature in ROLES:
            rows = Range(*(count + 1 for count in (EVALUATIONS.low, EVALUATIONS.best, EVALUATIONS.high)))
            return {"batch": batch.reach(2), "evaluations": EVALUATIONS, "rows": rows}
        sides = Range(*DETECTOR_SIDES)
        return {"batch": batch.reach(2), "height": sides, "width": sides}


def profile_shapes(shape: tuple[int | str, ...], ranges: Mapping[str, Range]) -> tuple[list[int], list[int], list[int]]:
    """The lowest, most frequent and highest shape of an input, as TensorRT's optimization profiles take them."""
    known = [ranges[size] if isinstance(size, str) else Range(size, size, size) for size in shape]
    return [r.low for r in known], [r.best for r in known], [r.high for r in known]
