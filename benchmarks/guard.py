"""What the guard costs and what it finds.

python -m benchmarks.guard search            time to compare portraits with 1e4, 1e5 and 1e6 people
python -m benchmarks.guard cost PHOTOS       share of the guard in a run, with and without it in turns
python -m benchmarks.guard planted PHOTOS    photos of gallery people among 1,000 portraits: how many are found
python -m benchmarks.guard table REPORT.json off=OUT strict=OUT    the figures of runs that were evaluated
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.processor import processor_name
from anon_runtime.console import Reporter
from anon_runtime.faces.identity import UNIT
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.gallery import read_gallery
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import run_folder
from anon_runtime.folder.survey import Described
from anon_runtime.folder.watch import gather
from anon_runtime.folder.writer import Output
from anon_runtime.guard.inspector import Crowd, Inspector
from anon_runtime.guard.options import Mode
from anon_runtime.guard.reference import make_reference
from anon_runtime.types import Floats, Pixels, Request

from .command_line import one_line_errors

SIZES = (10_000, 100_000, 1_000_000)
BATCH = 8
PORTRAITS = 1000
PLANTED = 50
MODES: tuple[Mode, ...] = ("off", "report")
LINK = 0.8
WORDS = ("white man", "white woman", "black man", "black woman", "asian man", "asian woman", "indian man")


def random_people(count: int, seed: int) -> Floats:
    """Embeddings in random directions, float32 (count, 128)."""
    rows = np.random.default_rng(seed).standard_normal((count, 128), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rounded: Floats = (np.rint(rows * UNIT) / UNIT).astype(np.float32)
    return rounded


def measure_search(repeats: int) -> dict[str, Any]:
    """Seconds for each portrait, by the number of people, for portraits alone and in batches."""
    found: dict[str, Any] = {}
    for size in SIZES:
        start = time.perf_counter()
        reference = make_reference(random_people(size, 0))
        made = time.perf_counter() - start
        portraits, originals = random_people(BATCH, 1), reference.rows[:BATCH]
        row: dict[str, float] = {"MB": reference.rows.nbytes / 1e6, "seconds to sort the people": made}
        for batch in (1, BATCH):
            times = []
            for _ in range(repeats + 1):
                start = time.perf_counter()
                reference.compare(portraits[:batch], originals[:batch], LINK)
                times.append((time.perf_counter() - start) / batch)
            row[f"ms each, {batch} at once"] = 1e3 * statistics.median(times[1:])
        found[f"{size:,} people"] = row
    return found


def measure_cost(bundle: Path, photos: Path, repeats: int) -> dict[str, Any]:
    """Seconds for each photo of runs without the guard, and of runs in which it only measures."""
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    parts: list[float] = []
    found, quiet = list(find_photos([photos])), Reporter(as_json=False, quiet=True, flags={})
    with Anonymizer.load(bundle) as anonymizer:
        for turn in tqdm(range(repeats + 1), unit="turn"):
            for mode in MODES:
                one = anonymizer.using(Settings(guard=mode))
                with tempfile.TemporaryDirectory() as folder:
                    options = RunOptions(batch_size=BATCH, report=False)
                    output = Output.parse(Path(folder) / "out")
                    summary = run_folder(one, found, output, options, quiet, stopping=nullcontext(Event()))
                if turn:  # the first runs load the engines
                    seconds[mode].append(summary.seconds / len(found))
                    parts += [summary.stages["guard"] / len(found)] if mode == "report" else []
    medians = {mode: statistics.median(values) for mode, values in seconds.items()}
    return {
        "photos": len(found),
        "seconds each, off": medians["off"],
        "seconds each, report": medians["report"],
        "seconds each in the stage guard": statistics.median(parts),
        "share of the guard": medians["report"] / medians["off"] - 1,
    }


def cut(person: Described, size: int) -> Image.Image:
    """A face as a generator would give it back that has learned the photo by heart."""
    x, y, width, height = person.description.face or (0, 0, 1, 1)
    side, left, top = 1.5 * max(width, height), x + width / 2, y + height / 2
    box = (left - side / 2, top - side / 2, left + side / 2, top + side / 2)
    photo = Image.open(str(person.photo.path)).convert("RGB")
    return photo.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)


def worsen(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same face, brighter or darker, and compressed."""
    buffer = io.BytesIO()
    changed = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.8, 1.25)))
    changed.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return Image.open(buffer)


def measure_planted(bundle: Path, photos: Path) -> dict[str, Any]:
    """How many photos of a gallery the guard finds among portraits of a bundle, whose people are not in the gallery."""
    rng = np.random.default_rng(0)
    with Anonymizer.load(bundle, Settings(guard="strict", min_rank=0)) as anonymizer:
        inspector, files = anonymizer.inspector, list(find_photos([photos]))
        if inspector is None:
            raise SystemExit("the bundle has no face-recognition network")
        gallery = read_gallery(anonymizer.reader, files, strict=True).people
        crowd = gather([gallery], inspector)
        size = anonymizer.engines.bundle.manifest.generator.height
        people = list(gallery)
        copies = [cut(people[i], size) for i in rng.choice(len(people), PLANTED, replace=False)]
        worse = [worsen(image, rng) for image in copies]
        plain, bad = (
            Counter(judge(inspector, crowd, [np.asarray(image) for image in planted], rng))
            for planted in (copies, worse)
        )
        others = Counter(judge(inspector, crowd, paint(anonymizer, PORTRAITS - PLANTED), rng))
    return {
        "gallery": crowd.reference.people,
        "limit": crowd.limits.others.value,
        "planted": PLANTED,
        "planted, found": plain["another person"],
        "planted, made worse, found": bad["another person"],
        "others": PORTRAITS - PLANTED,
        "others, refused as another person": others["another person"],
        "others, refused for another reason": PORTRAITS - PLANTED - others["another person"] - others["None"],
    }


def paint(anonymizer: Anonymizer, count: int) -> list[Pixels]:
    """Portraits of random words."""
    words = [f"closeup portrait photo of a {WORDS[i % len(WORDS)]}, {20 + i % 50} years old" for i in range(count)]
    requests = [Request(text, "", seed) for seed, text in enumerate(words)]
    batches = [requests[i : i + BATCH] for i in range(0, count, BATCH)]
    return [np.asarray(p.image) for batch in tqdm(batches, unit="batch") for p in anonymizer.generate(batch)]


def judge(inspector: Inspector, crowd: Crowd, portraits: Sequence[Pixels], rng: np.random.Generator) -> list[str]:
    """The cause for each portrait, of an original who is not in the gallery; ``None`` if it passes."""
    looks = [inspector.look(portrait) for portrait in portraits]
    strangers = random_people(len(looks), int(rng.integers(2**31)))
    return [str(finding.cause) for finding in inspector.judge(looks, list(strangers), crowd)]


def table(evaluation: Path, runs: Sequence[str]) -> str:
    """The figures of runs that `benchmarks.evaluate` has judged, as a table in Markdown; identity is judged by dlib.

    Args:
        evaluation: the file ``report.json`` of the evaluation, with the group of held-out photos.
        runs: ``NAME=OUT``, where NAME is the name in the evaluation.
    """
    figures, rows = json.loads(evaluation.read_text()), dict[str, list[str]]()
    for name, out in (run.split("=", 1) for run in runs):
        identity = figures["reid"]["dlib ResNet"]["methods"][name]
        use = figures["utility"]["face engines"][name]
        words = json.loads((Path(out) / "report.json").read_text())["summary"]["words"]
        for title, group in (("trained on", "not held out"), ("others", "held out")):
            found = identity["groups"][group]["Re-ID@1"]
            total = figures["groups"][group]
            missing, interval = total - found["of"], f"{100 * found['low']:.1f}-{100 * found['high']:.1f}"
            row(rows, f"Re-ID@1, {title}", f"{100 * found['value']:.1f} ({interval})")
            row(rows, f"refused, {title}", f"{missing} of {total} ({100 * missing / total:.1f})")
        alone = f"{words['alone']} of {words['people']} ({100 * words['alone'] / words['people']:.0f})" if words else ""
        row(rows, "words fit one person only", alone)
        for title, part in (("all", use["all"]), ("others", use["groups"]["held out"])):
            both = " and ".join(f"{100 * part[kind]['value']:.1f}" for kind in ("inner AUC", "outer AUC"))
            row(rows, f"AUC inner and outer, {title}", both)
    names = [run.split("=", 1)[0] for run in runs]
    lines = [f"| percent | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    return "\n".join([*lines, *(f"| {title} | {' | '.join(values)} |" for title, values in rows.items())])


def row(rows: dict[str, list[str]], title: str, value: str) -> None:
    """Add a value to a row of a table."""
    rows.setdefault(title, []).append(value)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "cost", "planted", "table"))
    parser.add_argument("path", nargs="?", type=Path, help="folder of photos, or report.json of `benchmarks.evaluate`")
    parser.add_argument("runs", nargs="*", metavar="NAME=OUT", help="runs for the table")
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="runs that are measured; default: %(default)s")
    options = parser.parse_args()
    if options.what != "search" and options.path is None:
        parser.error(f"{options.what} needs a path")
    if options.what == "table":
        print(table(options.path, options.runs))
        return
    match options.what:
        case "search":
            found = measure_search(options.repeats)
        case "cost":
            found = measure_cost(options.engines, options.path, options.repeats)
        case _:
            found = measure_planted(options.engines, options.path)
    json.dump({"processor": processor_name()} | found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    with one_line_errors(__name__, extras="demo"):
        main()
