"""The report of `throughput`: what it holds, and its tables in Markdown."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from .contenders import BASELINE, PARTS, Part
from .latency import Latency


@dataclass(frozen=True)
class Comparison:
    """The runs of a contender and those of the baseline between them.

    Attributes:
        seconds, baseline: of each run of the contender and of the baseline.
        error: largest difference from PyTorch, relative to the largest value; None where there is no result to compare.
        peak: most resident memory of the contender's process, in bytes.
    """

    name: str
    part: Part
    seconds: list[float]
    baseline: list[float]
    error: float | None
    peak: int

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the baseline the contender is, run by run."""
        return [theirs / ours for ours, theirs in zip(self.seconds, self.baseline, strict=True)]


class Batch(TypedDict):
    """Time to generate several images at once."""

    images: int
    seconds: float
    images_per_second: float


class Report(TypedDict):
    """Everything that is measured, in types that JSON has.

    Attributes:
        flops: floating-point operations of one call, by part.
        sgemm: best rate of fp32 matrix multiplication on this machine, in FLOP/s.
        comparisons: the fields of a `Comparison` each.
        unavailable: why a contender could not run, by contender and part.
        images: by contender; empty, as ``batches`` may be, if they were not measured.
    """

    machine: dict[str, str | int]
    full_size: bool
    flops: dict[Part, float]
    sgemm: float
    comparisons: list[dict[str, Any]]
    unavailable: dict[str, str]
    images: dict[str, Latency]
    batches: list[Batch]


def table(report: Report) -> list[str]:
    """The lines of the report in Markdown."""
    return [
        ", ".join(f"{name} {value}" for name, value in report["machine"].items()),
        "",
        *_speed_table(report),
        *(("", *_latency_table(report["images"])) if report["images"] else ()),
        *(("", *_batch_table(report["batches"])) if report["batches"] else ()),
    ]


def _speed_table(report: Report) -> Iterator[str]:
    yield (
        "| part | contender | seconds (min-max) | speed relative to PyTorch (min-max) | FLOP/s relative to sgemm | "
        "error | peak memory |"
    )
    yield "|---" * 7 + "|"
    for part in PARTS:
        found = [Comparison(**fields) for fields in report["comparisons"] if fields["part"] == part]
        eager = [seconds for comparison in found for seconds in comparison.baseline]
        rate = report["flops"][part] / report["sgemm"]
        if eager:
            yield f"| {part} | {BASELINE} | {_spread(eager)} | 1 | {rate / statistics.median(eager):.2f} | | |"
        for own in found:
            cells = (
                part,
                own.name,
                _spread(own.seconds),
                _spread(own.ratios, 2),
                "" if "--fast" in own.name else f"{rate / statistics.median(own.seconds):.2f}",
                "" if own.error is None else f"{own.error:.1e}",
                f"{own.peak / 1e9:.2f} GB",
            )
            yield f"| {' | '.join(cells)} |"
    yield from (f"| {name} | not available: {reason} | | | | | |" for name, reason in report["unavailable"].items())


def _latency_table(images: Mapping[str, Latency]) -> Iterator[str]:
    stages = list(next(iter(images.values()))["stages"])
    yield f"| one image, 15 steps | {' | '.join(stages)} | process start to UNet | peak memory |"
    yield "|---" * (len(stages) + 3) + "|"
    for name, image in images.items():
        seconds = " | ".join(f"{value:.3f} s" for value in (*image["stages"].values(), image["to_unet"]))
        yield f"| {name} | {seconds} | {image['peak'] / 1e9:.2f} GB |"


def _batch_table(batches: Sequence[Batch]) -> Iterator[str]:
    yield "| images at once | seconds | images per second (two steps) |"
    yield "|---|---|---|"
    yield from (f"| {b['images']} | {b['seconds']:.2f} | {b['images_per_second']:.3f} |" for b in batches)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
