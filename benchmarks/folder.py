"""Runs over a folder: speed beside a plain loop and on Ray, memory, restarts, and the same bytes after kills.

    python -m benchmarks.folder [--photos 2000] [--steps 15] [--engines engines/demo] [--json FILE]

The photos are turned and cut variants of the astronaut that ships with scikit-image, each with a content of its own.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import median

from PIL import Image
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.folder.discovery import Photo, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.pipeline import FolderRun
from anon_runtime.folder.ray_cluster import LOCAL, Cluster, connect
from anon_runtime.folder.ray_run import ScaledRun
from anon_runtime.folder.writer import Output, encode, write_file

COMMAND = "from anon_runtime.cli import main; main()"


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        ratios: of the plain loop's time over the pipeline's, by turn.
        generating: share of the wall time in which the generator works, by turn.
        ray: ratios of one process's time over that of Ray with two actors, which have half the threads each, by turn.
        peaks: peak memory in bytes, by number of photos.
        resumed: seconds for a run that finds so many photos done, less those of a run that finds one.
        same: whether a run that was killed and resumed gave the bytes of an undisturbed one.
    """

    photos: int
    steps: int
    batch: int
    ratios: list[float]
    generating: list[float]
    ray: list[float]
    rate: float
    peaks: dict[int, int]
    resumed: float
    kills: int
    same: bool


def make_photos(folder: Path, count: int) -> None:
    """So many photos of 384 x 384 pixels, in folders of 100."""
    face = Image.open(str(files("skimage") / "data/astronaut.png")).convert("RGB").crop((32, 0, 416, 384))
    for i in tqdm(range(count), desc="photos"):
        path = folder / f"{i // 100:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        face.rotate(i % 40 - 20).save(path, quality=80 + i // 40 % 15, comment=str(i).encode())


def plain_loop(anonymizer: Anonymizer, photos: Sequence[Photo], out: Path) -> float:
    """Seconds of what anyone would write first."""
    start = time.perf_counter()
    for photo in photos:
        seed = identify(photo.read(), 0).seed
        write_file(out / f"{photo.name.stem}.png", encode(anonymizer.anonymize(str(photo.path), seed=seed).image))
    return time.perf_counter() - start


def pipeline(anonymizer: Anonymizer, photos: Sequence[Photo], out: Path) -> tuple[float, float]:
    """Seconds of a folder run, and the share of them in which the generator works."""
    start, run = time.perf_counter(), FolderRun(anonymizer, Output(out))
    assert all(record.status == "ok" for record in run.records(photos))
    seconds = time.perf_counter() - start
    return seconds, run.clock.seconds["generate"] / seconds


def compare(engines: Path, photos: Sequence[Photo], out: Path, steps: int, turns: int) -> tuple[list[float], ...]:
    """The plain loop and the pipeline in turns over parts of the photos: ratios, shares, photos a second."""
    anonymizer = Anonymizer.load(engines, Settings(steps=steps))
    pipeline(anonymizer, photos[:4], out)  # the engines load
    part = len(photos) // turns
    ratios, shares, rates = [], [], []
    for turn in tqdm(range(turns), desc="plain loop and pipeline"):
        some = photos[turn * part : (turn + 1) * part]
        plain = plain_loop(anonymizer, some, out)
        seconds, share = pipeline(anonymizer, some, out)
        ratios.append(plain / seconds)
        shares.append(share)
        rates.append(len(some) / seconds)
    return ratios, shares, rates


def on_ray(cluster: Cluster, photos: Sequence[Photo], out: Path) -> float:
    """Seconds of a run on a cluster, with the start of its actors."""
    start = time.perf_counter()
    with Journal(out, {}, b"", overwrite=True) as journal:
        run = ScaledRun(cluster, Output(out), journal, stop=threading.Event(), log_attributes=False)
        assert all(record.status == "ok" for record in run.records(photos))
    return time.perf_counter() - start


def compare_with_ray(engines: Path, photos: Sequence[Photo], out: Path, steps: int, turns: int) -> list[float]:
    """One process and two actors of a local Ray in turns over parts of the photos: ratios of seconds."""
    half = Settings(steps=steps, threads=max(1, (os.cpu_count() or 2) // 2))
    anonymizer, part, ratios = Anonymizer.load(engines, Settings(steps=steps)), len(photos) // turns, []
    pipeline(anonymizer, photos[:4], out / "one")
    load = partial(Anonymizer.load, engines.absolute(), half)
    with connect(LOCAL, load, load()) as cluster:
        for turn in tqdm(range(turns), desc="one process and Ray"):
            some = photos[turn * part : (turn + 1) * part]
            alone, _ = pipeline(anonymizer, some, out / "one")
            ratios.append(alone / on_ray(replace(cluster, actors=2), some, out / "ray"))
    return ratios


def command(engines: Path, photos: Path, out: Path, *more: str) -> list[str]:
    """``anon-run`` over a folder, with one step an image."""
    quick = ("-r", "--quiet", "--steps", "1", "--guidance-scale", "1", "--batch-size", "8", *more)
    return [sys.executable, "-c", COMMAND, str(photos), "-o", str(out), "--engines", str(engines), *quick]


def peak_of(arguments: Sequence[str]) -> int:
    """Peak resident memory of a command in bytes."""
    process, peak = subprocess.Popen(arguments), 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) * 1024)
        except (OSError, IndexError):
            break
        time.sleep(0.05)
    assert process.wait() == 0
    return peak


def seconds_of(arguments: Sequence[str]) -> float:
    """Wall time of a command."""
    start = time.perf_counter()
    subprocess.run(arguments, check=True)
    return time.perf_counter() - start


def run_with_kills(arguments: Sequence[str], out: Path, count: int, kills: int) -> None:
    """Run a command until it ends by itself, after so many kills, spread over the run."""
    rng = random.Random(0)
    for turn in range(kills):
        process = subprocess.Popen(arguments)
        while process.poll() is None and len(list(out.rglob("*.png"))) < count * (turn + 1) // (kills + 1):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.wait()
    subprocess.run(arguments, check=True)


def digests(out: Path) -> dict[str, str]:
    """Digests of all portraits of a folder."""
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.png")}


def measure(engines: Path, count: int, steps: int, turns: int, kills: int, scratch: Path) -> Report:
    """Everything, on so many photos; the plain loop is compared on a tenth of them."""
    make_photos(scratch / "many", count)
    make_photos(scratch / "few", count // 10)
    found = list(find_photos([scratch / "few"], recursive=True))
    ratios, shares, rates = compare(engines, found, scratch / "compared", steps, turns)
    ray = compare_with_ray(engines, found, scratch / "on ray", steps, turns)
    peaks = {
        count // 10: peak_of(command(engines, scratch / "few", scratch / "out few")),
        count: peak_of(command(engines, scratch / "many", scratch / "out")),
    }
    (scratch / "one").mkdir()
    (scratch / "one" / "a.jpg").write_bytes(found[0].path.read_bytes())
    once = command(engines, scratch / "one", scratch / "out one")
    subprocess.run(once, check=True)
    again = command(engines, scratch / "many", scratch / "out")
    resumed = median(seconds_of(again) for _ in range(3)) - median(seconds_of(once) for _ in range(3))
    run_with_kills(command(engines, scratch / "many", scratch / "killed"), scratch / "killed", count, kills)
    same = digests(scratch / "killed") == digests(scratch / "out") and len(digests(scratch / "out")) == count
    batch = Anonymizer.load(engines).batch_size
    return Report(count, steps, batch, ratios, shares, ray, median(rates), peaks, resumed, kills, same)


def table(report: Report) -> list[str]:
    """As Markdown."""
    few, many = report.peaks.values()
    rows = {
        f"times as fast as a plain loop ({report.steps} steps, batches of {report.batch})":
            (f"{median(report.ratios):.2f} ({min(report.ratios):.2f}-{max(report.ratios):.2f})", "1.5"),
        "share of wall time in which the generator works": (f"{median(report.generating):.2f}", "0.9"),
        "times as fast as one process: Ray with two actors, their start included":
            (f"{median(report.ray):.2f} ({min(report.ray):.2f}-{max(report.ray):.2f})", ""),
        "photos a second": (f"{report.rate:.2f}", ""),
        "peak memory, " + " and ".join(f"{count} photos" for count in report.peaks):
            (f"{few / 1e9:.2f} and {many / 1e9:.2f} GB ({many / few - 1:+.1%})", "5 %"),
        f"finding {report.photos} photos done": (f"{report.resumed:.2f} s", f"{2 + report.photos / 1000:.1f} s"),
        f"{report.photos} photos, killed {report.kills} times and resumed":
            ("the same bytes" if report.same else "OTHER BYTES", "the same bytes"),
    }  # fmt: skip
    return ["| what | measured | goal |", "|---|---|---|"] + [
        f"| {k} | {v} | {goal} |" for k, (v, goal) in rows.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=15, help="for the comparison with a plain loop")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(options.engines, options.photos, options.steps, options.turns, options.kills, Path(scratch))
    print("\n".join(table(report)))
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    main()
