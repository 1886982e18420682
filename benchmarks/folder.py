"""Runs over a folder of photos: speed relative to a plain loop and on Ray, memory, and runs that are killed.

    python -m benchmarks.folder [--photos 2000] [--steps 15] [--engines engines/demo] [--json FILE]

The photos are rotated copies of the astronaut that ships with scikit-image; no two files have the same content.
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
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.folder.discovery import Photo, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.pipeline import FolderRun
from anon_runtime.folder.ray_cluster import LOCAL, Cluster, connect
from anon_runtime.folder.ray_run import RayRun
from anon_runtime.folder.writer import Output, encode, write_file

from .command_line import one_line_errors

COMMAND = "from anon_runtime.cli import main; main()"


@dataclass(frozen=True)
class Report:
    """Everything that is measured.

    Attributes:
        photos: number of photos.
        steps: of the sampler, in the comparisons of speed.
        batch: images that are generated at once.
        speedups: of a folder run relative to a plain loop, by repeat.
        generating: share of the wall time of a folder run in which the generator works, by repeat.
        ray_speedups: of a run on Ray relative to one process, by repeat; Ray has two actors with half the threads each.
        rate: photos per second of a folder run.
        peaks: peak memory in bytes, by number of photos.
        resumed: seconds of a run in which all photos are done already, less those of a run with one photo.
        kills: how often a run was killed and started again.
        same: whether the run that was killed gave the same bytes as an undisturbed run.
    """

    photos: int
    steps: int
    batch: int
    speedups: list[float]
    generating: list[float]
    ray_speedups: list[float]
    rate: float
    peaks: dict[int, int]
    resumed: float
    kills: int
    same: bool


class Comparison(NamedTuple):
    """Figures of folder runs beside a plain loop, by repeat; see `Report`."""

    speedups: list[float]
    generating: list[float]
    rates: list[float]


def make_photos(folder: Path, count: int) -> None:
    """Write photos of 384 x 384 pixels into folders of 100."""
    face = Image.open(str(files("skimage") / "data/astronaut.png")).convert("RGB").crop((32, 0, 416, 384))
    for i in tqdm(range(count), desc="photos"):
        path = folder / f"{i // 100:03}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        face.rotate(i % 40 - 20).save(path, quality=80 + i // 40 % 15, comment=str(i).encode())


def options_of(anonymizer: Anonymizer) -> RunOptions:
    """The options of a run that uses the batch size that was measured for the bundle."""
    return RunOptions(batch_size=anonymizer.engines.bundle.manifest.defaults.batch_size)


def plain_loop(anonymizer: Anonymizer, photos: Sequence[Photo], out: Path) -> float:
    """Seconds of a loop that anonymizes one photo after the other."""
    start = time.perf_counter()
    for photo in photos:
        seed = identify(photo.read(), 0).seed
        write_file(out / f"{photo.name.stem}.png", encode(anonymizer.anonymize(str(photo.path), seed=seed).image))
    return time.perf_counter() - start


def pipeline(anonymizer: Anonymizer, photos: Sequence[Photo], out: Path) -> tuple[float, float]:
    """Seconds of a folder run, and the share of them in which the generator works."""
    start, run = time.perf_counter(), FolderRun(anonymizer, Output(out), options_of(anonymizer))
    assert all(record.status == "ok" for record in run.records(photos))
    seconds = time.perf_counter() - start
    return seconds, run.timer.seconds["generate"] / seconds


def compare(engines: Path, photos: Sequence[Photo], out: Path, steps: int, repeats: int) -> Comparison:
    """Compare a plain loop and a folder run alternately, each time on another part of the photos."""
    anonymizer = Anonymizer.load(engines, Settings(steps=steps, guard="off"))
    pipeline(anonymizer, photos[:4], out)  # this loads the engines
    part = len(photos) // repeats
    found = Comparison([], [], [])
    for repeat in tqdm(range(repeats), desc="plain loop and pipeline"):
        some = photos[repeat * part : (repeat + 1) * part]
        plain = plain_loop(anonymizer, some, out)
        seconds, share = pipeline(anonymizer, some, out)
        found.speedups.append(plain / seconds)
        found.generating.append(share)
        found.rates.append(len(some) / seconds)
    return found


def on_ray(cluster: Cluster, options: RunOptions, photos: Sequence[Photo], out: Path) -> float:
    """Seconds of a run on a cluster, including the start of its actors."""
    start = time.perf_counter()
    with Journal(out, {}, b"", overwrite=True) as journal:
        run = RayRun(cluster, Output(out), options, journal, stop=threading.Event())
        assert all(record.status == "ok" for record in run.records(photos))
    return time.perf_counter() - start


def compare_with_ray(engines: Path, photos: Sequence[Photo], out: Path, steps: int, repeats: int) -> list[float]:
    """Speed of two actors of a local Ray relative to one process, each time on another part of the photos."""
    half, settings = max(1, (os.cpu_count() or 2) // 2), Settings(steps=steps, guard="off")
    anonymizer, part, speedups = Anonymizer.load(engines, settings), len(photos) // repeats, []
    pipeline(anonymizer, photos[:4], out / "one")
    load = partial(Anonymizer.load, engines.absolute(), settings, threads=half)
    with connect(LOCAL, load, device=anonymizer.engines.device, threads=half) as cluster:
        for repeat in tqdm(range(repeats), desc="one process and Ray"):
            some = photos[repeat * part : (repeat + 1) * part]
            alone, _ = pipeline(anonymizer, some, out / "one")
            speedups.append(alone / on_ray(replace(cluster, actors=2), options_of(anonymizer), some, out / "ray"))
    return speedups


def command(engines: Path, photos: Path, out: Path, *more: str) -> list[str]:
    """``anon-run`` over a folder, with one step per image."""
    quick = ("-r", "--quiet", "--steps", "1", "--guidance-scale", "1", "--batch-size", "8", "--guard", "off", *more)
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
    """Run a command, kill it several times at points spread over the run, and run it again until it ends."""
    rng = random.Random(0)
    for kill in range(kills):
        process = subprocess.Popen(arguments)
        while process.poll() is None and len(list(out.rglob("*.png"))) < count * (kill + 1) // (kills + 1):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.wait()
    subprocess.run(arguments, check=True)


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of all portraits of a folder, by name."""
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.png")}


def measure(engines: Path, count: int, steps: int, repeats: int, kills: int, scratch: Path) -> Report:
    """Measure everything on ``count`` photos; speed is compared on a tenth of them."""
    make_photos(scratch / "many", count)
    make_photos(scratch / "few", count // 10)
    found = list(find_photos([scratch / "few"], recursive=True))
    compared = compare(engines, found, scratch / "compared", steps, repeats)
    ray_speedups = compare_with_ray(engines, found, scratch / "on ray", steps, repeats)
    peaks = {
        count // 10: peak_of(command(engines, scratch / "few", scratch / "out few")),
        count: peak_of(command(engines, scratch / "many", scratch / "out")),
    }
    (scratch / "one").mkdir()
    (scratch / "one" / "a.jpg").write_bytes(found[0].read())
    once = command(engines, scratch / "one", scratch / "out one")
    subprocess.run(once, check=True)
    again = command(engines, scratch / "many", scratch / "out")
    resumed = median(seconds_of(again) for _ in range(3)) - median(seconds_of(once) for _ in range(3))
    run_with_kills(command(engines, scratch / "many", scratch / "killed"), scratch / "killed", count, kills)
    same = digests(scratch / "killed") == digests(scratch / "out") and len(digests(scratch / "out")) == count
    batch = options_of(Anonymizer.load(engines)).batch_size
    return Report(
        photos=count,
        steps=steps,
        batch=batch,
        speedups=compared.speedups,
        generating=compared.generating,
        ray_speedups=ray_speedups,
        rate=median(compared.rates),
        peaks=peaks,
        resumed=resumed,
        kills=kills,
        same=same,
    )


def table(report: Report) -> list[str]:
    """The lines of the table in Markdown."""
    few, many = report.peaks.values()
    counts = " and ".join(f"{count} photos" for count in report.peaks)
    loop = f"speed relative to a plain loop ({report.steps} steps, batches of {report.batch})"
    rows = (
        (loop, _spread(report.speedups), "1.5"),
        ("share of wall time in which the generator works", f"{median(report.generating):.2f}", "0.9"),
        (
            "speed of two Ray actors, including their start, relative to one process",
            _spread(report.ray_speedups),
            "",
        ),
        ("photos per second", f"{report.rate:.2f}", ""),
        (f"peak memory, {counts}", f"{few / 1e9:.2f} and {many / 1e9:.2f} GB ({many / few - 1:+.1%})", "5 %"),
        (f"finding {report.photos} photos done", f"{report.resumed:.2f} s", f"{2 + report.photos / 1000:.1f} s"),
        (
            f"{report.photos} photos, killed {report.kills} times and resumed",
            "the same bytes" if report.same else "OTHER BYTES",
            "the same bytes",
        ),
    )
    return ["| what | measured | goal |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000, help="number of photos; default: %(default)s")
    parser.add_argument("--steps", type=int, default=15, help="of the sampler, to compare speed; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of the comparisons of speed; default: %(default)s")
    parser.add_argument("--kills", type=int, default=5, help="how often a run is killed; default: %(default)s")
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"), help="bundle; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(options.engines, options.photos, options.steps, options.repeats, options.kills, Path(scratch))
    print("\n".join(table(report)))
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,demo,ray"):
        main()
