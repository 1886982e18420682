import json
import os
from pathlib import Path

import pytest

from anon_runtime.errors import OutputError, UsageError
from anon_runtime.journal import NAME, PRIVATE, Journal

COMMON = {"steps": 15, "seed": 0}


def write(out: Path, *identities: str) -> None:
    with Journal(out, COMMON) as journal:
        for identity in identities:
            (out / f"{identity}.png").write_bytes(b"picture")
            journal.add({"id": identity, "output": f"{identity}.png", "status": "ok"})


def test_what_is_done_is_remembered(tmp_path: Path) -> None:
    write(tmp_path / "out", "a", "b")
    with Journal(tmp_path / "out", COMMON) as journal:
        assert journal.has("a", Path("a.png")) and journal.has("b", Path("b.png"))
        assert not journal.has("c", Path("c.png")), "never seen"
        assert not journal.has("a", Path("b.png")), "another name"
        journal.add({"id": "c", "status": "error", "reason": "no face"})
        (tmp_path / "out" / "b.png").unlink()
        assert not journal.has("b", Path("b.png")), "deleted since"
    with Journal(tmp_path / "out", COMMON) as journal:
        assert not journal.has("c", Path("c.png")), "what failed is tried again"
    lines = (tmp_path / "out" / NAME).read_text().splitlines()
    assert json.loads(lines[0]) == {"run": COMMON} and len(lines) == 4
    assert not (tmp_path / "out" / PRIVATE).exists()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    write(tmp_path, "a", "b")
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[:-cut])
    with Journal(tmp_path, COMMON) as journal:
        assert not journal.has("b", Path("b.png"))
        journal.add({"id": "b", "output": "b.png", "status": "ok"})
    assert (tmp_path / NAME).read_bytes() == content or cut > 47
    with Journal(tmp_path, COMMON) as journal:
        assert journal.has("b", Path("b.png"))


def test_damage_elsewhere_is_told(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    first, second, third = (tmp_path / NAME).read_text().splitlines()
    for text in (f"{first}\n{second[:-5]}\n{third}\n", f"{first}\n[]\n", f'{first}\n{{"status": "ok"}}\n'):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(UsageError, match="line 2.*--overwrite"):
            Journal(tmp_path, COMMON)
        assert (tmp_path / NAME).read_text() == text
    (tmp_path / NAME).write_text('{"my": "diary"}\n')
    with pytest.raises(UsageError, match="no journal of anon-run"):
        Journal(tmp_path, COMMON)


def test_other_settings_stop_the_run_and_overwrite_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with pytest.raises(UsageError, match="steps was 15 and is 20.*--overwrite"):
        Journal(tmp_path, COMMON | {"steps": 20})
    with Journal(tmp_path, COMMON | {"steps": 20}, overwrite=True) as journal:
        assert not journal.has("a", Path("a.png"))
    with pytest.raises(UsageError, match="steps was 20 and is 15"):
        Journal(tmp_path, COMMON)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, COMMON):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="another run is writing"):
                Journal(tmp_path, COMMON, overwrite=overwrite)
    Journal(tmp_path, COMMON).close()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / PRIVATE).mkdir()
    (tmp_path / PRIVATE / ".anon-run-x").write_bytes(b"half a picture")
    with Journal(tmp_path, COMMON) as journal:
        assert list(journal.scratch.iterdir()) == []
        assert journal.scratch.stat().st_mode & 0o077 == 0
        (journal.scratch / ".anon-run-y").write_bytes(b"an actor on another machine was killed")
    assert not (tmp_path / PRIVATE).exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/nowhere")):
        with pytest.raises(OutputError, match="output folder"):
            Journal(out, COMMON)


def test_a_full_disk_ends_the_run_and_keeps_what_is_done() -> None:
    """/dev/full takes what is written into a buffer, and no more."""
    journal = Journal.__new__(Journal)
    journal.out = Path("out")
    import threading

    journal._turn, journal._file = threading.Lock(), os.fdopen(os.open("/dev/full", os.O_WRONLY), "ab")
    with pytest.raises(OutputError, match="No space left.*what is done is kept"):
        journal.add({"id": "a"})
