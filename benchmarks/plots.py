"""The report of `throughput` as images."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402 (after the choice of a backend without a screen)
from matplotlib.axes import Axes  # noqa: E402

OURS_COLOUR, THEIR_COLOUR, LINE = "#2a6f97", "#a9b4c2", "#c1121f"


def draw(report: dict[str, Any], folder: Path) -> None:
    """Write ``speed.png`` (ratios and rates of the UNet) and ``images.png`` (stages, throughput against batch)."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [pair for pair in report["pairs"] if pair["part"] == "unet"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.6 * len(pairs) + 2.2), sharey=True)
    _ratios(left, pairs)
    _rates(right, pairs, report["flops"]["unet"], report["sgemm"])
    save(figure, folder / "speed.png")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
    _stages(left, report["images"])
    _batches(right, report["batches"])
    save(figure, folder / "images.png")


def _ratios(axes: Axes, pairs: list[dict[str, Any]]) -> None:
    for row, pair in enumerate(pairs):
        ratios = [theirs / ours for ours, theirs in zip(pair["seconds"], pair["baseline"], strict=True)]
        middle = statistics.median(ratios)
        spread = [[middle - min(ratios)], [max(ratios) - middle]]
        axes.barh(row, middle, xerr=spread, color=_colour(pair["name"]), capsize=3)
    axes.set_yticks(range(len(pairs)), [pair["name"] for pair in pairs])
    axes.axvline(1, color=LINE)
    axes.set(xlabel="UNet: times as fast as diffusers, eager (median, least, most)")


def _rates(axes: Axes, pairs: list[dict[str, Any]], flops: float, sgemm: float) -> None:
    for row, pair in enumerate(pairs):
        axes.barh(row, flops / statistics.median(pair["seconds"]) / 1e9, color=_colour(pair["name"]))
    axes.axvline(sgemm / 1e9, color=LINE)
    axes.set(xlabel="GFLOP/s as PyTorch counts (line: best sgemm)")


def _stages(axes: Axes, images: dict[str, dict[str, Any]]) -> None:
    names, bottoms = list(images), [0.0] * len(images)
    for stage in next(iter(images.values()))["stages"]:
        seconds = [images[name]["stages"][stage] for name in names]
        axes.bar(names, seconds, bottom=bottoms, label=stage)
        bottoms = [below + own for below, own in zip(bottoms, seconds, strict=True)]
    axes.set(ylabel="seconds an image")
    axes.legend()


def _batches(axes: Axes, batches: list[dict[str, float]]) -> None:
    rates = [b["images_per_second"] for b in batches]
    axes.plot([b["images"] for b in batches], rates, "o-", color=OURS_COLOUR)
    axes.set_xscale("log", base=2)
    axes.set_xticks([b["images"] for b in batches], [f"{b['images']}" for b in batches])
    axes.set(xlabel="images at once", ylabel="images a second (two steps)", ylim=(0, 1.15 * max(rates)))


def _colour(name: str) -> str:
    return OURS_COLOUR if name.startswith("anon") else THEIR_COLOUR


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and forget it."""
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
