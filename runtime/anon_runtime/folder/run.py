"""A folder run from start to end: its checks, its journal, and the choice between this machine and a cluster."""

import hashlib
import json
import logging
import platform
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..anonymizer import Anonymizer
from ..bundle.manifest import MANIFEST
from ..casting import Agreed
from ..errors import BundleError, PhotoError, UsageError
from ..faces.decoding import decode_photo
from ..guard.reference import make_reference
from ..guard.summary import Ending
from ..types import Attributes
from .census import Census, Met
from .discovery import Photo
from .gallery import Gallery, read_gallery
from .identity import key
from .journal import Journal
from .options import RunOptions
from .pipeline import FolderRun, Stop
from .ray_cluster import Cluster
from .ray_run import RayRun
from .records import Record
from .report import write_report
from .writer import Output

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        counts: the number of photos by status.
        seconds: the time of the whole run.
        stages: the time by stage; since stages work at the same time, the sum may be larger than the time of the run.
        ended: why the run ended: ``finished`` (all photos were processed), ``stopped`` (it was asked to stop), or
            ``failures`` (too many photos failed).
    """

    counts: Counter[str]
    seconds: float
    stages: Mapping[str, float]
    ended: Ending


class Listener(Protocol):
    """The interface of an object that shows the progress of a run."""

    def bar(self, total: int) -> AbstractContextManager[None]:
        """Return a context in which ``total`` photos are processed."""
        ...

    def survey(self, done: int) -> None:
        """Show that the people of ``done`` photos are known, which the guard needs before the first portrait."""
        ...

    def gallery(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` photos of the gallery were read."""
        ...

    def evaluation(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` evaluations of the current batch are done."""
        ...

    def record(self, record: Record, total: int) -> None:
        """Show the record of a photo or of a face; as far as is known, there will be ``total`` of them."""
        ...

    def summary(self, summary: Summary, out: Path) -> None:
        """Show the summary of a run into a folder."""
        ...


@dataclass(frozen=True)
class Known:
    """The people who are known before a run begins.

    Attributes:
        gallery: those who must never appear; None if there are none.
        agreed: those whose faces are kept; None if there are none.
    """

    gallery: Gallery | None
    agreed: Agreed | None


@dataclass(frozen=True)
class Either:
    """A request to stop that is set if one of two others is set.

    Attributes:
        one: a request to stop.
        other: another request to stop.
    """

    one: Stop
    other: Stop

    def is_set(self) -> bool:
        """Return whether one of the two is set."""
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
    gallery: Sequence[Photo] = (),
    keep: Sequence[Photo] = (),
) -> Summary:
    """Anonymize photos and return a summary of the run.

    Args:
        anonymizer: reads photos and generates portraits.
        photos: the photos.
        output: the place and the format of the portraits.
        options: the options of the run.
        listener: shows the progress of the run.
        stopping: a context that gives a request to stop. When its ``is_set`` returns True, the run ends after the
            images that are being generated.
        connected: a context that gives the cluster to run on; None means this machine.
        gallery: photos of people who must never appear.
        keep: photos of people whose faces are kept where others are replaced in place.

    Raises:
        AnonError: the run cannot continue.
    """
    check_run(anonymizer, output, options, elsewhere=connected is not None)
    agreed = _read_agreed(anonymizer, keep, options)
    common = describe_run(anonymizer, output, options, agreed)
    if anonymizer.engines.bundle.manifest.identity is None:
        log.warning("no portrait is checked, because the bundle has no face-recognition network; build it again")
    if output.rename == "hash":  # otherwise the order of lines and files would be that of the photos' names
        photos = secrets.SystemRandom().sample(photos, len(photos))
    counts: Counter[str] = Counter()
    enough = threading.Event()
    with ExitStack() as stack:
        cluster = stack.enter_context(connected or nullcontext())
        # The cluster is shut down before the journal is closed, so that no actor writes into a folder that is not
        # locked.
        with _journal(anonymizer, output, options, common) as journal, stopping as stop, stack.pop_all():
            people = _read_gallery(anonymizer, gallery, listener)
            known = Known(people, agreed)
            run = _start(anonymizer, output, options, journal, Either(stop, enough), listener, cluster, known, common)
            start, census = time.perf_counter(), Census(anonymizer, len(photos))
            with listener.bar(len(photos)):
                for record in run.records(photos):
                    counts[record.status] += 1
                    census.add(record, run.crowd)
                    listener.record(record, len(photos) + run.more)
                    if options.max_failures is not None and counts["error"] > options.max_failures:
                        enough.set()
            seconds = time.perf_counter() - start
            stopped = stop.is_set() and counts.total() < len(photos) + run.more
            ended: Ending = "failures" if enough.is_set() else "stopped" if stopped else "finished"
            summary = Summary(counts, seconds, run.timer.seconds, ended)
            if journal is not None:
                met = Met(run.crowd, run.released, people.counts if people else None)
                journal.add({"summary": census.summarize(ended, run.timer.seconds, met).to_dict()})
                if options.report:
                    write_report(output.root)
            # A Ctrl-C at this point is still a request to stop, and ends nothing that is being written.
            listener.summary(summary, output.root)
    return summary


def check_run(anonymizer: Anonymizer, output: Output, options: RunOptions, *, elsewhere: bool = False) -> None:
    """Check that a run can start, before it writes anything to disk.

    Args:
        anonymizer: reads photos and generates portraits.
        output: the place and the format of the portraits.
        options: the options of the run.
        elsewhere: whether other machines do the work, so that the device of this machine does not matter.

    Raises:
        AnonError: the run cannot start.
    """
    anonymizer.check(in_place=options.mode == "in-place")
    if output.rename == "hash" and options.seed == 0:
        why = "with seed 0, which everybody knows, whoever has a photo can find its portrait"
        raise UsageError("`rename` hash", why, "give a secret seed, for example with `seed_file`")
    if output.file is not None and not options.overwrite:
        output.check_free(output.file)
    if not elsewhere:
        _ = anonymizer.engines["face_detector"]  # a missing device must be an error of the run and not of each photo


def _start(
    anonymizer: Anonymizer,
    output: Output,
    options: RunOptions,
    journal: Journal | None,
    stop: Stop,
    listener: Listener,
    cluster: Cluster | None,
    known: Known,
    common: Mapping[str, Any],
) -> FolderRun | RayRun:
    people = known.gallery.people if known.gallery else None
    if cluster is None:
        return FolderRun(
            anonymizer,
            output,
            options,
            journal,
            stop=stop,
            progress=listener.evaluation,
            gallery=people,
            agreed=known.agreed,
            surveyed=listener.survey,
        )
    if journal is None:
        raise UsageError("`ray`", "a single portrait is no work for a cluster", "name a folder for the output")
    load = partial(_load_same, cluster.load, output, options, common)
    return RayRun(
        replace(cluster, load=load),
        output,
        options,
        journal,
        stop=stop,
        inspector=anonymizer.inspector,
        gallery=people,
        agreed=known.agreed,
        surveyed=listener.survey,
    )


def _read_agreed(anonymizer: Anonymizer, photos: Sequence[Photo], options: RunOptions) -> Agreed | None:
    """Read the photos of people whose faces are kept.

    Raises:
        UsageError: nobody can be recognized, or a photo cannot be read or shows no face.
    """
    if not photos:
        return None
    if options.mode != "in-place":
        raise UsageError("`keep`", "it is for faces that are replaced in place", "use `mode` in-place")
    try:
        formats = anonymizer.reader.options.more_formats
        return anonymizer.agreed(decode_photo(photo.read(), more_formats=formats) for photo in photos)
    except PhotoError as error:
        raise UsageError("`keep`", f"a photo of it cannot be read ({error.why})", "remove or repair it") from None


def _read_gallery(anonymizer: Anonymizer, photos: Sequence[Photo], listener: Listener) -> Gallery | None:
    """Read the gallery.

    Raises:
        UsageError: nobody would compare portraits with it, or it cannot protect its people; see `read_gallery`.
    """
    if not photos:
        return None
    if anonymizer.inspector is None:
        raise UsageError("`gallery`", "the guard is off, so that nothing is compared with it", "use `guard` strict")
    strict = anonymizer.inspector.options.mode == "strict"
    return read_gallery(anonymizer.reader, photos, strict=strict, progress=listener.gallery)


def _load_same(
    load: Callable[[], Anonymizer], output: Output, options: RunOptions, common: Mapping[str, Any]
) -> Anonymizer:
    """Open a bundle on another machine, and check that it generates the same images there.

    Raises:
        BundleError: it would generate other images.
    """
    anonymizer = load()
    own = describe_run(anonymizer, output, options) | {"keep": common["keep"]}
    if changed := [name for name in common if own.get(name) != common[name]]:
        why = "; ".join(f"{name} is {common[name]} here and {own.get(name)} there" for name in changed)
        raise BundleError(
            f"{anonymizer.engines.bundle.path} on {platform.node()}", why, "give all machines the same one"
        )
    return anonymizer


@contextmanager
def _journal(
    anonymizer: Anonymizer, output: Output, options: RunOptions, common: Mapping[str, Any]
) -> Iterator[Journal | None]:
    """Open the journal of an output folder; a single file has no journal."""
    if output.file is not None:
        yield None
        return
    secret = make_secret(options.seed, anonymizer.reader.options.attributes)
    with Journal(output.root, common, secret, overwrite=options.overwrite) as journal:
        yield journal


def make_secret(seed: int, attributes: Attributes | None) -> bytes:
    """Return what all images of a folder depend on and its journal holds only a mark of; see `Journal`.

    Args:
        seed: the run's seed.
        attributes: the attributes that all photos have; None if they are read from each photo.
    """
    return json.dumps([seed, attributes], sort_keys=True).encode()


def describe_run(
    anonymizer: Anonymizer, output: Output, options: RunOptions, agreed: Agreed | None = None
) -> dict[str, Any]:
    """Return the values that all images of a folder depend on, in plain JSON types and without secrets.

    Args:
        anonymizer: reads photos and generates portraits.
        output: the place and the format of the portraits.
        options: the options of the run.
        agreed: the people whose faces are kept; None if there are none. Of them, a digest is returned that only the
            owner of the seed can compare.
    """
    from .. import __version__

    reading = asdict(anonymizer.reader.options)
    del reading["attributes"]
    settings = reading | asdict(anonymizer.generator.options) | {"no_face": options.no_face, "mode": options.mode}
    settings |= {"only_box": options.boxes, "keep_metadata": options.keep_metadata}
    settings["keep"] = make_reference(agreed.embeddings).digest(key(options.seed)) if agreed else None
    # An image does not depend on the batch size if it is above 1. With a batch size of 1, last digits differ.
    settings["batched"] = options.batch_size > 1
    # The last digits of sums in large networks depend on the device and the number of threads. Both depend on the
    # machine if the user has not chosen them.
    engines = anonymizer.engines
    settings |= {"device": engines.device, "threads": engines.threads}
    guard = asdict(anonymizer.inspector.options) if anonymizer.inspector else {"mode": "off"}
    settings |= {"guard": guard.pop("mode")} | guard
    manifest = hashlib.sha256((engines.bundle.path / MANIFEST).read_bytes()).hexdigest()[:16]
    naming = {"format": output.format, "quality": output.quality, "suffix": output.suffix, "rename": output.rename}
    common = {"anon-run": __version__, "engines": manifest} | settings | naming
    plain: dict[str, Any] = json.loads(json.dumps(common))
    return plain
