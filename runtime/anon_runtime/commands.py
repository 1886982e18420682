"""The commands of ``anon-run``, which run after its options were checked; each command returns an exit code."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .anonymizer import Anonymizer
from .console import Reporter
from .errors import AnonError, UsageError
from .folder.discovery import Photo
from .folder.options import RunOptions
from .folder.pipeline import FolderRun
from .folder.ray_cluster import Cluster
from .folder.records import Record
from .folder.run import run_folder
from .folder.writer import Output
from .types import Request

log = logging.getLogger(__name__)
FAILED = 3  # the exit code if some photos failed or were refused
INTERRUPTED = 130  # the exit code of a process that was ended by Ctrl-C


def run_photos(
    anonymizer: Anonymizer,
    photos: Sequence[Photo],
    output: Output,
    options: RunOptions,
    reporter: Reporter,
    *,
    connected: AbstractContextManager[Cluster | None] | None = None,
    gallery: Sequence[Photo] = (),
    keep: Sequence[Photo] = (),
) -> int:
    """Anonymize photos until all are done, or until Ctrl-C or a termination signal ends the run; see `run_folder`.

    Args:
        anonymizer: reads photos and generates portraits.
        photos: the photos.
        output: the place and the format of the portraits.
        options: the options of the run.
        reporter: reports the progress and the records.
        connected: a context that gives the cluster to run on; None means this machine.
        gallery: photos of people who must never appear.
        keep: photos of people whose faces are kept where others are replaced in place.

    Returns:
        The exit code.

    Raises:
        AnonError: the run cannot continue, or more than ``max_failures`` photos failed.
    """
    summary = run_folder(
        anonymizer,
        photos,
        output,
        options,
        reporter,
        stopping=_stopping(),
        connected=connected,
        gallery=gallery,
        keep=keep,
    )
    if summary.ended == "failures":
        why = f"{summary.counts['error']} photos failed, and `max_failures` is {options.max_failures}"
        raise AnonError("the run was ended", why, "look at the reasons; the same command goes on where it ended")
    if summary.ended == "stopped":
        log.warning(
            "interrupted; the same command%s goes on where it ended", " without `overwrite`" * options.overwrite
        )
        return INTERRUPTED
    return FAILED if summary.counts["error"] or summary.counts["refused"] else 0


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or a termination signal sets; a second signal ends the process at once."""
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


def describe_photos(anonymizer: Anonymizer, photos: Sequence[Photo], options: RunOptions, reporter: Reporter) -> int:
    """Print the description of each photo or, without photos, of the settings' attributes.

    Args:
        anonymizer: describes the photos.
        photos: the photos; empty to describe the settings' attributes.
        options: the options of the run.
        reporter: prints the descriptions.

    Returns:
        The exit code.

    Raises:
        AnonError: the run cannot continue.
    """
    if not photos:
        description = anonymizer.reader.describe_attributes()
        reporter.description(Record.described(description, None, options.seed))
        return 0
    failed = 0
    for record in FolderRun(anonymizer, Output(Path()), options).descriptions(photos):
        failed += record.status == "error"
        reporter.description(record)
    return FAILED if failed else 0


def run_request(
    anonymizer: Anonymizer,
    request: Request | None,
    output: Output,
    name: str,
    options: RunOptions,
    reporter: Reporter,
) -> int:
    """Generate one portrait from a prompt or, without a prompt, from the settings' attributes.

    Args:
        anonymizer: generates the portrait.
        request: the request; None to use the settings' attributes.
        output: the place and the format of the portrait.
        name: the name of the portrait if the output is a folder.
        options: the options of the run.
        reporter: reports the record.

    Returns:
        The exit code.

    Raises:
        AnonError: the portrait cannot be generated or written.
    """
    anonymizer.generator.check()
    path = output.file or output.name(Photo(Path(name), Path(name)))
    if not options.overwrite:
        output.check_free(path)
    if request is not None and not request.prompt.strip():
        raise UsageError("`prompt`", "it is empty", "describe the image")
    description = None
    if request is None:
        description = anonymizer.reader.describe_attributes()
        request = description.request(options.seed)
    with reporter.bar(1):
        portrait = anonymizer.generate([request], progress=reporter.evaluation)[0]
        portrait = portrait.of(description) if description else portrait
        start = time.perf_counter()
        output.write(path, portrait.image)
        record = Record.of(portrait, None, output.root / path, {"write": time.perf_counter() - start})
        reporter.record(record, 1)
    log.info("%s (%.1f s)", record.output, record.seconds["total"])
    return 0
