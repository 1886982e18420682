import hashlib
import json
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from anon_runtime.errors import OutputError, UsageError
from anon_runtime.folder.decisions import Decision, File, Verdict
from anon_runtime.folder.discovery import PRIVATE
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.notes import Notes

COMMON = {"steps": 15, "anon-run": "1"}
SECRET = b"[20240417, null]"
DIGEST = hashlib.sha256(b"image").hexdigest()


def ok(identity: str) -> dict[str, str]:
    return {"id": identity, "output": f"{identity}.png", "sha256": DIGEST, "status": "ok"}


def write(out: Path, *identities: str) -> None:
    with Journal(out, COMMON, SECRET) as journal:
        for identity in identities:
            (out / f"{identity}.png").write_bytes(b"image")
            journal.add(ok(identity))


def test_what_is_done_is_remembered(tmp_path: Path) -> None:
    write(tmp_path / "out", "a", "b")
    with Journal(tmp_path / "out", COMMON, SECRET) as journal:
        assert journal.has("a", Path("a.png"))
        assert journal.has("b", Path("b.png"))
        assert not journal.has("c", Path("c.png")), "this photo was never processed"
        assert not journal.has("a", Path("b.png")), "the portrait has another name"
        journal.add({"id": "c", "status": "error", "reason": "no face"})
        (tmp_path / "out" / "b.png").unlink()
        assert not journal.has("b", Path("b.png")), "the portrait was deleted"
    with Journal(tmp_path / "out", COMMON, SECRET) as journal:
        assert not journal.has("c", Path("c.png")), "a photo that failed is tried again"
    lines = (tmp_path / "out" / NAME).read_text().splitlines()
    assert json.loads(lines[0])["run"] == COMMON
    assert len(lines) == 4
    assert not (tmp_path / "out" / PRIVATE).exists()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    write(tmp_path, "a", "b")
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[:-cut])
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert not journal.has("b", Path("b.png"))
        journal.add(ok("b"))
    assert (tmp_path / NAME).read_bytes() == content
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert journal.has("b", Path("b.png"))


def test_damage_elsewhere_is_told(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    first, second, third = (tmp_path / NAME).read_text().splitlines()
    for text in (f"{first}\n{second[:-5]}\n{third}\n", f"{first}\n[]\n", f'{first}\n{{"status": "ok"}}\n'):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(UsageError, match=r"line 2.*`overwrite`"):
            Journal(tmp_path, COMMON, SECRET)
        assert (tmp_path / NAME).read_text() == text
    strange = '{"run": 5}\n', '{"run": {"anon-run": "1"}, "seed": 7}\n'
    for text in ('{"my": "diary"}\n', "my diary, of one line", *strange):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(UsageError, match="no journal of anon-run"):
            Journal(tmp_path, COMMON, SECRET)
        assert (tmp_path / NAME).read_text() == text


def test_other_settings_stop_the_run_and_overwrite_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with pytest.raises(UsageError, match=r"steps was 15 and is 20.*`overwrite`"):
        Journal(tmp_path, COMMON | {"steps": 20}, SECRET)
    with Journal(tmp_path, COMMON | {"steps": 20}, SECRET, overwrite=True) as journal:
        assert not journal.has("a", Path("a.png"))
        journal.add(ok("a"))
    with pytest.raises(UsageError, match="steps was 20 and is 15"):
        Journal(tmp_path, COMMON, SECRET)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, COMMON, SECRET):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="another run is writing"):
                Journal(tmp_path, COMMON, SECRET, overwrite=overwrite)
    Journal(tmp_path, COMMON, SECRET).close()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / PRIVATE).mkdir()
    (tmp_path / PRIVATE / ".anon-run-x").write_bytes(b"half an image")
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert list(journal.scratch.iterdir()) == []
        assert journal.scratch.stat().st_mode & 0o077 == 0
        (journal.scratch / ".anon-run-y").write_bytes(b"an actor on another machine was killed")
    assert not (tmp_path / PRIVATE).exists()


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A folder of another program may have the private name, or a link may lead to such a folder."""
    (tmp_path / PRIVATE).mkdir()
    (tmp_path / PRIVATE / "photo.jpg").write_bytes(b"precious")
    write(tmp_path, "a")
    assert (tmp_path / PRIVATE / "photo.jpg").read_bytes() == b"precious"
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / ".anon-run-x").write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PRIVATE).symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="is a link"):
        Journal(tmp_path / "out", COMMON, SECRET)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == [".anon-run-x"]


def test_a_file_that_is_no_journal_is_never_erased(tmp_path: Path) -> None:
    for text in ('{"my": "data"}', '{"my": "data"}\n', '{"ru'[:4] + "in", "x"):
        (tmp_path / NAME).write_text(text)
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="no journal of anon-run"):
                Journal(tmp_path, COMMON, SECRET, overwrite=overwrite)
        assert (tmp_path / NAME).read_text() == text


def test_the_private_folder_is_gone_before_the_next_run_may_begin(tmp_path: Path) -> None:
    journal = Journal(tmp_path, COMMON, SECRET)
    close = journal.file.file.close

    def closing() -> None:
        assert not journal.scratch.exists()
        close()

    watched: Any = SimpleNamespace(fileno=journal.file.file.fileno, close=closing)
    journal.file.file = watched
    journal.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/nowhere")):
        with pytest.raises(OutputError, match="output folder"):
            Journal(out, COMMON, SECRET)


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Writing to /dev/full fails when the buffer is flushed."""
    journal = Journal(tmp_path, COMMON, SECRET)
    journal.file.file.close()
    full: Any = os.fdopen(os.open("/dev/full", os.O_WRONLY), "ab")
    journal.file.file = full
    with pytest.raises(OutputError, match=r"No space left.*what is done is kept"):
        journal.add({"id": "a", "status": "error"})
    journal.close()


def test_the_seed_is_known_again_and_not_told(tmp_path: Path) -> None:
    write(tmp_path, "a")
    content = (tmp_path / NAME).read_text()
    for form in (
        "20240417",
        f"{20240417:x}",
        hashlib.sha256(SECRET).hexdigest(),
        hashlib.sha256(b"20240417").hexdigest(),
    ):
        assert form not in content
    with pytest.raises(UsageError, match="the seed or `attributes` are others") as caught:
        Journal(tmp_path, COMMON, SECRET + b"1")
    assert "20240417" not in str(caught.value)
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert journal.has("a", Path("a.png"))


def test_the_seed_in_a_journal_of_an_early_version_is_not_repeated(tmp_path: Path) -> None:
    header = {"run": {"steps": 15, "anon-run": "0.1.0", "seed": 20240417}}
    (tmp_path / NAME).write_text(f"{json.dumps(header)}\n{json.dumps(ok('a'))}\n")
    with pytest.raises(UsageError, match=r"anon-run was 0.1.0 and is 1;") as caught:
        Journal(tmp_path, COMMON, SECRET)
    assert "20240417" not in str(caught.value)


def test_the_last_line_about_an_output_counts(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with Journal(tmp_path, COMMON, SECRET) as journal:
        (tmp_path / "a.png").write_bytes(b"another image")
        digest = hashlib.sha256(b"another image").hexdigest()
        journal.add({"id": "b", "output": "a.png", "sha256": digest, "status": "ok"})
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert journal.has("b", Path("a.png"))
        assert not journal.has("a", Path("a.png"))


def test_what_was_changed_since_is_not_done(tmp_path: Path) -> None:
    """A run was killed after it wrote a portrait and before it wrote the line, or the user has changed the file."""
    write(tmp_path, "a")
    (tmp_path / "a.png").write_bytes(b"another image")
    with Journal(tmp_path, COMMON, SECRET) as journal:
        assert not journal.has("a", Path("a.png"))


def test_a_folder_without_an_image_takes_other_settings(tmp_path: Path) -> None:
    write(tmp_path)
    with Journal(tmp_path, COMMON | {"steps": 20}, SECRET) as journal:
        journal.add({"id": "a", "status": "error", "reason": "no face"})
    with Journal(tmp_path, COMMON, SECRET + b"1") as journal:
        journal.add(ok("a"))
    with pytest.raises(UsageError, match="the seed or `attributes` are others"):
        Journal(tmp_path, COMMON, SECRET)


def test_what_json_does_not_know_is_not_written(tmp_path: Path) -> None:
    with Journal(tmp_path, COMMON, SECRET) as journal, pytest.raises(ValueError, match="JSON"):
        journal.add({"status": "error", "score": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        Journal(tmp_path / "out", {"guided": float("inf")}, SECRET)


@pytest.mark.parametrize("ends", [True, False])
def test_a_folder_in_which_an_actor_still_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """The process that held the journal was killed; its actors end a little later, or do not end at all."""
    monkeypatch.setattr("anon_runtime.folder.journal_file.SOON", 20 if ends else 0.2)
    write(tmp_path, "a")
    (tmp_path / PRIVATE).mkdir()
    stack = ExitStack()
    stack.enter_context(Notes(tmp_path, {}, {}, {}).writing())
    (tmp_path / PRIVATE / ".anon-run-x").write_bytes(b"half an image")
    with stack:
        if ends:
            threading.Timer(0.3, stack.close).start()
            with Journal(tmp_path, COMMON, SECRET) as journal:
                assert list(journal.scratch.iterdir()) == []
        else:
            with pytest.raises(UsageError, match="another run is writing"):
                Journal(tmp_path, COMMON, SECRET)
            assert (tmp_path / PRIVATE / ".anon-run-x").exists()


def test_a_journal_is_held_until_the_last_actor_is_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path, COMMON, SECRET)
    stack = ExitStack()
    stack.enter_context(Notes(tmp_path, {}, {}, {}).writing())
    closing = threading.Thread(target=journal.close)
    closing.start()
    with stack, pytest.raises(UsageError, match="another run is writing"):
        Journal(tmp_path, COMMON, SECRET)
    closing.join(20)
    assert not closing.is_alive()
    assert not (tmp_path / PRIVATE).exists()


def test_beginning_anew_forgets_what_is_done_and_not_what_runs_wrote(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    with Journal(tmp_path, COMMON | {"steps": 20}, SECRET, overwrite=True) as journal:
        journal.add(ok("a"))
    with Journal(tmp_path, COMMON | {"steps": 20}, SECRET) as journal:
        assert journal.has("a", Path("a.png"))
        assert not journal.has("b", Path("b.png"))
        assert journal.lists(Path("b.png"))
        assert not journal.lists(Path("c.png"))
        assert not journal.is_of_another(Path("b.png"), "x", "elsewhere")
        assert journal.is_of_another(Path("a.png"), "x", "elsewhere")
        assert not journal.is_of_another(Path("a.png"), "a", "elsewhere"), "the same photo was moved"
        assert not journal.is_of_another(Path("a.png"), "x", ""), "another photo is in its place"


def test_damage_before_a_new_beginning_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with (tmp_path / NAME).open("a") as file:
        file.write("damaged\n")
    with pytest.raises(UsageError, match="line 3"):
        Journal(tmp_path, COMMON, SECRET)
    Journal(tmp_path, COMMON, SECRET, overwrite=True).close()
    Journal(tmp_path, COMMON, SECRET).close()


@pytest.mark.parametrize("output", ["/etc/passwd", "../a.png", "a/../../b.png", 5, None])
def test_outputs_outside_of_the_folder_are_no_lines_of_a_journal(tmp_path: Path, output: object) -> None:
    """The outputs of a journal are removed when their photos have no portrait any more."""
    write(tmp_path, "a")
    with (tmp_path / NAME).open("a") as file:
        file.write(json.dumps(ok("b") | {"output": output}) + "\n")
    with pytest.raises(UsageError, match="line 3"):
        Journal(tmp_path, COMMON, SECRET)


def test_a_portrait_that_is_not_accepted_does_not_count_as_done(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    for verdict in get_args(Verdict):
        notes = Notes(tmp_path, {}, {}, {})
        notes.add(ok("a"))
        for identity in ("b", "a"):  # the first decision is about a photo whose portrait had this name before
            assert notes.has("a", Path("a.png"))
            files = (File("a.png", None), File("b.png", None))
            notes.decide(Decision(verdict, identity, files, DIGEST, 0, 0, "Ada", "2026", "it is blurred"))
        assert notes.has("a", Path("a.png")) == (verdict == "accept")
        assert notes.lists(Path("a.png"))
        assert not notes.lists(Path("b.png"))


def test_notes_of_an_actor_are_kept_for_the_journal(tmp_path: Path) -> None:
    notes = Notes(tmp_path, {}, {}, {})
    (tmp_path / "a.png").write_bytes(b"image")
    failed = {"id": "b", "status": "error", "reason": "no face"}
    for entry in (ok("a"), failed):
        notes.add(entry)
    assert notes.has("a", Path("a.png"))
    assert notes.lists(Path("a.png"))
    assert notes.entries == [ok("a"), failed]
