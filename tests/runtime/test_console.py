import errno
import io
import json
import logging
import sys
from collections import Counter
from pathlib import Path

import pytest

from anon_runtime.console import Reporter, logging_to_stderr
from anon_runtime.errors import OutputError
from anon_runtime.folder.records import Person, Record
from anon_runtime.folder.run import Summary

log = logging.getLogger("anon_runtime.test")
FLAGS = {"min_face": "--min-face"}
OK = Record("photo.jpg", "out/photo.png", "ok", None, 7, "a man", "hat", {"Ethnic": "white", "Age": 34, "Male": 0.9})
NO_FACE = Record("b.jpg", None, "error", "b.jpg: no face; lower `min_face`", 7)


def reporter(*, as_json: bool = False) -> Reporter:
    return Reporter(as_json=as_json, quiet=True, flags=FLAGS)


def test_records_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    for record in (OK, NO_FACE):
        reporter(as_json=True).record(record, 1)
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["output"], good["reason"]) == ("out/photo.png", None)
    assert bad["reason"] == "b.jpg: no face; lower --min-face"


def test_a_description_is_shown_without_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter().description(OK)
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line] == [
        "photo:",
        "ethnicity:",
        "age:",
        "attributes:",
        "prompt:",
        "negative",
    ]
    assert "Male 0.90" in shown
    reporter(as_json=True).description(OK)
    assert "output" not in json.loads(capsys.readouterr().out)


def test_failures_are_logged_on_one_line_of_printable_characters(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        reporter().record(Record("x", None, "error", "new\nline \udcff.jpg: no face; lower `min_face`", None), 2)
        reporter().record(Record("x", None, "skipped", "b.jpg: no face; use another", None), 2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.messages == [
        "new\\nline \\udcff.jpg: no face; lower --min-face",
        "skipped b.jpg: no face; use another",
    ]


def test_progress_is_logged_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anon_runtime.console.LOG_EVERY", 0.0)
    shown = reporter()
    with caplog.at_level(logging.INFO), shown.bar(2):
        shown.evaluation(3, 29)
        shown.record(OK, 2)
        shown.record(NO_FACE, 2)
    lines = [message for message in caplog.messages if "photos" in message]
    assert [line.partition(" a second")[0].rpartition(",")[0] for line in lines] == [
        "1 of 2 photos, 0 failed",
        "2 of 2 photos, 1 failed",
    ]


def test_the_summary_counts_photos_and_seconds(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counter({"ok": 4, "done": 1, "error": 2})
    with caplog.at_level(logging.INFO):
        reporter().summary(Summary(counts, 8.0, {"describe": 1.0, "generate": 6.0}, "finished"), Path("out"))
        reporter().summary(Summary(Counter(), 8.0, {}, "finished"), Path("out"))
    assert caplog.messages == [
        "4 ok, 1 done before, 2 failed, in out",
        "8.0 s, 0.50 photos a second; of it describe 1.0 s, generate 6.0 s",
        "nothing to do, in out",
    ]


class Failing(io.StringIO):
    """Standard output on which every write fails."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str, /) -> int:
        raise self.error


def test_standard_output_that_cannot_be_written_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OutputError, match="standard output: No space left on device"):
        reporter(as_json=True).record(OK, 2)
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    with pytest.raises(BrokenPipeError):
        reporter(as_json=True).record(OK, 2)


def test_messages_show_settings_as_options_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(quiet=False, flags=FLAGS):
        log.warning("allow smaller faces with `min_face`")
    assert capsys.readouterr().err == "anon-run: allow smaller faces with --min-face\n"


def test_only_errors_are_shown_if_the_command_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(quiet=True, flags=FLAGS):
        log.warning("a note")
        log.error("an error")
    assert capsys.readouterr().err == "anon-run: an error\n"


def test_logging_is_as_it_was_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    """A program that calls the command from Python still receives the messages of this package."""
    logger = logging.getLogger("anon_runtime")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with logging_to_stderr(quiet=True, flags={}):
        log.warning("not for this handler")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    log.warning("for the caller")
    assert caplog.messages == ["for the caller"]


def test_every_person_of_a_photo_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    people = tuple(Person(i, f"person {i}", "", {"Ethnic": "white", "Age": 30 + i}, (1, 2, 3, 4)) for i in range(2))
    reporter().description(Record("x.jpg", None, "ok", None, 7, mode="in-place", people=people))
    shown = capsys.readouterr().out
    assert [shown.count(text) for text in ("x.jpg", "person 0", "person 1", "31")] == [2, 1, 1, 1]
