"""What ``anon-run`` does once its options are understood: photos or one prompt, with signals and a summary."""

import hashlib
import json
import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..anonymizer import Anonymizer
from ..bundle.manifest import MANIFEST
from ..console import Reporter, show_description
from ..errors import AnonError, BundleError, UsageError
from ..types import Request
from .discovery import Photo
from .journal import Journal
from .pipeline import FolderRun, Record, Stop
from .ray_cluster import Cluster
from .ray_run import ScaledRun
from .writer import Output

log = logging.getLogger(__name__)
INTERRUPTED = 130  # the exit code of a process that Ctrl-C ended


def run_photos(
    anonymizer: Anonymizer, photos: Sequence[Photo], output: Output, reporter: Reporter, *,
    overwrite: bool = False, max_failures: int | None = None, log_attributes: bool = False,
    connected: AbstractContextManager[Cluster | None] | None = None,
) -> int:  # fmt: skip
    """Anonymize photos; returns the exit code.

    Args:
        connected: gives the cluster that does the work; None is this machine.

    Raises:
        AnonError: the run cannot go on, or more than ``max_failures`` photos failed.
    """
    _check(anonymizer, output, overwrite=overwrite, elsewhere=connected is not None)
    if output.rename == "hash":  # the order of lines and files would be that of the names
        photos = secrets.SystemRandom().sample(photos, len(photos))
    counts: Counter[str] = Counter()
    enough = threading.Event()
    with ExitStack() as stack:
        cluster = stack.enter_context(connected or nullcontext())
        # The cluster is gone before the journal is closed: no actor writes into a folder that is not locked any more.
        with _journal(anonymizer, output, overwrite=overwrite) as journal, _stopping() as stop, stack.pop_all():
            run = _start(anonymizer, output, journal, Either(stop, enough), log_attributes, reporter, cluster)
            start = time.perf_counter()
            with reporter.bar(len(photos)):
                for record in run.records(photos):
                    counts[record.status] += 1
                    reporter.record(record)
                    if max_failures is not None and counts["error"] > max_failures:
                        enough.set()
            reporter.summary(counts, time.perf_counter() - start, run.clock.seconds, output.root)
    if enough.is_set():
        why = f"{counts['error']} photos failed, and --max-failures is {max_failures}"
        raise AnonError("the run was ended", why, "look at the reasons; the same command goes on where it ended")
    if stop.is_set() and counts.total() < len(photos):
        log.warning("interrupted; the same command%s goes on where it ended", " without --overwrite" * overwrite)
        return INTERRUPTED
    return 3 if counts["error"] else 0


def _check(anonymizer: Anonymizer, output: Output, *, overwrite: bool, elsewhere: bool) -> None:
    """Make sure that a run can work before it leaves anything on disk.

    Raises:
        AnonError: it cannot.
    """
    settings = anonymizer.settings
    anonymizer.check(settings)
    anonymizer.check_faces(settings)
    if output.rename == "hash" and settings.seed == 0:
        why = "with seed 0, which everybody knows, whoever has a photo can find its portrait"
        fix = "give --seed-file FILE (a file that is not there is made, with a secret number in it)"
        raise UsageError("--rename hash", why, fix)
    if output.file is not None and not overwrite:
        output.check_free(output.file)
    if not elsewhere:
        anonymizer.engine("face_detector")  # a device that is not there is no photo's fault


@dataclass(frozen=True)
class Either:
    """Set if one of two events is."""

    one: threading.Event
    other: threading.Event

    def is_set(self) -> bool:
        """Whether it is."""
        return self.one.is_set() or self.other.is_set()


def _start(
    anonymizer: Anonymizer, output: Output, journal: Journal | None, stop: Stop, log_attributes: bool,
    reporter: Reporter, cluster: Cluster | None,
) -> FolderRun | ScaledRun:  # fmt: skip
    if cluster is None:
        progress = reporter.evaluation
        return FolderRun(anonymizer, output, journal, stop=stop, log_attributes=log_attributes, progress=progress)
    if journal is None:
        raise UsageError("--ray", "a single portrait is no work for a cluster", "name a folder for the output")
    load = partial(_load_same, cluster.load, output, describe_run(anonymizer, output))
    return ScaledRun(replace(cluster, load=load), output, journal, stop=stop, log_attributes=log_attributes)


def _load_same(load: Callable[[], Anonymizer], output: Output, common: Mapping[str, Any]) -> Anonymizer:
    """Open a bundle on another machine, which has to generate the same images.

    Raises:
        BundleError: it would not.
    """
    anonymizer = load()
    own = describe_run(anonymizer, output)
    if changed := [name for name in common if own.get(name) != common[name]]:
        why = "; ".join(f"{name} is {common[name]} here and {own.get(name)} there" for name in changed)
        raise BundleError(f"{anonymizer.bundle.path} on {platform.node()}", why, "give all machines the same one")
    return anonymizer


@contextmanager
def _journal(anonymizer: Anonymizer, output: Output, *, overwrite: bool) -> Iterator[Journal | None]:
    """The journal of an output folder; a single file has none."""
    if output.file is not None:
        yield None
        return
    settings = anonymizer.settings
    secret = json.dumps([settings.seed, settings.attributes], sort_keys=True).encode()
    with Journal(output.root, describe_run(anonymizer, output), secret, overwrite=overwrite) as journal:
        yield journal


def describe_run(anonymizer: Anonymizer, output: Output) -> dict[str, Any]:
    """What the images of a folder have in common, in plain JSON types, but for what may be a secret."""
    settings = asdict(anonymizer.settings)
    del settings["seed"], settings["attributes"]
    # Above one, an image does not depend on the size of its batch; of one, it differs by a last digit.
    settings["batched"] = anonymizer.batch_size > 1
    del settings["batch_size"]
    # Sums of large networks depend on both in their last digits, and they are the machine's if nobody says.
    settings |= {"device": anonymizer.device, "threads": anonymizer.threads}
    engines = _digest((anonymizer.bundle.path / MANIFEST).read_bytes())
    naming = {"format": output.format, "quality": output.quality, "suffix": output.suffix, "rename": output.rename}
    common: dict[str, Any] = json.loads(json.dumps({"anon-run": __version__, "engines": engines} | settings | naming))
    return common


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets; a second one ends the process at once."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        log.warning("ending after the images that are being generated; once more to end at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def describe_photos(anonymizer: Anonymizer, photos: Sequence[Photo], *, as_json: bool) -> int:
    """Print what is read from photos, or the settings' attributes; returns the exit code."""
    if not photos:
        d = anonymizer.describe(None)
        r = d.request
        show_description(Record(None, None, "ok", None, r.seed, r.prompt, r.negative_prompt, d.attributes), as_json)
        return 0
    failed = 0
    for record in FolderRun(anonymizer, Output(Path())).descriptions(photos):
        failed += record.status == "error"
        show_description(record, as_json)
    return 3 if failed else 0


def run_request(
    anonymizer: Anonymizer, request: Request | None, output: Output, name: str, reporter: Reporter, *,
    overwrite: bool = False,
) -> int:  # fmt: skip
    """Generate one prompt, or the settings' attributes; an error ends the run."""
    anonymizer.check(anonymizer.settings)
    path = output.file or output.name(Photo(Path(name), Path(name)))
    if not overwrite:
        output.check_free(path)
    if request is not None and not request.prompt.strip():
        raise UsageError("--prompt", "it is empty", "describe the image")
    description = None
    if request is None:
        description = anonymizer.describe(None)
        request = description.request
    with reporter.bar(1):
        portrait = anonymizer.generate([request], progress=reporter.evaluation)[0]
        portrait = portrait.of(description) if description else portrait
        start = time.perf_counter()
        output.write(path, portrait.image)
        record = Record.of(portrait, None, output.root / path, {"write": time.perf_counter() - start})
        reporter.record(record)
    log.info("%s (%.1f s)", record.output, record.seconds["total"])
    return 0
