"""The commands of `anon-run`, called with an anonymizer."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.runs import entries, images, run

from anon_runtime import Anonymizer
from anon_runtime.commands import describe_photos
from anon_runtime.console import Reporter
from anon_runtime.errors import AnonError
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.options import RunOptions


def test_the_first_ctrl_c_is_the_first_also_after_too_many_failures(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a second one ends the process at once."""
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

    def interrupt(reporter: Reporter, what: Any) -> None:
        record(reporter, what)
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
    """A photo in the current folder is called as its portrait would be, and so may be any other file there."""
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
