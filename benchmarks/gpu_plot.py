"""Plots of the results of `gpu`."""

from pathlib import Path
from statistics import median

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .gpu_report import Result
from .plots import OURS_COLOUR, THEIR_COLOUR, save

STAGES = ("text", "noise", "unet", "vae")


def draw(results: Result, path: Path) -> None:
    """Draw the contenders of the UNet and the stages of an image by level of ``--fast``.

    Args:
        results: of all stages; those that failed or were skipped leave their half empty.
        path: of the PNG.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8))
    _draw_contenders(left, results.get("UNet", {}))
    _draw_images(right, results.get("images", {}))
    save(figure, path)


def _draw_contenders(axes: Axes, found: Result) -> None:
    times = {name: own["seconds"] for name, own in found.items() if isinstance(own, dict) and "seconds" in own}
    for name, seconds in reversed(times.items()):
        middle = median(seconds)
        spread = [[1e3 * (middle - min(seconds))], [1e3 * (max(seconds) - middle)]]
        colour = OURS_COLOUR if name.startswith("anon-engines") else THEIR_COLOUR
        axes.barh(name, 1e3 * middle, xerr=spread, color=colour, capsize=3)
    axes.set(xlabel="ms for one guidance batch of the UNet (median, min, max)")


def _draw_images(axes: Axes, found: Result) -> None:
    levels = {name: own for name, own in found.items() if isinstance(own, dict)}
    below = [0.0] * len(levels)
    for stage in STAGES:
        own = [level.get(stage, 0.0) for level in levels.values()]
        axes.bar(list(levels), own, bottom=below, label=stage)
        below = [a + b for a, b in zip(below, own, strict=True)]
    rest = [level["seconds"] - known for level, known in zip(levels.values(), below, strict=True)]
    axes.bar(list(levels), rest, bottom=below, label="the rest")
    axes.set(ylabel="seconds for an image of 15 steps")
    axes.legend()
