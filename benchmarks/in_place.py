"""Faces that are replaced in their photos: on made-up pictures whose faces are known, beside deface and portraits.

    python -m benchmarks.in_place --faces FACES [--pictures 40] [--engines engines/demo] [--json FILE] [--sheet FILE]

FACES is a folder of photos that show one person each, and of which none shows the same person as another one. The
figures are those of dlib's networks and of pixels, wherever they can be.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.processor import processor_name
from anon_runtime.errors import PhotoError
from anon_runtime.types import Box, Pixels

from .command_line import one_line_errors

with one_line_errors(__name__, extras="cpu,demo,export,evaluate,test"):
    from deface.centerface import CenterFace
    from deface.deface import anonymize_frame

    from . import in_place_metrics as metrics
    from .composites import (
        HIDDEN,
        Composite,
        Person,
        TrueFace,
        make_composite,
        read_backgrounds,
        read_people,
        straighten,
    )
    from .evaluate.reidentification import Interval, bootstrap, rank
    from .evaluate.types import Vector
    from .in_place_judge import SAME, Judge
    from .in_place_report import KINDS, SMALL, TURNED, Figures, Missed, Portraits, Report, Time, Truth, sheet, table

TIMED = 10  # pictures whose time is measured
SHOWN = 10  # pictures on the sheet
WITHIN = 0.1  # of the photo's own gradient


@dataclass(frozen=True)
class Output:
    """What a method made of a picture.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        painted: boxes of the faces that it has painted.
        filled: boxes of the faces that it has filled.
        attempts: the number of attempts of each painted face.
    """

    pixels: Pixels
    painted: tuple[Box, ...] = ()
    filled: tuple[Box, ...] = ()
    attempts: tuple[int, ...] = ()


Method = Callable[[Pixels, int], Output]  # arguments: the picture, a seed


def in_place(anonymizer: Anonymizer) -> Method:
    """Faces of people who do not exist, by this project."""

    def apply(picture: Pixels, seed: int) -> Output:
        done = anonymizer.replace_faces(picture, seed=seed)
        boxes = tuple(one.face for one in done.people if one.face is not None)
        return Output(np.asarray(done.image), boxes, done.filled, tuple(one.attempt + 1 for one in done.people))

    return apply


def deface() -> Method:
    """Blur, by deface's own functions with the values that its command line has without options."""
    with redirect_stdout(sys.stderr):  # it prints the name of what runs its network
        network = CenterFace()

    def apply(picture: Pixels, _seed: int) -> Output:
        frame = picture.copy()
        found, _ = network(frame, threshold=0.2)
        anonymize_frame(found, frame, 1.3, "blur", ellipse=True, draw_scores=False, replaceimg=None, mosaicsize=20)
        return Output(frame, filled=tuple((x, y, right - x, down - y) for x, y, right, down, _ in found.tolist()))

    return apply


@dataclass
class Tally:
    """What is known of a method so far: one entry for each face or picture that it released."""

    refused: dict[int, str] = field(default_factory=dict)
    refused_faces: int = 0
    outcomes: list[metrics.Outcome] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    embeddings: list[Vector] = field(default_factory=list)
    visible: list[bool] = field(default_factory=list)
    seams: list[metrics.Seam] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    kinds: list[frozenset[str]] = field(default_factory=list)
    extra: int = 0
    outside: int = 0
    detected: int = 0
    matched: int = 0

    def figures(self, gallery: Vector) -> Figures:
        """The figures, where row i of the gallery (n, 128) is the embedding of person i."""
        fates = [one.fate for one in self.outcomes]
        ranking = rank(np.array(self.embeddings).reshape(-1, gallery.shape[1]), gallery, self.people, "euclidean")
        first, same = ranking.hits(1), ranking.same > 1 - SAME
        ratios = [one.after / one.before for one in self.seams if one.pixels]
        before, after = (sum(getattr(one, name) for one in self.seams) for name in ("before", "after"))
        return Figures(
            refused=self.refused,
            refused_faces=self.refused_faces,
            replaced=_share([fate == "replaced" for fate in fates]),
            removed=_share([fate == "removed" for fate in fates]),
            untouched=_share([fate == "untouched" for fate in fates]),
            untouched_by_kind={
                kind: _share([fate == "untouched" for fate, own in zip(fates, self.kinds, strict=True) if kind in own])
                for kind in KINDS
            },
            left=_mean([one.left for one in self.outcomes]),
            extra=self.extra,
            outside=self.outside,
            seam=after / before if before else None,
            seams=_share([abs(ratio - 1) <= WITHIN for ratio in ratios]),
            found_again=bootstrap(first),
            painted_found_again=bootstrap(first[[fate == "replaced" for fate in fates]]),
            same=bootstrap(same.astype(float)),
            visible=_share(self.visible),
            detected=self.detected,
            matched=self.matched,
            attempts=_mean(self.attempts),
            missed=self.missed,
        )


def _share(values: Sequence[bool]) -> Interval:
    return bootstrap(np.array(values, float))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def add(tally: Tally, number: int, composite: Composite, output: Output, anonymizer: Anonymizer, judge: Judge) -> None:
    """Add an output to what is known of its method.

    Args:
        tally: of the method.
        number: of the composite.
        composite: the input.
        output: of the method.
        anonymizer: whose detector counts the faces of the output.
        judge: who looks at each of its faces.
    """
    faces, boxes = composite.faces, [face.box for face in composite.faces]
    outcomes = metrics.outcomes(composite, output.pixels, output.painted)
    tally.outcomes += outcomes
    tally.extra += len(output.painted) - len(metrics.match(boxes, output.painted))
    tally.outside += metrics.changed_outside(composite, output.pixels, (*output.painted, *output.filled))
    tally.seams.append(metrics.seam(composite.pixels, output.pixels))
    tally.attempts += output.attempts
    found = [face.box for face in anonymizer.reader.detect([output.pixels])[0]]
    tally.detected += len(found)
    tally.matched += len(metrics.match(boxes, found))
    for face, outcome in zip(faces, outcomes, strict=True):
        person, side = face.pose.person, max(composite.pixels.shape)
        tally.kinds.append(kinds(face, side))
        after, before = (straighten(picture, face.pose) for picture in (output.pixels, composite.pixels))
        tally.people.append(face.person)
        tally.embeddings.append(judge.recognize(after, before, person.pixels))
        tally.visible.append(judge.sees(after, person.box))
        if outcome.fate == "untouched":
            tally.missed.append(
                Missed(number, person.name, face.box, max(face.box[2:]) / side, face.angle, face.hidden)
            )


def measure_portraits(
    anonymizer: Anonymizer, people: Sequence[Person], shown: Sequence[int], gallery: Vector, judge: Judge
) -> Portraits:
    """Portraits of those people who are in the composites, by the same bundle."""
    embeddings, own, attempts, refused = list[Vector](), list[int](), list[int](), 0
    for index in tqdm(shown, desc="portraits", unit="person"):
        person = people[index]
        try:
            portrait = anonymizer.anonymize(person.pixels, seed=index)
        except PhotoError:
            refused += 1
            continue
        embeddings.append(judge.recognize(np.asarray(portrait.image), person.pixels))
        own.append(index)
        attempts.append(portrait.attempt + 1)
    ranking = rank(np.array(embeddings).reshape(-1, gallery.shape[1]), gallery, own, "euclidean")
    same = (ranking.same > 1 - SAME).astype(float)
    return Portraits(refused, bootstrap(ranking.hits(1)), bootstrap(same), _mean(attempts))


def measure_time(anonymizer: Anonymizer, composites: Sequence[Composite]) -> Time | None:
    """Compare the time of replaced faces with that of a portrait of the largest one's person, in turns.

    The guard measures and refuses nothing, so that each face takes one attempt.

    Returns:
        The comparison; None if no face was painted.
    """
    own = anonymizer.using(Settings(guard="off" if anonymizer.inspector is None else "report"))
    whole, faces, portraits = list[float](), list[int](), list[float]()
    for turn, composite in enumerate(tqdm([composites[0], *composites], desc="time", unit="picture")):
        start = time.perf_counter()
        try:
            done = own.replace_faces(composite.pixels)
        except PhotoError:
            continue
        middle = time.perf_counter()
        own.anonymize(composite.faces[-1].pose.person.pixels)
        end = time.perf_counter()
        if turn and done.people:  # the first turn loads the engines
            whole.append(middle - start)
            faces.append(len(done.people))
            portraits.append(end - middle)
    if not faces:
        return None
    usual = float(np.mean(portraits))
    ratios = [seconds / count / usual for seconds, count in zip(whole, faces, strict=True)]
    return Time(len(faces), sum(faces), sum(whole) / sum(faces) / usual, ratios)


def describe(composites: Sequence[Composite], people: int) -> Truth:
    """What was put into the composites, among so many people."""
    found = [kinds(face, max(composite.pixels.shape)) for composite in composites for face in composite.faces]
    return Truth(len(composites), len(found), people, {kind: sum(kind in own for own in found) for kind in KINDS})


def kinds(face: TrueFace, side: int) -> frozenset[str]:
    """Which of `KINDS` a face is, in a picture whose longer side is so long."""
    small, turned, hidden = max(face.box[2:]) < SMALL * side, abs(face.angle) > TURNED, face.hidden >= HIDDEN[0]
    return frozenset(kind for kind, is_so in zip(KINDS, (small, turned, hidden), strict=True) if is_so)


def run(
    method: Method, composites: Sequence[Composite], tally: Tally, name: str
) -> Iterator[tuple[int, Composite, Output]]:
    """Yield the outputs of a method, and note for which pictures there is none."""
    for number, composite in enumerate(tqdm(composites, desc=name, unit="picture")):
        try:
            yield number, composite, method(composite.pixels, number)
        except PhotoError as error:
            tally.refused[number] = error.why
            tally.refused_faces += len(composite.faces)


def measure(faces: Path, engines: Path, count: int, seed: int) -> tuple[Report, list[tuple[Pixels, Pixels]]]:
    """Measure everything.

    Args:
        faces: the folder of photos of one person each.
        engines: the folder of the bundle.
        count: the number of composites.
        seed: of the composites.

    Returns:
        The report, and the first pictures, before and after their faces were replaced in place.

    Raises:
        UsageError: there are no such photos.
        MissingError: a package is not installed.
    """
    judge, pairs = Judge(), list[tuple[Pixels, Pixels]]()
    with Anonymizer.load(engines) as anonymizer:
        people = read_people(faces, lambda photo: anonymizer.reader.detect([photo])[0])
        backgrounds, numbers = read_backgrounds(), tqdm(range(count), desc="composites")
        composites = [make_composite(people, backgrounds, seed, number) for number in numbers]
        gallery = np.stack([judge.recognize(person.pixels) for person in tqdm(people, desc="gallery", unit="person")])
        tallies: defaultdict[str, Tally] = defaultdict(Tally)
        methods: dict[str, Method] = {
            "as they are": lambda picture, _: Output(picture),
            "deface": deface(),
            "in place": in_place(anonymizer),
        }
        for name, method in methods.items():
            for number, composite, output in run(method, composites, tallies[name], name):
                add(tallies[name], number, composite, output, anonymizer, judge)
                if name == "in place" and len(pairs) < SHOWN:
                    pairs.append((composite.pixels, output.pixels))
        shown = sorted({face.person for composite in composites for face in composite.faces})
        report = Report(
            processor=processor_name(),
            bundle=anonymizer.engines.bundle.manifest.name,
            guard=anonymizer.guard.mode,
            seed=seed,
            truth=describe(composites, len(people)),
            methods={name: tally.figures(gallery) for name, tally in tallies.items()},
            portraits=measure_portraits(anonymizer, people, shown, gallery, judge),
            time=measure_time(anonymizer, composites[:TIMED]),
        )
    return report, pairs


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure, print the table, write the figures and the sheet, and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of photos of one person each")
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"), help="bundle; default: %(default)s")
    parser.add_argument("--pictures", type=int, default=40, help="number of composites; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the composites; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="where to draw pictures before and after, as JPEG")
    options = parser.parse_args(arguments)
    report, pairs = measure(options.faces, options.engines, options.pictures, options.seed)
    print("\n".join(table(report)))
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if options.sheet and pairs:
        sheet(pairs).save(options.sheet, "JPEG", quality=85, optimize=True)
    return report


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,demo,export,evaluate,test"):
        main()
