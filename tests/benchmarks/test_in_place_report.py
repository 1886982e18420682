"""The table has one column for each method, and the sheet two pictures in a row."""

import math
from dataclasses import replace

import numpy as np

from benchmarks.evaluate.intervals import Interval
from benchmarks.in_place_report import CELL, GAP, KINDS, Figures, Portraits, Report, Time, Truth, sheet, table

NONE = Interval(math.nan, math.nan, math.nan, 0)
HALF = Interval(0.5, 0.25, 0.75, 8)
FIGURES = Figures(
    refused={3: "no"},
    refused_faces=2,
    replaced=HALF,
    removed=HALF,
    untouched=HALF,
    untouched_by_kind=dict.fromkeys(KINDS, NONE),
    left=0.125,
    extra=4,
    outside=5,
    seam=1.25,
    seams=HALF,
    found_again=HALF,
    painted_found_again=HALF,
    same=HALF,
    visible=HALF,
    detected=6,
    matched=7,
    attempts=1.5,
    missed=[],
)
UNCHANGED = replace(FIGURES, seam=None, seams=NONE, attempts=None, left=None)
REPORT = Report(
    processor="a processor",
    bundle="demo",
    guard="strict",
    seed=0,
    truth=Truth(pictures=2, faces=9, people=20, kinds=dict.fromkeys(KINDS, 3)),
    methods={"as they are": UNCHANGED, "in place": FIGURES},
    portraits=Portraits(1, HALF, HALF, None),
    time=Time(2, 9, 1.5, [1.25, 1.75]),
)


def test_every_row_has_every_column() -> None:
    title, empty, *rows = table(REPORT)
    assert "a processor" in title
    assert "9 faces of 20 people in 2 pictures (3 small, 3 turned, 3 partly hidden)" in title
    assert not empty
    assert {row.count("|") for row in rows} == {6}
    assert not any("nan" in row or "None" in row for row in rows)


def test_figures_stand_in_their_columns() -> None:
    rows = {row.split(" | ")[0].strip("| "): row.split("|")[2:-1] for row in table(REPORT)[4:]}
    assert rows["faces left in silence"] == [" 50.0 (25.0-75.0) ", " 50.0 (25.0-75.0) ", "  ", " 0 "]
    assert rows["gradient at borders, relative to the photo's"] == ["  ", " 1.25 ", "  ", " 0.9-1.1 "]
    assert rows["time of a face, relative to a portrait"] == ["  ", " 1.50 (1.25-1.75) ", " 1 ", " 1.1 "]
    assert rows["pixels of a face that are the same"][:2] == ["  ", " 12.50 "]
    assert rows["found again at once by dlib"][3] == " 5.0 is guessing "


def test_the_sheet_shows_before_and_after() -> None:
    wide, high = np.full((300, 800, 3), 10, np.uint8), np.full((900, 300, 3), 20, np.uint8)
    page = sheet([(wide, wide + 100), (high, high + 100), (wide, wide + 50)])
    assert page.size == (4 * CELL[0] + 3 * GAP, 300 + GAP + 150)
    at = (200, 75), (606, 75), (1012, 150), (1418, 150), (200, 380), (606, 380), (200, 200), (1012, 380)
    values = [value[0] for value in map(page.getpixel, at) if isinstance(value, tuple)]
    assert values == [10, 110, 20, 120, 10, 60, 255, 255]
