"""Reviews of folders: what is shown, what is decided, and what later runs make of it."""

import errno
import json
import os
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anon_runtime import Anonymizer
from anon_runtime.errors import OutputError, UsageError
from anon_runtime.folder.decisions import File, Verdict
from anon_runtime.folder.discovery import PRIVATE
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal_file import NAME, InUseError, JournalFile
from anon_runtime.folder.report import read_report
from anon_runtime.folder.review import Released, Review, StaleError
from anon_runtime.guard.trial import Attempt
from tests.runtime.folder.journals import (
    HEADER,
    SUMMARY,
    failed,
    painted,
    pseudonym,
    refused,
    write_journal,
)
from tests.runtime.runs import SECRET, decide_about, entries, images, run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with four portraits, of which one has no similarity, and a refused photo."""
    folder = tmp_path / "out"
    lines = [painted(folder, number, similarity=number / 10) for number in range(3)]
    return write_journal(folder, [HEADER, *lines, painted(folder, 3, similarity=None), refused(4), failed(5)], SUMMARY)


def decide(review: Review, number: int, verdict: Verdict, reason: str = "it is blurred") -> None:
    (known,) = [one for state in review.counts() for one in review.page(state, 0, 9) if one.id == pseudonym(number)]
    review.decide(known.id, known.sha256, verdict, by="Ada", reason=reason, state=known.state)


def shown(review: Review, state: Any = "open", start: int = 0, count: int = 99) -> list[int]:
    numbers = {pseudonym(number): number for number in range(20)}
    return [numbers[one.id] for one in review.page(state, start, count)]


def test_what_needs_a_look_comes_first(out: Path) -> None:
    review = Review(out)
    assert shown(review) == [3, 2, 1, 0], "one that was not measured, and then the most similar ones"
    assert shown(review, start=1, count=2) == [2, 1]
    assert review.counts() == {"open": 4, "accept": 0, "repaint": 0, "refuse": 0}
    assert review.limit == SUMMARY.to_dict()["own"]["value"]
    assert review.image(pseudonym(2)) == (File(f"{pseudonym(2)}.png", None), b"portrait 2")
    one = review.page("open", 1, 1)[0].to_dict()
    assert one["files"] == [{"output": f"{pseudonym(2)}.png", "input": None, "face": None}]
    assert (one["state"], one["similarity"], one["attempt"], one["decision"]) == ("open", 0.2, 2, None)
    assert json.loads(json.dumps(one)) == one | {"files": one["files"]}


def test_decisions_go_into_the_journal_and_remove_what_is_not_accepted(out: Path) -> None:
    review, before = Review(out), (out / NAME).read_bytes()
    decide(review, 0, "accept", "")
    decide(review, 1, "refuse", "it looks like Bob")
    decide(review, 2, "repaint")
    assert (out / NAME).read_bytes().startswith(before)
    lines = [json.loads(line)["decision"] for line in (out / NAME).read_bytes()[len(before) :].splitlines()]
    told = [(line["verdict"], line["id"], line["by"], line["reason"]) for line in lines]
    assert told == [
        ("accept", pseudonym(0), "Ada", ""),
        ("refuse", pseudonym(1), "Ada", "it looks like Bob"),
        ("repaint", pseudonym(2), "Ada", "it is blurred"),
    ]
    assert all(line["at"].startswith("20") and line["at"].endswith("+00:00") for line in lines)
    assert sorted(images(out)) == sorted(f"{pseudonym(number)}.png" for number in (0, 3))
    for one in (review, Review(out)):
        assert one.counts() == {"open": 1, "accept": 1, "repaint": 1, "refuse": 1}
        assert one.image(pseudonym(1)) is None
    assert not (out / PRIVATE).exists()
    report = read_report(out)
    assert report.decisions == {"accept": 1, "repaint": 1, "refuse": 1}
    assert report.counts == {"ok": 2, "refused": 3, "skipped": 0, "error": 1}
    assert report.refusals == {"a person": 1, "another portrait": 1, "own original": 1}
    assert (report.withdrawn, report.later) == (2, 0)
    assert "Bob" not in json.dumps(report.to_dict())
    assert "Ada" not in json.dumps(report.to_dict())


def test_a_decision_can_be_changed(out: Path) -> None:
    review = Review(out)
    decide(review, 1, "accept")
    decide(review, 1, "refuse")
    assert review.counts()["refuse"] == 1
    assert not (out / f"{pseudonym(1)}.png").exists()
    decide(review, 1, "repaint")
    assert review.counts()["repaint"] == 1
    with pytest.raises(StaleError, match="missing or was changed"):
        decide(review, 1, "accept")
    assert read_report(out).decisions == {"accept": 0, "repaint": 1, "refuse": 0}


def test_what_somebody_else_has_decided_is_seen_first(out: Path) -> None:
    first, second = Review(out), Review(out)
    seen = second.page("open", 1, 1)[0]
    decide(first, 2, "refuse")
    with pytest.raises(StaleError, match="somebody has decided about it meanwhile"):
        second.decide(seen.id, seen.sha256, "repaint", by="Bob", reason="it is blurred", state=seen.state)
    assert second.counts() == {"open": 3, "accept": 0, "repaint": 0, "refuse": 1}


def test_a_decision_that_does_not_reach_the_disk_removes_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    review = Review(out)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OutputError, match="Input/output error"):
        decide(review, 1, "refuse")
    assert (out / f"{pseudonym(1)}.png").exists()


def test_only_what_the_person_has_seen_is_decided_about(out: Path) -> None:
    review = Review(out)
    seen = review.page("open", 1, 1)[0]
    with (out / NAME).open("ab") as file:
        file.write(json.dumps(painted(out, 2, content=b"another portrait")).encode() + b"\n")
    journal = (out / NAME).read_bytes()
    for identity in (seen.id, pseudonym(9)):
        with pytest.raises(StaleError, match="not there any more"):
            review.decide(identity, seen.sha256, "refuse", by="Ada", reason="it is blurred")
    assert (out / NAME).read_bytes() == journal
    found = review.image(seen.id)
    assert found is not None
    assert found[1] == b"another portrait"


def test_what_is_written_just_before_the_lock_counts(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(JournalFile):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            self.add(painted(out, 2, content=b"another portrait"))

    review = Review(out)
    monkeypatch.setattr("anon_runtime.folder.review.JournalFile", Late)
    with pytest.raises(StaleError, match="not there any more"):
        decide(review, 2, "refuse")
    assert (out / f"{pseudonym(2)}.png").read_bytes() == b"another portrait"


def test_what_was_changed_is_neither_shown_nor_accepted(out: Path) -> None:
    review = Review(out)
    (out / f"{pseudonym(1)}.png").write_bytes(b"a photo of somebody")
    assert review.image(pseudonym(1)) is None
    with pytest.raises(StaleError, match="missing or was changed"):
        decide(review, 1, "accept")
    decide(review, 1, "refuse")
    assert (out / f"{pseudonym(1)}.png").read_bytes() == b"a photo of somebody", "no run wrote it"


def test_nothing_is_decided_while_a_run_writes(out: Path) -> None:
    review = Review(out)
    with closing(JournalFile(out)) as journal:
        journal.add(painted(out, 6, similarity=0.9))
        with pytest.raises(InUseError, match="another run is writing"):
            decide(review, 1, "refuse")
        assert (out / f"{pseudonym(1)}.png").exists()
        review.refresh()
        assert shown(review) == [3, 6, 2, 1, 0], "it can be looked at meanwhile"
    decide(review, 1, "refuse")


def test_what_a_kill_has_left_is_removed(out: Path) -> None:
    """The decision was written, and its portrait was not removed yet."""
    decide(Review(out), 1, "refuse")
    (out / f"{pseudonym(1)}.png").write_bytes(b"portrait 1")
    Review(out)
    assert not (out / f"{pseudonym(1)}.png").exists()


def test_half_a_line_is_not_read_and_gives_way(out: Path) -> None:
    whole = (out / NAME).read_bytes()
    (out / NAME).write_bytes(whole + b'{"id": "half')
    review = Review(out)
    assert len(shown(review)) == 4
    decide(review, 1, "accept")
    assert b"half" not in (out / NAME).read_bytes()
    assert (out / NAME).read_bytes().startswith(whole)
    assert Review(out).counts()["accept"] == 1


def test_identical_photos_are_one_portrait(tmp_path: Path) -> None:
    names = "a.png", "b.png"
    lines = [painted(tmp_path, 1, name=name) | {"input": name} for name in names]
    review = Review(write_journal(tmp_path, [HEADER, *lines]))
    assert [file.output for file in review.page("open", 0, 9)[0].files] == ["a.png", "b.png"]
    decide(review, 1, "repaint")
    assert images(tmp_path) == {}
    assert read_report(tmp_path).counts["refused"] == 2
    with (tmp_path / NAME).open("ab") as file:
        again = painted(tmp_path, 1, name="a.png", content=b"another portrait") | {"input": "a.png"}
        file.write(json.dumps(again).encode() + b"\n")
    review.refresh()
    assert [file.output for file in review.page("open", 0, 9)[0].files] == ["a.png"], "the other one is not painted yet"
    assert read_report(tmp_path).counts == {"ok": 1, "refused": 1, "skipped": 0, "error": 0}


def test_a_file_belongs_to_the_photo_that_it_was_painted_for_last(tmp_path: Path) -> None:
    lines = [painted(tmp_path, 1, name=name) for name in ("a.png", "b.png")]
    lines += [painted(tmp_path, 2, name=name) for name in ("b.png",)]
    review = Review(write_journal(tmp_path, [HEADER, *lines]))
    assert shown(review) == [1, 2] or shown(review) == [2, 1]
    decide(review, 1, "refuse")
    assert list(images(tmp_path)) == ["b.png"]
    with (tmp_path / NAME).open("ab") as file:
        file.write(json.dumps(painted(tmp_path, 3, name="b.png")).encode() + b"\n")
    review.refresh()
    assert shown(review) == [3]


def test_photos_that_have_no_portrait_any_more_are_not_shown(out: Path) -> None:
    (out / f"{pseudonym(1)}.png").unlink()
    with (out / NAME).open("ab") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in (failed(0), failed(1), refused(2), failed(None)))
    assert shown(Review(out)) == [3, 0], "one failed and has its portrait still"


def test_a_journal_that_begins_anew(out: Path) -> None:
    review = Review(out)
    decide(review, 1, "accept")
    with (out / NAME).open("ab") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in (HEADER, painted(out, 7)))
    review.refresh()
    assert shown(review) == [7]
    write_journal(out, [HEADER, painted(out, 8)])
    review.refresh()
    assert shown(review) == [8]


@pytest.mark.parametrize("text", ["", "my diary\n", '{"status": "ok"}\n', "[]\n", json.dumps(HEADER) + "\n{}\n"])
def test_what_is_no_journal_is_told(tmp_path: Path, text: str) -> None:
    if text:
        (tmp_path / NAME).write_text(text)
    with pytest.raises(UsageError, match="no line of a journal" if text else "no journal"):
        Review(tmp_path)
    assert (tmp_path / NAME).exists() == bool(text)


def test_many_people_decide_at_once(tmp_path: Path) -> None:
    review = Review(write_journal(tmp_path, [HEADER, *(painted(tmp_path, number) for number in range(16))]))

    def refuse(known: Released) -> None:
        review.decide(known.id, known.sha256, "refuse", by="Ada", reason="it is blurred")

    turns = [threading.Thread(target=refuse, args=(known,)) for known in review.page("open", 0, 99)]
    assert len(turns) == 16
    for turn in turns:
        turn.start()
    for turn in turns:
        turn.join()
    assert images(tmp_path) == {}
    assert Review(tmp_path).counts()["refuse"] == 16


def test_a_run_removes_what_a_kill_has_left(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    before, portrait = images(out), (out / "1.png").read_bytes()
    decide_about(out, "1.png", "refuse")
    (out / "1.png").write_bytes(portrait)
    (photos / "1.jpg").unlink()
    assert run(quick, photos, out) == 0
    assert images(out) == {name: digest for name, digest in before.items() if name != "1.png"}


@pytest.mark.parametrize("rename", ["none", "hash"])
def test_a_later_run_keeps_to_refusals(quick: Anonymizer, photos: Path, tmp_path: Path, rename: Any) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"rename": rename, "seed": SECRET}
    assert run(quick, photos, out, **options) == 0
    before = images(out)
    name = sorted(before)[0]
    decide_about(out, name, "refuse")
    for overwrite in (False, True, False):
        assert run(quick, photos, out, overwrite=overwrite, **options) == 3
        assert images(out) == {other: digest for other, digest in before.items() if other != name}
        assert read_report(out).refusals == {"a person": 1}
    (out / name).write_bytes(b"a file that no run wrote")
    assert run(quick, photos, out, **options) == 3
    assert (out / name).read_bytes() == b"a file that no run wrote"
    decide_about(out, name, "repaint")
    (out / name).unlink()
    assert run(quick, photos, out, **options) == 0
    assert images(out)[name] != before[name]


def test_a_later_run_paints_another_portrait(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    before, found = images(out), [images(out)["1.png"]]
    for number in (1, 2):
        decide_about(out, "1.png", "repaint")
        assert "1.png" not in images(out)
        assert run(quick, photos, out) == 0
        line = entries(out)[-1]
        assert (line["output"], line["attempt"]) == ("1.png", number)
        assert line["seed"] == Attempt(number, 0).seed(identify((photos / "1.jpg").read_bytes(), 0).seed)
        found.append(images(out)["1.png"])
        assert images(out) == before | {"1.png": found[-1]}
    assert len(set(found)) == 3
    (out / "1.png").unlink()
    assert run(quick, photos, out) == 0
    assert images(out)["1.png"] == found[-1], "the same one again"
    decide_about(out, "1.png", "accept")
    assert run(quick, photos, out, overwrite=True) == 0
    assert images(out)["1.png"] == found[-1], "with the same settings, decisions hold"
    assert Review(out).counts()["open"] == len(before)
    assert run(quick, photos, out, overwrite=True, suffix="_new") == 0
    assert images(out)["1_new.png"] == found[0], "with others, everything begins anew"
