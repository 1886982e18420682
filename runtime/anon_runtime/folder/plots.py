"""Plots as SVG, to be put into a page. They need no script, no font file and no network, and can be printed in grey."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, LEFT, RIGHT, BOTTOM = 720, 52, 12, 38  # of the picture and of its margins, in its own units
STYLES = {
    "area": 'fill="#d3d7de" stroke="none"',
    "line": 'fill="#1f5fa8" fill-opacity="0.15" stroke="#1f5fa8" stroke-width="2"',
    "dashes": 'fill="none" stroke="#b4420a" stroke-width="2" stroke-dasharray="5 3"',
}


@dataclass(frozen=True)
class Curve:
    """A histogram of similarities.

    Attributes:
        label: what it shows.
        counts: the number of similarities in bins of equal width over -1..1.
        style: how it is drawn.
    """

    label: str
    counts: Sequence[int]
    style: Literal["area", "line", "dashes"]


@dataclass(frozen=True)
class Mark:
    """A vertical line with a band around it.

    Attributes:
        label: what it shows.
        value: its similarity.
        low: the lower end of the band.
        high: the upper end of the band.
    """

    label: str
    value: float
    low: float
    high: float


def plot_similarities(
    name: str, title: str, description: str, curves: Sequence[Curve], marks: Sequence[Mark] = (), height: int = 230
) -> str:
    """Return histograms of similarities, drawn over each other. Each bin is drawn as its share of the histogram.

    Args:
        name: a name that no other plot of the page has.
        title: what the plot shows; it stands below the axis as well.
        description: the same in sentences, for people who cannot see the plot.
        curves: the histograms; the first one lies at the back. Those that count nothing are left out.
        marks: vertical lines. Lines beyond -1..1 are left out.
        height: the height of the picture; its width is 720.
    """
    shown = [curve for curve in curves if sum(curve.counts)]
    marks = [mark for mark in marks if -1 <= mark.value <= 1]
    highest = max((max(curve.counts) / sum(curve.counts) for curve in shown), default=1.0)
    top = 18 * len(shown) + 14 * len(marks) + 8  # the legend and the labels of the marks come first
    axes = _Axes(_start([curve.counts for curve in shown]), highest, top, height - BOTTOM)
    parts = [axes.band(mark) for mark in marks]
    parts += [axes.outline(curve) for curve in shown]
    parts += [axes.line(mark, 18 * len(shown) + 14 * (i + 1)) for i, mark in enumerate(marks)]
    parts += [_legend(curve, 18 * i + 14) for i, curve in enumerate(shown)]
    parts += axes.frame(height - 4, title)
    return _picture(name, title, description, height, parts)


def plot_bars(name: str, title: str, description: str, bars: Sequence[tuple[str, int]], height: int = 150) -> str:
    """Return a bar for each number.

    Args:
        name: a name that no other plot of the page has.
        title: what the plot shows.
        description: the same in sentences, for people who cannot see the plot.
        bars: the label and the number of each bar.
        height: the height of the picture; its width is 720.
    """
    highest, floor, parts = max((number for _, number in bars), default=0) or 1, height - BOTTOM, list[str]()
    step = (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    for i, (label, number) in enumerate(bars):
        tall, middle = number / highest * (floor - 20), LEFT + (i + 0.5) * step
        wide = min(0.6 * step, 80)
        box = f'x="{middle - wide / 2:.1f}" y="{floor - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect {box} fill="#1f5fa8"/>')
        parts.append(_text(middle, floor - tall - 5, f"{number:,}", "middle"))
        parts.append(_text(middle, floor + 16, label, "middle"))
    parts.append(f'<path d="M{LEFT} {floor}H{WIDTH - RIGHT}" stroke="#555"/>')
    return _picture(name, title, description, height, parts)


def _start(histograms: Sequence[Sequence[int]]) -> float:
    """Return the similarity at the left end: the lowest one that occurs, rounded down to a fifth, at most -0.2."""
    lowest = [2 * next(i for i, number in enumerate(counts) if number) / len(counts) - 1 for counts in histograms]
    return min(-0.2, math.floor(min(lowest, default=0.0) * 5 + 1e-9) / 5)


@dataclass(frozen=True)
class _Axes:
    """Similarities from left to right, and shares of a histogram from bottom to top.

    Attributes:
        start: the similarity at the left end.
        highest: the share at the top.
        top: the place of the top, from the upper end of the picture.
        floor: the place of the bottom.
    """

    start: float
    highest: float
    top: float
    floor: float

    def across(self, similarity: float) -> float:
        place = (similarity - self.start) / (1 - self.start)
        return LEFT + min(max(place, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def up(self, share: float) -> float:
        return self.floor - share / self.highest * (self.floor - self.top)

    def outline(self, curve: Curve) -> str:
        total, bins = sum(curve.counts), len(curve.counts)
        path = f"M{LEFT} {self.floor}"
        for i, number in enumerate(curve.counts):
            right = 2 * (i + 1) / bins - 1
            if right > self.start + 1e-9:
                path += f"V{self.up(number / total):.1f}H{self.across(right):.1f}"
        return f'<path d="{path}V{self.floor}" {STYLES[curve.style]}/>'

    def band(self, mark: Mark) -> str:
        left, right = self.across(mark.low), self.across(mark.high)
        box = f'x="{left:.1f}" y="{self.top}" width="{right - left:.1f}" height="{self.floor - self.top}"'
        return f'<rect {box} fill="#f3d9a4" fill-opacity="0.5"/>'

    def line(self, mark: Mark, height: float) -> str:
        place = self.across(mark.value)
        side, shift = ("end", -5) if place > WIDTH / 2 else ("start", 5)
        line = f'<path d="M{place:.1f} {height - 10}V{self.floor}" stroke="#222" stroke-width="1.5"/>'
        return line + _text(place + shift, height, mark.label, side)

    def frame(self, height: float, label: str) -> list[str]:
        edge = WIDTH - RIGHT
        lines = f"M{LEFT} {self.top}V{self.floor}H{edge}"
        fifths = range(round(self.start * 5), 6)
        ticks = "".join(f"M{self.across(i / 5):.1f} {self.floor}v4" for i in fifths)
        return [
            f'<path d="{lines}{ticks}" fill="none" stroke="#555"/>',
            *(_text(self.across(i / 5), self.floor + 16, f"{i / 5:.1f}", "middle") for i in fifths),
            _text((LEFT + edge) / 2, height, label, "middle"),
            _text(LEFT - 5, self.top + 8, f"{100 * self.highest:.1f} %", "end"),
            _text(LEFT - 5, self.floor, "0 %", "end"),
        ]


def _legend(curve: Curve, height: float) -> str:
    swatch = f'<rect x="{LEFT}" y="{height - 10}" width="18" height="10" {STYLES[curve.style]}/>'
    return swatch + _text(LEFT + 25, height, f"{curve.label} ({sum(curve.counts):,})")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _picture(name: str, title: str, description: str, height: int, parts: Sequence[str]) -> str:
    lines = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description)}</desc>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines)
