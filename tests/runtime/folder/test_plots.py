"""Plots as XML: their shapes have the sizes of the figures."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.folder.plots import LEFT, RIGHT, STYLES, WIDTH, Curve, Mark, plot_bars, plot_similarities
from anon_runtime.guard.alike import BINS, histogram

RIGHT_END = WIDTH - RIGHT


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter("text")]


def outlines(svg: ET.Element, style: str) -> list[str]:
    dash = "5 3" if style == "dashes" else None
    paths = [one for one in svg.iter("path") if one.get("stroke-dasharray") == dash]
    fill = re.search(r'fill="([^"]*)"', STYLES[style])
    assert fill is not None
    return [one.get("d", "") for one in paths if one.get("fill") == fill[1] and "V" in one.get("d", "")]


counts = st.lists(st.integers(0, 1000), min_size=BINS, max_size=BINS)
curves = st.lists(
    st.builds(Curve, st.text("<a&\"'", max_size=5), counts, st.sampled_from(["area", "line"])), max_size=3
)
marks = st.lists(st.builds(Mark, st.just("<&"), st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2)), max_size=2)


@given(shown=curves, marked=marks)
def test_plots_of_similarities_are_well_formed_and_stay_inside(shown: list[Curve], marked: list[Mark]) -> None:
    svg = ET.fromstring(plot_similarities("own", "a < b", "c & d", shown, marked))
    assert [(one.tag, one.text) for one in svg][:2] == [("title", "a < b"), ("desc", "c & d")]
    assert svg.get("aria-labelledby") == f"{svg[0].get('id')} {svg[1].get('id')}"
    height = float(svg.get("viewBox", "").split()[3])
    for element in svg.iter():
        x, y = float(element.get("x", 0)), float(element.get("y", 0))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= height
        assert all(float(value) <= WIDTH for value in re.findall(r"H([\d.]+)", element.get("d", "")))
        assert all(0 <= float(value) <= height for value in re.findall(r"V(-?[\d.]+)", element.get("d", "")))


@given(bars=st.lists(st.tuples(st.text("<a&", max_size=5), st.integers(0, 10**9)), max_size=8))
def test_bars_have_the_heights_of_their_numbers(bars: list[tuple[str, int]]) -> None:
    svg = ET.fromstring(plot_bars("bars", "title", "words", bars))
    heights = [float(one.get("height", "nan")) for one in svg.iter("rect")]
    highest = max((number for _, number in bars), default=0) or 1
    assert len(heights) == len(bars)
    for height, (_, number) in zip(heights, bars, strict=True):
        assert height == pytest.approx(number / highest * 92, abs=0.06)
    shown = texts(svg)
    assert shown == [text for label, number in bars for text in (f"{number:,}", label)]


def test_bins_are_drawn_as_shares_of_their_histogram() -> None:
    many, few = histogram([0.1] * 300 + [0.6] * 100), histogram([0.3, 0.3, 0.7, 0.7])
    svg = ET.fromstring(plot_similarities("p", "t", "d", [Curve("a", many, "area"), Curve("b", few, "line")]))
    (area,), (line,) = outlines(svg, "area"), outlines(svg, "line")
    floor = float(re.findall(r"V([\d.]+)", area)[-1])

    def heights(path: str) -> list[float]:
        return sorted({floor - float(value) for value in re.findall(r"V([\d.]+)", path)})

    low, middle, top = heights(area)
    assert (low, middle) == pytest.approx((0, top / 3), abs=0.1)  # 100 of 400, and 300 of 400
    assert top == 230 - 38 - 44  # below the legend of two lines, and above the axis
    assert heights(line) == pytest.approx([0, top * 2 / 3], abs=0.1)  # two halves
    assert "75.0 %" in texts(svg)


def test_a_bin_lies_at_its_similarities() -> None:
    svg = ET.fromstring(plot_similarities("p", "t", "d", [Curve("a", histogram([0.51]), "line")]))
    (line,) = outlines(svg, "line")
    steps = re.findall(r"V([\d.]+)H([\d.]+)", line)
    floor = max(float(y) for y, _ in steps)
    (right,) = [float(x) for y, x in steps if float(y) < floor]
    assert right == pytest.approx(LEFT + (0.525 + 0.2) / 1.2 * (RIGHT_END - LEFT), abs=0.1)


def test_low_similarities_are_not_cut_off() -> None:
    svg = ET.fromstring(plot_similarities("p", "t", "d", [Curve("a", histogram([-0.99, 0.5]), "line")]))
    assert {"-1.0", "0.0", "1.0"} <= set(texts(svg))
    assert len(re.findall("H", outlines(svg, "line")[0])) == BINS


def test_a_mark_stands_at_its_similarity_with_its_band() -> None:
    curve = Curve("a", histogram([0.5]), "line")
    svg = ET.fromstring(plot_similarities("p", "t", "d", [curve], [Mark("threshold", 0.4, 0.1, 1.3)]))
    (band,) = [one for one in svg.iter("rect") if one.get("fill") == "#f3d9a4"]
    place = [LEFT + (value + 0.2) / 1.2 * (RIGHT_END - LEFT) for value in (0.1, 0.4)]
    left, width = float(band.get("x", "nan")), float(band.get("width", "nan"))
    assert (left, left + width) == pytest.approx((place[0], RIGHT_END), abs=0.1)
    (line,) = [one.get("d", "") for one in svg.iter("path") if one.get("stroke") == "#222"]
    assert float(line[1:].split()[0]) == pytest.approx(place[1], abs=0.1)
    assert "threshold" in texts(svg)


def test_a_threshold_that_no_pair_reaches_is_left_out() -> None:
    curve = Curve("a", histogram([0.5]), "line")
    svg = ET.fromstring(plot_similarities("p", "t", "d", [curve], [Mark("threshold", 1.2, 0.9, 1.4)]))
    assert "threshold" not in texts(svg)


def test_empty_histograms_are_left_out() -> None:
    svg = ET.fromstring(plot_similarities("p", "t", "d", [Curve("empty", [0] * BINS, "line")]))
    assert not any("empty" in text for text in texts(svg))
