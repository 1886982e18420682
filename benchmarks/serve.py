"""The service beside the engines without it: time of a request, portraits a second, and memory over many requests.

    python -m benchmarks.serve --out OUT [--engines engines/demo] [--requests 10000] [--photos 200]

Each part starts a service in a process of its own. In all comparisons, the guard measures and refuses nothing, so that
each photo takes one attempt, in the service as in a folder run. The photos are those of `benchmarks.folder`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.processor import processor_name
from anon_runtime.errors import UsageError
from anon_runtime.folder.discovery import Photo, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.writer import encode
from anon_runtime.guard.options import Mode

from .command_line import one_line_errors
from .folder import make_photos, options_of, pipeline
from .serve_process import CONTENT_TYPE, HOST, Service, ServiceError, serving, write_form
from .serve_report import Memory, Overhead, Report, Throughput, table

LOAD = Path(__file__).with_name("serve_load.py")
STEPS = 2  # of the portraits whose times are compared: what the service adds does not depend on steps
SEED = 7  # one seed, as a run has: another one costs a tenth of a second when it is first used
WARM_UP = 2  # photos that are not counted, and requests of each client before memory is measured
ROUNDS = 3  # of the load and a folder run, in turns
USERS = 4  # of the load for each portrait of a batch, so that a full batch always waits
CLIENTS = 16  # at once, while memory is measured
EVERY = 500  # requests between two looks at the memory
FEWEST = 4  # photos, and requests; with fewer, a part would have nothing to measure


def paint(anonymizer: Anonymizer, photo: Photo, seed: int = SEED) -> bytes:
    """Return the file that ``anon-run`` writes for a photo, made in this process."""
    own = identify(photo.read(), seed).seed
    return encode(anonymizer.anonymize(str(photo.path), seed=own).image)


def measure_overhead(anonymizer: Anonymizer, photos: Sequence[Photo]) -> Overhead:
    """Compare a service that has one client with the same work in this process, in turns.

    Raises:
        ServiceError: the bytes are not the same.
    """
    own = anonymizer.using(Settings(steps=STEPS, guard=guard_of(anonymizer)))
    served, alone, again = list[float](), list[float](), list[float]()
    with serving(anonymizer, guard_of(anonymizer), "--batch-size", "1") as service:
        for photo in tqdm([*photos[:WARM_UP], *photos], desc="one client"):
            form = write_form({"seed": SEED, "steps": STEPS}, photo.read())
            start = time.perf_counter()
            answer = service.ask(form)
            middle = time.perf_counter()
            portrait = paint(own, photo)
            end = time.perf_counter()
            paint(own, photo)
            again.append(time.perf_counter() - end)
            if answer != portrait:
                why = "the service gives other bytes than the engines in this process"
                raise ServiceError(f"photo {photo.name}", why, "compare with `anon-run --batch-size 1`")
            served.append(middle - start)
            alone.append(end - middle)
    times = 1e3 * np.array([served, alone, again])[:, WARM_UP:]
    p50, p99 = np.percentile(times[0] - times[1], (50, 99))
    noise = np.percentile(times[2] - times[1], 99)
    return Overhead(len(photos), STEPS, float(np.median(times[1])), float(p50), float(p99), float(noise))


def measure_throughput(anonymizer: Anonymizer, photos: Sequence[Photo], scratch: Path) -> Throughput:
    """Compare a service under load and a folder run in turns, each time on another part of the photos."""
    own, batch = anonymizer.using(Settings(guard=guard_of(anonymizer))), options_of(anonymizer).batch_size
    users, part = USERS * batch, len(photos) // ROUNDS
    found = Throughput(part, own.generator.options.steps, batch, users, [], [], [], [])
    with serving(anonymizer, guard_of(anonymizer), "--queue", str(2 * users)) as service:
        for photo in photos[:WARM_UP]:
            service.ask(write_form({}, photo.read()))
        pipeline(own, photos[:WARM_UP], scratch / "warm-up")
        for turn in tqdm(range(ROUNDS), desc="load and folder run"):
            some = photos[turn * part : (turn + 1) * part]
            seconds, share, used = run_load(service, some, users, scratch / f"load {turn}")
            found.service.append(part / seconds)
            found.locust.append(share)
            found.locust_seconds.append(used)
            seconds, _ = pipeline(own, some, scratch / f"folder {turn}")
            found.folder.append(part / seconds)
    return found


def run_load(service: Service, photos: Sequence[Photo], users: int, scratch: Path) -> tuple[float, float, float]:
    """Let locust send photos to a service.

    Returns:
        The seconds from the first request to the last answer, locust's processor time during them as a share of them,
        and its processor time with its start and its end, in seconds.

    Raises:
        ServiceError: locust failed, or a photo got no portrait.
    """
    forms, report = scratch / "forms", scratch / "report.json"
    forms.mkdir(parents=True)
    for number, photo in enumerate(photos):
        (forms / f"{number:06}").write_bytes(write_form({}, photo.read()))
    load = ("-f", str(LOAD), "-H", f"http://{HOST}:{service.port}", "-u", str(users), "-r", str(users))
    quiet = ("--headless", "--only-summary", "--loglevel", "ERROR")
    own = ("--forms", str(forms), "--content-type", CONTENT_TYPE, "--report", str(report))
    before = seconds_of_children()
    ended = subprocess.run([sys.executable, "-m", "locust", *load, *quiet, *own], capture_output=True, text=True)
    used = seconds_of_children() - before
    if not report.exists():
        why = (ended.stderr.strip().splitlines() or [f"it ended with exit code {ended.returncode}"])[-1]
        raise ServiceError("locust", why, "check its version")
    figures = json.loads(report.read_text(encoding="utf-8"))
    if figures["statuses"] != {"200": len(photos)}:
        why = f"the numbers of answers by status are {figures['statuses']}"
        raise ServiceError("the service under load", why, "see what it says above")
    return figures["seconds"], figures["processor_seconds"] / figures["seconds"], used


def seconds_of_children() -> float:
    """Return the processor time of those processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_memory(anonymizer: Anonymizer, requests: int) -> Memory:
    """Measure the service's memory over the quickest requests, many at once and each on a connection of its own."""
    counts, every = list[int](), min(EVERY, requests // FEWEST)
    sizes: list[float] = []
    with (
        serving(anonymizer, guard_of(anonymizer), "--queue", str(2 * CLIENTS)) as service,
        ThreadPoolExecutor(CLIENTS) as clients,
        tqdm(total=requests, desc="memory") as bar,
    ):
        ask = partial(ask_quickly, service)
        list(clients.map(ask, range(WARM_UP * CLIENTS)))
        for done in [*range(0, requests, every), requests]:
            for _ in clients.map(ask, range(counts[-1] if counts else 0, done)):
                bar.update()
            counts.append(done)
            sizes.append(service.memory())
    second = [i for i, count in enumerate(counts) if count >= requests / 2]
    slope = np.polyfit([counts[i] for i in second], [sizes[i] for i in second], 1)[0]
    return Memory(counts, sizes, sizes[0], sizes[-1], max(sizes), float(slope))


def ask_quickly(service: Service, seed: int) -> None:
    """Ask for a portrait that takes the least work: of a prompt, in one step, without guidance."""
    service.ask(write_form({"prompt": "portrait of a woman", "seed": seed, "steps": 1, "guidance_scale": 1}))


def guard_of(anonymizer: Anonymizer) -> Mode:
    """Return the guard of all comparisons: it takes one attempt for each photo, as it refuses nothing."""
    return "off" if anonymizer.inspector is None else "report"


def measure(engines: Path, requests: int, count: int, scratch: Path) -> Report:
    """Measure everything.

    Args:
        engines: the folder of the bundle.
        requests: the number of requests while memory is measured.
        count: the number of photos.
        scratch: a folder for photos and portraits.

    Raises:
        UsageError: there are too few requests or photos.
        ServiceError: the service did not do what it should.
    """
    for name, value in (("requests", requests), ("photos", count)):
        if value < FEWEST:
            raise UsageError(f"{value} {name}", "they give no figures", f"use {FEWEST} or more")
    if find_spec("locust") is None:  # an import would replace the sockets and threads of this process by gevent's
        raise ModuleNotFoundError("locust runs the load", name="locust")
    make_photos(scratch / "photos", count)
    photos = list(find_photos([scratch / "photos"], recursive=True))
    with Anonymizer.load(engines) as anonymizer:
        return Report(
            processor=processor_name(),
            cores=len(os.sched_getaffinity(0)),
            threads=anonymizer.engines.threads,
            bundle=anonymizer.engines.bundle.manifest.name,
            guard=guard_of(anonymizer),
            overhead=measure_overhead(anonymizer, photos),
            throughput=measure_throughput(anonymizer, photos, scratch),
            memory=measure_memory(anonymizer, requests),
        )


def write(report: Report, out: Path) -> None:
    """Write ``serve.json`` and ``serve.md`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "serve.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    (out / "serve.md").write_text("\n".join(table(report)) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure, print the table, write it and the figures, and return them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"), help="bundle; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder for serve.json and serve.md")
    parser.add_argument("--requests", type=int, default=10_000, help="while memory is measured; default: %(default)s")
    parser.add_argument("--photos", type=int, default=200, help="number of photos; default: %(default)s")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(options.engines, options.requests, options.photos, Path(scratch))
    print("\n".join(table(report)))
    write(report, options.out)
    return report


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,demo,serve,bench"):
        main()
