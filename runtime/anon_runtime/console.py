"""The output of a run for its user: the progress bar, the log on standard error, and results on standard output."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import click
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .errors import OutputError, in_flags
from .folder.records import Person, Record
from .folder.run import Summary

log = logging.getLogger(__name__)
LOG_EVERY = 30.0  # seconds between lines about the progress if there is no terminal


class Reporter:
    """The reporter of a run.

    It shows a progress bar on a terminal, and otherwise logs a line about the progress from time to time.

    Args:
        as_json: whether to print records as JSON on standard output.
        quiet: whether to hide the progress bar.
        flags: the options of the command line by the names of the settings, for messages.
    """

    def __init__(self, *, as_json: bool, quiet: bool, flags: Mapping[str, str]) -> None:
        self._as_json, self._quiet, self._flags, self._stdout = as_json, quiet, flags, sys.stdout
        self._bar: tqdm[Any] | None = None
        self._done = self._total = self._failed = self._refused = 0
        self._start = self._told = time.monotonic()

    @contextmanager
    def bar(self, total: int) -> Iterator[None]:
        """Show the progress of ``total`` photos during a ``with`` block."""
        hidden = self._quiet or not sys.stderr.isatty()
        self._start = self._told = time.monotonic()
        loggers = [logging.getLogger(__package__)]
        with tqdm(total=total, unit="photo", disable=hidden, dynamic_ncols=True) as bar, logging_redirect_tqdm(loggers):
            self._bar, self._done, self._total = bar, 0, total
            yield
        self._bar = None

    def survey(self, done: int) -> None:
        """Show the number of photos whose people are known."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"looked at {done}")
            self._tell(f"looked at {done} of {self._total} photos", done, self._total)

    def gallery(self, done: int, total: int) -> None:
        """Show the number of photos of the gallery that were read."""
        if done == total:
            log.info("read the %d photos of the gallery", total)
        else:
            self._tell(f"read {done} of {total} photos of the gallery", done, total)

    def evaluation(self, done: int, total: int) -> None:
        """Show the evaluations of the current images that are done; this is a progress callback."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"evaluation {done} of {total}")

    def record(self, record: Record, total: int) -> None:
        """Report the record of a photo or of a face, of which there will be ``total`` as far as is known."""
        self._done += 1
        self._total = total
        self._failed += record.status == "error"
        self._refused += record.status == "refused"
        self._log_failure(record)
        if self._as_json:
            self._print_json(record)
        if self._bar is None:
            return
        self._bar.total = total
        self._bar.update(1)
        counts = f"{self._done} of {self._total} photos, {self._failed} failed"
        self._tell(counts + f", {self._refused} refused" * bool(self._refused), self._done, self._total)

    def _tell(self, text: str, done: int, total: int) -> None:
        """Log a line about the progress if there is no bar and the last line is old."""
        now = time.monotonic()
        if (self._bar is None or self._bar.disable) and now - self._told > LOG_EVERY:
            self._told, rate = now, done / (now - self._start)
            log.info("%s, %.2f a second, %s left", text, rate, tqdm.format_interval((total - done) / rate))

    def summary(self, summary: Summary, out: Path) -> None:
        """Log the number of photos by status and the time by stage."""
        counts, seconds = summary.counts, summary.seconds
        titles = {"ok": "ok", "done": "done before", "refused": "refused", "skipped": "skipped", "error": "failed"}
        told = ", ".join(f"{counts[status]} {title}" for status, title in titles.items() if counts[status])
        log.info("%s, in %s", told or "nothing to do", out)
        if counts["ok"]:
            work = ", ".join(f"{stage} {value:.1f} s" for stage, value in summary.stages.items())
            log.info("%.1f s, %.2f photos a second; of it %s", seconds, counts["ok"] / seconds, work)

    def description(self, record: Record) -> None:
        """Print the description of a photo; as JSON, the record without ``output``."""
        self._log_failure(record)
        if self._as_json:
            self._print_json(record, leave_out="output")
        elif record.status == "ok":
            for person in record.everybody:
                _print_description(record.input, person)

    def _log_failure(self, record: Record) -> None:
        reason = _printable(in_flags(record.reason or "", self._flags))
        if record.status == "skipped":
            log.info("skipped %s", reason)
        elif record.status == "refused":
            log.warning("refused %s", reason)
        elif record.status == "error":
            log.error("%s", reason)

    def _print_json(self, record: Record, leave_out: str = "") -> None:
        line = {key: value for key, value in record.to_dict().items() if key != leave_out}
        if record.reason is not None:
            line["reason"] = in_flags(record.reason, self._flags)
        try:
            click.echo(json.dumps(line, allow_nan=False), self._stdout)  # in ASCII, as names may not be valid UTF-8
        except BrokenPipeError:
            raise  # the reader of the output has ended
        except OSError as error:
            _discard(self._stdout)
            raise OutputError(
                "standard output", error.strerror or str(error), "make room, or write to a file"
            ) from None


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python may write it once more at its end, fail, and exit with 120."""
    with suppress(OSError):  # a stream that is not a file has no number
        number, nowhere = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _print_description(photo: str | None, person: Person) -> None:
    attributes = person.attributes or {}
    scores = ((name, score) for name, score in attributes.items() if name not in ("Ethnic", "Age"))
    present = [f"{name} {float(score):.2f}" for name, score in scores if float(score) > 0.5]
    lines = {
        "photo": photo,
        "face": ", ".join(f"{value:.0f}" for value in person.face or ()),
        "ethnicity": attributes["Ethnic"],
        "age": attributes["Age"],
        "attributes": ", ".join(present),
        "prompt": person.prompt,
        "negative prompt": person.negative_prompt,
    }
    for title, text in lines.items():
        if text not in (None, ""):
            click.echo(f"{title + ':':<17}{text}")
    click.echo()


def _printable(text: str) -> str:
    """Return a text on one line of printable characters, even if a file's name contains other bytes."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


class _InFlags(logging.Formatter):
    """A formatter that shows the settings that a message names as options of the command line."""

    def __init__(self, flags: Mapping[str, str]) -> None:
        super().__init__("anon-run: %(message)s")
        self._flags = flags

    def format(self, record: logging.LogRecord) -> str:
        return in_flags(super().format(record), self._flags)


@contextmanager
def logging_to_stderr(*, quiet: bool, flags: Mapping[str, str]) -> Iterator[None]:
    """Write the messages of this package to standard error during a ``with`` block.

    Args:
        quiet: whether to write only errors.
        flags: the options of the command line by the names of the settings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_InFlags(flags))
    logger = logging.getLogger(__package__)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
