"""Plots of the report of `throughput`."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # the backend that needs no screen
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .latency import Latency
from .throughput_report import Batch, Comparison, Report

OURS_COLOUR, THEIR_COLOUR, LINE = "#2a6f97", "#a9b4c2", "#c1121f"


def draw(report: Report, folder: Path) -> None:
    """Write ``speed.png`` (speed and FLOP/s of the UNet) and ``images.png`` (time by stage, and images per second).

    The second one is left out if images or batches were not measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [Comparison(**fields) for fields in report["comparisons"] if fields["part"] == "unet"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.6 * len(found) + 2.2), sharey=True)
    _draw_ratios(left, found)
    _draw_rates(right, found, report["flops"]["unet"], report["sgemm"])
    save(figure, folder / "speed.png")
    if not (report["images"] and report["batches"]):
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
    _draw_stages(left, report["images"])
    _draw_batches(right, report["batches"])
    save(figure, folder / "images.png")


def _draw_ratios(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    for row, comparison in enumerate(comparisons):
        ratios = comparison.ratios
        median = statistics.median(ratios)
        spread = [[median - min(ratios)], [max(ratios) - median]]
        axes.barh(row, median, xerr=spread, color=_colour(comparison.name), capsize=3)
    axes.set_yticks(range(len(comparisons)), [comparison.name for comparison in comparisons])
    axes.axvline(1, color=LINE)
    axes.set(xlabel="UNet: speed relative to diffusers, eager (median, min, max)")


def _draw_rates(axes: Axes, comparisons: Sequence[Comparison], flops: float, sgemm: float) -> None:
    for row, comparison in enumerate(comparisons):
        if "--fast" in comparison.name:  # a level computes less than what is counted
            continue
        axes.barh(row, flops / statistics.median(comparison.seconds) / 1e9, color=_colour(comparison.name))
    axes.axvline(sgemm / 1e9, color=LINE)
    axes.set(xlabel="GFLOP/s as PyTorch counts them (line: best sgemm)")


def _draw_stages(axes: Axes, images: Mapping[str, Latency]) -> None:
    names, bottoms = list(images), [0.0] * len(images)
    for stage in next(iter(images.values()))["stages"]:
        seconds = [images[name]["stages"][stage] for name in names]
        axes.barh(names, seconds, left=bottoms, label=stage)
        bottoms = [below + own for below, own in zip(bottoms, seconds, strict=True)]
    axes.set(xlabel="seconds per image")
    axes.legend()


def _draw_batches(axes: Axes, batches: Sequence[Batch]) -> None:
    rates = [b["images_per_second"] for b in batches]
    axes.plot([b["images"] for b in batches], rates, "o-", color=OURS_COLOUR)
    axes.set_xscale("log", base=2)
    axes.set_xticks([b["images"] for b in batches], [f"{b['images']}" for b in batches])
    axes.set(xlabel="images at once", ylabel="images per second (two steps)", ylim=(0, 1.15 * max(rates)))


def _colour(name: str) -> str:
    return OURS_COLOUR if name.startswith("anon") else THEIR_COLOUR


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
