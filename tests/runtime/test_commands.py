"""The commands behind `anon-run`, called with an anonymizer."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anon_runtime import Anonymizer, Request
from anon_runtime.commands import describe_photos, run_request
from anon_runtime.console import Reporter
from anon_runtime.errors import AnonError, UsageError
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.writer import Output
from anon_runtime.types import Attributes
from tests.runtime.runs import QUICK, QUIET, entries, images, run

PERSON: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}


def test_the_first_ctrl_c_is_the_first_also_after_too_many_failures(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a second Ctrl-C ends the process at once."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(Reporter, "summary", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    (photos / "0.jpg").write_bytes(b"broken")
    with pytest.raises(AnonError, match="`max_failures` is 0"):
        run(quick, photos, tmp_path / "out", max_failures=0)
    assert ended == []


def test_an_interrupted_run_that_began_anew_says_how_it_goes_on(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = Reporter.record

    def interrupt(reporter: Reporter, what: Any, total: int) -> None:
        record(reporter, what, total)
        if not caplog.records:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Reporter, "record", interrupt)
    assert run(quick, photos, tmp_path / "out", overwrite=True) == 130
    assert "the same command without `overwrite` goes on" in caplog.text
    done = len(images(tmp_path / "out"))
    assert run(quick, photos, tmp_path / "out") == 0
    assert 0 < done < 14 == len(entries(tmp_path / "out"))


def test_prompt_only_removes_no_photo(
    quick: Anonymizer, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo in the current folder has the name that its portrait would have, and so may other files there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("coffee.png", "deep/other.png"):
        shutil.copy(coffee, name)
    (tmp_path / "other.png").write_text("of somebody else")
    (tmp_path / "torn.png").write_bytes(coffee.read_bytes()[:1000])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    photos = list(find_photos([Path("coffee.png"), Path("deep/other.png"), Path("torn.png")]))
    assert describe_photos(quick, photos, RunOptions(), Reporter(as_json=True, quiet=True, flags={})) == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_the_second_ctrl_c_ends_the_process_at_once(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    def interrupt(*_: object) -> None:
        for _turn in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(Reporter, "summary", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    assert run(quick, photos, tmp_path / "out") == 0
    assert ended == [128 + signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_run_in_a_thread_leaves_signals_alone(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """Python can set handlers of signals only in the main thread."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(run, quick, photos, tmp_path / "out").result() == 0


def test_attributes_are_described_without_a_photo(quick: Anonymizer, capsys: pytest.CaptureFixture[str]) -> None:
    given = quick.using(replace(QUICK, attributes=PERSON))
    assert describe_photos(given, [], RunOptions(seed=7), Reporter(as_json=True, quiet=True, flags={})) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["input"], line["attributes"], line["seed"], line["seconds"]) == (None, PERSON, 7, {})
    with pytest.raises(UsageError, match="neither a photo nor attributes"):
        describe_photos(quick, [], RunOptions(), QUIET)


def test_an_image_of_a_prompt(quick: Anonymizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, request = Output.parse(tmp_path / "a.png"), Request("a man", seed=7)
    reporter = Reporter(as_json=True, quiet=True, flags={})
    assert run_request(quick, request, output, "", RunOptions(), reporter) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["output"], line["prompt"], line["seed"]) == (str(tmp_path / "a.png"), "a man", 7)
    assert {"unet", "write", "total"} <= line["seconds"].keys()
    first = (tmp_path / "a.png").read_bytes()
    other = replace(request, seed=8)
    with pytest.raises(UsageError, match="`overwrite`"):
        run_request(quick, other, output, "", RunOptions(), reporter)
    assert (tmp_path / "a.png").read_bytes() == first
    assert run_request(quick, other, output, "", RunOptions(overwrite=True), reporter) == 0
    assert (tmp_path / "a.png").read_bytes() != first


def test_an_image_of_attributes_is_named_like_their_file(
    quick: Anonymizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = quick.using(replace(QUICK, attributes=PERSON))
    reporter = Reporter(as_json=True, quiet=True, flags={})
    assert run_request(given, None, Output.parse(tmp_path), "person.json", RunOptions(seed=7), reporter) == 0
    assert json.loads(capsys.readouterr().out)["attributes"] == PERSON
    prompt = given.reader.describe_attributes().request(7)
    assert run_request(quick, prompt, Output.parse(tmp_path / "b.png"), "", RunOptions(), QUIET) == 0
    assert (tmp_path / "person.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_empty_prompt_is_refused(quick: Anonymizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`prompt`: it is empty"):
        run_request(quick, Request(" "), Output.parse(tmp_path), "portrait", RunOptions(), QUIET)
    assert list(tmp_path.iterdir()) == []
