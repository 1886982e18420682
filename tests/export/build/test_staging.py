import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anon_export.build.staging import check_place, lock, staging
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import OutputError, UsageError


def test_a_build_replaces_the_old_bundle_whole(tmp_path: Path) -> None:
    old = tmp_path / "demo"
    old.mkdir()
    (old / MANIFEST).write_text("old")
    (old / "stale").write_text("old")
    with staging(old) as folder:
        (folder / "fresh").write_text("new")
        assert (old / "stale").exists(), "the old one stays until the new one stands"
    assert [p.name for p in old.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [old]


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    with staging(tmp_path / "demo") as folder:
        left = folder.parent
    shutil.rmtree(tmp_path / "demo")
    (left / "new").mkdir(parents=True)
    (left / "new" / "half").write_text("a graph")
    with staging(tmp_path / "demo") as folder:
        assert list(folder.iterdir()) == []
        (folder / "fresh").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("other", ["demo.1", "demo.building", "demo.lock", "demo.", "dem", "*", "[a-z]*"])
def test_builds_of_other_names_are_left_alone(tmp_path: Path, other: str) -> None:
    for first, second in (("demo", other), (other, "demo")):
        with staging(tmp_path / first) as mine:
            (mine / "graph").write_text("half")
            with lock(tmp_path / second, lambda: None), staging(tmp_path / second) as theirs:
                (theirs / MANIFEST).write_text("theirs")
            assert (mine / "graph").read_text() == "half"
            (mine / "graph").rename(mine / MANIFEST)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "demo"
    precious = target if kind == "file" else target / "thesis.txt"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(UsageError, match="no bundle is there, and would be lost"):
        check_place(target)
    with pytest.raises(UsageError, match="no bundle is there"), staging(target) as folder:
        (folder / "fresh").write_text("new")
    assert precious.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_folder_and_a_damaged_bundle_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / MANIFEST).write_text("{")
    for name in ("empty", "damaged", "absent"):
        check_place(tmp_path / name)


def test_one_build_at_a_time_and_no_lock_stays(tmp_path: Path) -> None:
    """Locks come and go while others wait, and so does the folder that they lie in."""
    target = tmp_path / "not" / "there" / "demo"
    inside, most, rounds = 0, 0, 25

    def build() -> None:
        nonlocal inside, most
        for _ in range(rounds):
            with lock(target, lambda: None):
                inside += 1
                most = max(most, inside)
                os.sched_yield()
                inside -= 1

    with ThreadPoolExecutor(4) as threads:
        builds = [threads.submit(build) for _ in range(4)]
    for finished in builds:
        finished.result()
    assert most == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_lock_lies_beside_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a folder for temporary files, of which each user and each machine may have another one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with lock(tmp_path / "demo", lambda: None):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_removes_the_folders_that_it_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "demo"

    def interrupted_build() -> None:
        with lock(target, lambda: None), staging(target) as folder:
            (folder / "half").write_text("a graph")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_build()
    assert list(tmp_path.iterdir()) == []
    with lock(target, lambda: None), staging(target) as folder:
        (folder / MANIFEST).write_text(json.dumps({}))
    assert list(target.parent.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in (tmp_path / "file", tmp_path / "file" / "deep", tmp_path / "link", tmp_path / "link" / "deep"):
        for action in (lock(place / "demo", lambda: None), staging(place / "demo")):
            with pytest.raises(OutputError, match="`output`"), action:
                pass
