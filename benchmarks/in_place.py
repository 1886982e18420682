"""Faces that are replaced in their photos: on made-up pictures whose faces are known, beside deface and portraits.

    python -m benchmarks.in_place --faces FACES [--pictures 40] [--engines engines/demo] [--json FILE] [--sheet FILE]

FACES is a folder of photos that show one person each, and of which none shows the same person as another one. The
figures are those of dlib's networks and of pixels, wherever they can be.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.processor import processor_name
from anon_runtime.errors import PhotoError
from anon_runtime.types import Pixels

from .command_line import one_line_errors

with one_line_errors(__name__, extras="cpu,demo,export,evaluate,test"):
    from .composites import Composite, make_composite, read_backgrounds, read_people
    from .evaluate.intervals import bootstrap
    from .evaluate.types import Vector
    from .heads import Person
    from .in_place_judge import Judge
    from .in_place_methods import Method, Output, deface, in_place
    from .in_place_report import KINDS, Portraits, Report, Time, Truth, sheet, table
    from .in_place_tally import Tally, add, kinds, mean, recognized

TIMED = 10  # pictures whose time is measured
SHOWN = 10  # pictures on the sheet


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
    first, same = recognized(embeddings, own, gallery)
    return Portraits(refused, bootstrap(first), bootstrap(same), mean(attempts))


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
