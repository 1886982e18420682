"""What a user sees of a run: the progress bar, the log on stderr, and results on stdout."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .folder import Record
from .pipeline import Progress

log = logging.getLogger(__name__)


def report(record: Record, *, as_json: bool) -> None:
    """Tell what became of a photo: a line in the log, and with ``as_json`` one on stdout."""
    if record.status == "ok":
        log.info("%s -> %s (%.1f s)", record.input or "words", record.output, record.seconds["total"])
    else:
        _log_failure(record)
    if as_json:
        click.echo(json.dumps(record.to_dict(), ensure_ascii=False))


def show_description(record: Record, *, as_json: bool) -> None:
    """Print what was read from a photo; with ``as_json`` the usual line, without ``output``."""
    if record.status != "ok":
        _log_failure(record)
    if as_json:
        line = record.to_dict()
        del line["output"]
        click.echo(json.dumps(line, ensure_ascii=False))
    elif record.status == "ok":
        _print_description(record)


def _print_description(record: Record) -> None:
    attributes = record.attributes or {}
    scores = ((name, score) for name, score in attributes.items() if name not in ("Ethnic", "Age"))
    present = [f"{name} {float(score):.2f}" for name, score in scores if float(score) > 0.5]
    lines = {
        "photo": record.input,
        "face": ", ".join(f"{value:.0f}" for value in record.face or ()),
        "ethnicity": attributes["Ethnic"],
        "age": attributes["Age"],
        "attributes": ", ".join(present),
        "prompt": record.prompt,
        "negative prompt": record.negative_prompt,
    }
    for title, text in lines.items():
        if text not in (None, ""):
            click.echo(f"{title + ':':<17}{text}")
    click.echo()


def _log_failure(record: Record) -> None:
    if record.status == "skipped":
        log.info("skipped %s", record.reason)
    else:
        log.error("%s", record.reason)


@contextmanager
def progress_bar(total: int, *, quiet: bool) -> Iterator["tqdm[Any]"]:
    """A bar of denoiser evaluations on a terminal; nothing in a log file."""
    hidden = quiet or not sys.stderr.isatty()
    loggers = [logging.getLogger(__package__)]
    with tqdm(total=total, unit="eval", disable=hidden, dynamic_ncols=True) as bar, logging_redirect_tqdm(loggers):
        yield bar


def advance(bar: "tqdm[Any]", done_before: int) -> Progress:
    """A progress callback that moves a bar on from where earlier batches left it."""

    def update(done: int, _total: int) -> None:
        bar.update(done_before + done - bar.n)

    return update


@contextmanager
def logging_to_stderr(*, quiet: bool) -> Iterator[None]:
    """Messages of this package go to stderr, plain."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("anon-run: %(message)s"))
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
