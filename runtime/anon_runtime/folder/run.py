"""A run over many photos: what is checked before it, its journal, and which machines do the work."""

import hashlib
import json
import platform
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from ..anonymizer import Anonymizer
from ..bundle.manifest import MANIFEST
from ..errors import BundleError, UsageError
from .discovery import Photo
from .journal import Journal
from .options import RunOptions
from .pipeline import FolderRun, Stop
from .ray_cluster import Cluster
from .ray_run import RayRun
from .records import Record
from .writer import Output


class Listener(Protocol):
    """Whoever is told how a run goes."""

    def bar(self, total: int) -> AbstractContextManager[None]:
        """A block in which so many photos are worked on."""
        ...

    def evaluation(self, done: int, total: int) -> None:
        """How far the images at hand are."""
        ...

    def record(self, record: Record) -> None:
        """What became of a photo."""
        ...


@dataclass(frozen=True)
class Summary:
    """What became of all photos.

    Attributes:
        counts: photos by status.
        seconds: of the whole run.
        stages: seconds by stage; stages work at the same time.
        ended: why the run ended: all photos were done, it was told to stop, or too many failed.
    """

    counts: Counter[str]
    seconds: float
    stages: Mapping[str, float]
    ended: Literal["finished", "stopped", "failures"]


@dataclass(frozen=True)
class Either:
    """Set if one of two is."""

    one: Stop
    other: Stop

    def is_set(self) -> bool:
        """Whether it is."""
        return self.one.is_set() or self.other.is_set()


def run_folder(
    anonymizer: Anonymizer,
    photos: Sequence[Photo],
    output: Output,
    options: RunOptions,
    listener: Listener,
    *,
    stopping: AbstractContextManager[Stop],
    connected: AbstractContextManager[Cluster | None] | None = None,
) -> Summary:
    """Anonymize photos.

    Args:
        anonymizer: reads photos and generates portraits.
        photos: to work on.
        output: where portraits go.
        options: of the run.
        listener: is told how it goes.
        stopping: gives something whose ``is_set`` says when to end, after the images that are being generated.
        connected: gives the cluster that does the work; None is this machine.

    Raises:
        AnonError: the run cannot go on.
    """
    check_run(anonymizer, output, options, elsewhere=connected is not None)
    if output.rename == "hash":  # the order of lines and files would be that of the names
        photos = secrets.SystemRandom().sample(photos, len(photos))
    counts: Counter[str] = Counter()
    enough = threading.Event()
    with ExitStack() as stack:
        cluster = stack.enter_context(connected or nullcontext())
        # The cluster is gone before the journal is closed: no actor writes into a folder that is not locked any more.
        with _journal(anonymizer, output, options) as journal, stopping as stop, stack.pop_all():
            run = _start(anonymizer, output, options, journal, Either(stop, enough), listener, cluster)
            start = time.perf_counter()
            with listener.bar(len(photos)):
                for record in run.records(photos):
                    counts[record.status] += 1
                    listener.record(record)
                    if options.max_failures is not None and counts["error"] > options.max_failures:
                        enough.set()
            seconds = time.perf_counter() - start
    stopped = stop.is_set() and counts.total() < len(photos)
    return Summary(
        counts, seconds, run.timer.seconds, "failures" if enough.is_set() else "stopped" if stopped else "finished"
    )


def check_run(anonymizer: Anonymizer, output: Output, options: RunOptions, *, elsewhere: bool = False) -> None:
    """Make sure that a run can work before it leaves anything on disk.

    Args:
        elsewhere: whether other machines do the work, whose devices are their own.

    Raises:
        AnonError: it cannot.
    """
    anonymizer.check()
    if output.rename == "hash" and options.seed == 0:
        why = "with seed 0, which everybody knows, whoever has a photo can find its portrait"
        raise UsageError("`rename` hash", why, "give a secret seed, for example with `seed_file`")
    if output.file is not None and not options.overwrite:
        output.check_free(output.file)
    if not elsewhere:
        _ = anonymizer.engines["face_detector"]  # a device that is not there is no photo's fault


def _start(
    anonymizer: Anonymizer,
    output: Output,
    options: RunOptions,
    journal: Journal | None,
    stop: Stop,
    listener: Listener,
    cluster: Cluster | None,
) -> FolderRun | RayRun:
    if cluster is None:
        return FolderRun(anonymizer, output, options, journal, stop=stop, progress=listener.evaluation)
    if journal is None:
        raise UsageError("`ray`", "a single portrait is no work for a cluster", "name a folder for the output")
    load = partial(_load_same, cluster.load, output, options, describe_run(anonymizer, output, options))
    return RayRun(replace(cluster, load=load), output, options, journal, stop=stop)


def _load_same(
    load: Callable[[], Anonymizer], output: Output, options: RunOptions, common: Mapping[str, Any]
) -> Anonymizer:
    """Open a bundle on another machine, which has to generate the same images.

    Raises:
        BundleError: it would not.
    """
    anonymizer = load()
    own = describe_run(anonymizer, output, options)
    if changed := [name for name in common if own.get(name) != common[name]]:
        why = "; ".join(f"{name} is {common[name]} here and {own.get(name)} there" for name in changed)
        raise BundleError(
            f"{anonymizer.engines.bundle.path} on {platform.node()}", why, "give all machines the same one"
        )
    return anonymizer


@contextmanager
def _journal(anonymizer: Anonymizer, output: Output, options: RunOptions) -> Iterator[Journal | None]:
    """The journal of an output folder; a single file has none."""
    if output.file is not None:
        yield None
        return
    secret = json.dumps([options.seed, anonymizer.reader.options.attributes], sort_keys=True).encode()
    common = describe_run(anonymizer, output, options)
    with Journal(output.root, common, secret, overwrite=options.overwrite) as journal:
        yield journal


def describe_run(anonymizer: Anonymizer, output: Output, options: RunOptions) -> dict[str, Any]:
    """What the images of a folder have in common, in plain JSON types, but for what may be a secret."""
    from .. import __version__

    reading = asdict(anonymizer.reader.options)
    del reading["attributes"]
    settings = reading | asdict(anonymizer.generator.options) | {"no_face": options.no_face}
    # Above one, an image does not depend on the size of its batch; of one, it differs by a last digit.
    settings["batched"] = options.batch_size > 1
    # Sums of large networks depend on both in their last digits, and they are the machine's if nobody says.
    engines = anonymizer.engines
    settings |= {"device": engines.device, "threads": engines.threads}
    manifest = hashlib.sha256((engines.bundle.path / MANIFEST).read_bytes()).hexdigest()[:16]
    naming = {"format": output.format, "quality": output.quality, "suffix": output.suffix, "rename": output.rename}
    common = {"anon-run": __version__, "engines": manifest} | settings | naming
    plain: dict[str, Any] = json.loads(json.dumps(common))
    return plain
