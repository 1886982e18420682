"""The report of `benchmarks.in_place`: what it holds, its table in Markdown, and a sheet of pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from anon_runtime.types import Box, Pixels

from .evaluate.intervals import Interval

CELL = 400, 300  # pixels; the largest size of a picture on the sheet
GAP = 6
ROW = 4  # pictures in a row of a sheet
SMALL = 0.05  # of the picture's longer side: faces whose longer side is less are small
TURNED = 20  # degrees
KINDS = "small", "turned", "partly hidden"


@dataclass(frozen=True)
class Truth:
    """The faces of all pictures.

    Attributes:
        pictures: their number.
        faces: their number.
        people: the number of people in the gallery.
        kinds: the number of faces of each kind; a face may be of several.
    """

    pictures: int
    faces: int
    people: int
    kinds: dict[str, int]


@dataclass(frozen=True)
class Missed:
    """A face that was left as it is.

    Attributes:
        picture: its number.
        person: the name of the person's photo.
        box: in pixels of the picture.
        share: its longer side, as a share of the picture's.
        angle: in degrees; clockwise is positive.
        hidden: the share of it that is hidden, 0..1.
    """

    picture: int
    person: str
    box: Box
    share: float
    angle: float
    hidden: float


@dataclass(frozen=True)
class Figures:
    """What a method did, with 95 % intervals.

    Attributes:
        refused: causes by the number of the picture, for pictures of which the method released nothing.
        refused_faces: the number of their faces, which count nowhere below.
        replaced, removed, untouched: shares of the faces; see `in_place_metrics.Outcome`.
        untouched_by_kind: the same among the faces of each of `KINDS`.
        left: mean share of the pixels of a face that are still the same.
        extra: faces that the method says it has painted where there is none.
        outside: pixels that have changed far from all faces; see `in_place_metrics.changed_outside`.
        seam: gradient along the borders of what was changed, relative to the input; see `in_place_metrics.seam`. None
            if nothing was changed.
        seams: share of the pictures in which this is within a tenth of the input's.
        found_again: share of the faces whose original dlib's network ranks first among all people.
        painted_found_again: the same among the faces that were replaced.
        same: share of the faces that dlib's network takes for the same person.
        visible: share of the faces at whose place dlib's detector sees a face.
        detected: number of faces that the bundle's detector finds in all pictures.
        matched: how many of them are in the place of a face.
        attempts: mean number of attempts of a face; None if the method has none.
        missed: faces that were left as they are.
    """

    refused: dict[int, str]
    refused_faces: int
    replaced: Interval
    removed: Interval
    untouched: Interval
    untouched_by_kind: dict[str, Interval]
    left: float | None
    extra: int
    outside: int
    seam: float | None
    seams: Interval
    found_again: Interval
    painted_found_again: Interval
    same: Interval
    visible: Interval
    detected: int
    matched: int
    attempts: float | None
    missed: list[Missed]


@dataclass(frozen=True)
class Portraits:
    """Portraits of the same people, with 95 % intervals; see `Figures`."""

    refused: int
    found_again: Interval
    same: Interval
    attempts: float | None


@dataclass(frozen=True)
class Time:
    """The time of a face in place, relative to that of a portrait.

    Attributes:
        pictures, faces: their numbers.
        ratio: of the time for a face, over all pictures, to the mean time of a portrait.
        ratios: of a face to a portrait, by picture.
    """

    pictures: int
    faces: int
    ratio: float
    ratios: list[float]


@dataclass(frozen=True)
class Report:
    """Everything that is measured.

    Attributes:
        processor: its name.
        bundle: the name of the bundle.
        guard: the mode of the guard.
        seed: of the composites.
        truth: what was put into them.
        methods: figures by the name of the method.
        portraits: of the people in the composites.
        time: with a guard that takes one attempt for each face; None if no face was painted.
    """

    processor: str
    bundle: str
    guard: str
    seed: int
    truth: Truth
    methods: dict[str, Figures]
    portraits: Portraits
    time: Time | None


def table(report: Report) -> list[str]:
    """The lines of the report in Markdown."""
    truth, names = report.truth, list(report.methods)
    of = f"{truth.faces} faces of {truth.people} people in {truth.pictures} pictures"
    kinds = ", ".join(f"{count} {kind}" for kind, count in truth.kinds.items())
    return [
        f"{report.processor}; bundle {report.bundle}, guard {report.guard}; {of} ({kinds}), seed {report.seed}",
        "",
        f"| percent, where nothing else is said | {' | '.join(names)} | portraits | goal |",
        "|---" * (len(names) + 3) + "|",
        *(f"| {' | '.join(row)} |" for row in _rows(report)),
    ]


def _rows(report: Report) -> Iterator[Sequence[str]]:
    found, portraits, guess = list(report.methods.values()), report.portraits, 100 / report.truth.people

    def row(title: str, show: Callable[[Figures], str], portraits: str = "", goal: str = "") -> Sequence[str]:
        return title, *map(show, found), portraits, goal

    yield row("pictures that were refused", lambda one: str(len(one.refused)), str(portraits.refused))
    yield row("faces in them", lambda one: str(one.refused_faces))
    yield row("faces replaced", lambda one: _percent(one.replaced))
    yield row("faces removed without a new one", lambda one: _percent(one.removed))
    yield row("faces left in silence", lambda one: _percent(one.untouched), goal="0")
    for kind in KINDS:
        yield row(f"the same of {kind} faces", partial(_untouched, kind), goal="0")
    yield row("pixels of a face that are the same", lambda one: _number(one.left, 100))
    yield row("faces painted where there is none, number", lambda one: str(one.extra))
    yield row("pixels changed far from faces, number", lambda one: str(one.outside), goal="0")
    yield row("gradient at borders, relative to the photo's", lambda one: _number(one.seam), goal="0.9-1.1")
    yield row("pictures in which it is within a tenth", lambda one: _percent(one.seams))
    again, same = _percent(portraits.found_again), _percent(portraits.same)
    yield row("found again at once by dlib", lambda one: _percent(one.found_again), again, f"{guess:.1f} is guessing")
    yield row("the same, replaced faces alone", lambda one: _percent(one.painted_found_again))
    yield row("the same person to dlib", lambda one: _percent(one.same), same)
    yield row("faces that dlib's detector sees in their places", lambda one: _percent(one.visible))
    yield row("faces that the bundle's detector finds, number", lambda one: str(one.detected))
    yield row("of these in the place of a face, number", lambda one: str(one.matched))
    yield row("attempts of a face, number", lambda one: _number(one.attempts), _number(portraits.attempts))
    yield "time of a face, relative to a portrait", *("" for _ in found[1:]), _spread(report.time), "1", "1.1"


def _untouched(kind: str, one: Figures) -> str:
    return _percent(one.untouched_by_kind[kind])


def _percent(value: Interval) -> str:
    return f"{100 * value.value:.1f} ({100 * value.low:.1f}-{100 * value.high:.1f})" if value.of else ""


def _number(value: float | None, factor: int = 1) -> str:
    return "" if value is None else f"{factor * value:.2f}"


def _spread(time: Time | None) -> str:
    return f"{time.ratio:.2f} ({min(time.ratios):.2f}-{max(time.ratios):.2f})" if time else ""


def sheet(pairs: Sequence[tuple[Pixels, Pixels]]) -> Image.Image:
    """A picture that shows each input and, on its right, the output; there are two of them in a row.

    Args:
        pairs: uint8 (height, width, 3), RGB, of one size each.
    """
    thumbnails = [_thumbnail(one) for pair in pairs for one in pair]
    rows = [thumbnails[i : i + ROW] for i in range(0, len(thumbnails), ROW)]
    height = sum(max(one.height for one in row) + GAP for row in rows) - GAP
    page, top = Image.new("RGB", (ROW * (CELL[0] + GAP) - GAP, height), "white"), 0
    for row in rows:
        for column, one in enumerate(row):
            page.paste(one, (column * (CELL[0] + GAP) + (CELL[0] - one.width) // 2, top))
        top += max(one.height for one in row) + GAP
    return page


def _thumbnail(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail(CELL, Image.Resampling.LANCZOS)
    return image
