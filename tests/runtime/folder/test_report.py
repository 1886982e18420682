"""Reports of journals: which lines count, and what of them is told."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.errors import UsageError
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.report import REPORT_HTML, REPORT_JSON, read_report, write_report
from anon_runtime.folder.tally import Case, Tally
from anon_runtime.guard.summary import Summary
from tests.runtime.folder.journals import (
    HEADER,
    SUMMARY,
    Line,
    bin_of,
    failed,
    pseudonym,
    refused,
    released,
    write_journal,
)
from tests.runtime.strategies import JSON, ODD_JSON


def test_photos_are_counted_by_their_outcome(tmp_path: Path) -> None:
    lines = [
        HEADER,
        *(released(i, 0.25 + i / 100) for i in range(7)),
        refused(10),
        refused(11, None, "no face"),
        refused(12),
        failed(13, "no face was found", "skipped"),
        failed(14),
        failed(None, "it cannot be read"),
        failed(15),
    ]
    report = read_report(write_journal(tmp_path, lines, SUMMARY))
    assert report.counts == {"ok": 7, "refused": 3, "skipped": 1, "error": 3}
    assert list(report.refusals.items()) == [("own original", 2), ("no face", 1)]
    assert list(report.errors.items()) == [("the image is damaged", 2), ("it cannot be read", 1)]
    assert report.skipped == {"no face was found": 1}
    assert (report.attempts, report.coarsening) == ((3, 2, 2), (4, 3))
    assert sum(report.released_similarity) == 7
    assert (report.refused_similarity[bin_of(0.75)], sum(report.refused_similarity)) == (2, 2)
    assert (report.nearest_similarity[bin_of(0.5)], sum(report.nearest_similarity)) == (7, 7)
    assert (report.withdrawn, report.unmeasured, report.later) == (0, 0, 0)
    assert (report.settings, report.summary) == (HEADER["run"], SUMMARY)


def test_the_last_line_of_a_photo_counts(tmp_path: Path) -> None:
    lines = [HEADER, released(1), released(2), released(3), failed(4), refused(1), refused(1), released(4), failed(2)]
    report = read_report(write_journal(tmp_path, lines))
    assert report.counts == {"ok": 2, "refused": 1, "skipped": 0, "error": 1}
    assert report.withdrawn == 1
    assert sum(report.released_similarity) == 2


def test_a_refusal_that_follows_no_portrait_withdraws_none(tmp_path: Path) -> None:
    assert read_report(write_journal(tmp_path, [HEADER, failed(1), refused(1), refused(2)])).withdrawn == 0


def test_photos_with_names_are_told_apart_by_them(tmp_path: Path) -> None:
    def named(line: Line, name: str) -> Line:
        return {**line, "input": name}

    lines = [
        HEADER,
        named(released(1), "a.jpg"),
        named(released(1), "copy.jpg"),  # the same content, and a portrait of its own
        named(released(2), "b.jpg"),
        named(released(3), "b.jpg"),  # another photo of that name, whose portrait replaces the first one
        named(failed(None), "c.jpg"),
        named(failed(None), "c.jpg"),
    ]
    assert read_report(write_journal(tmp_path, lines)).counts == {"ok": 3, "refused": 0, "skipped": 0, "error": 1}


def test_photos_without_a_name_and_a_pseudonym_count_each(tmp_path: Path) -> None:
    assert read_report(write_journal(tmp_path, [HEADER, failed(None), failed(None)])).counts["error"] == 2


def test_a_later_header_begins_anew(tmp_path: Path) -> None:
    anew = {"run": {"anon-run": "0.3.0", "steps": 8}, "secret": {}}
    lines = [HEADER, released(1), {"summary": SUMMARY.to_dict()}, anew, released(2), refused(1)]
    report = read_report(write_journal(tmp_path, lines))
    assert (report.counts["ok"], report.counts["refused"], report.withdrawn) == (1, 1, 0)
    assert (report.settings["steps"], report.summary) == (8, None)


def test_the_last_summary_counts_and_later_photos_are_told(tmp_path: Path) -> None:
    early = {"summary": replace(SUMMARY, found=1).to_dict()}
    lines = [HEADER, released(1), early, released(2), {"summary": SUMMARY.to_dict()}, released(3), failed(4)]
    report = read_report(write_journal(tmp_path, lines))
    assert (report.summary, report.later, report.counts["ok"]) == (SUMMARY, 2, 3)


def test_a_summary_of_another_version_is_none(tmp_path: Path) -> None:
    lines = [HEADER, released(1), {"summary": SUMMARY.to_dict() | {"new": 1}}]
    assert read_report(write_journal(tmp_path, lines)).summary is None


@pytest.mark.parametrize("torn", [b"{", b'{"id": "a", "sta', json.dumps(released(9)).encode()])
def test_a_torn_last_line_is_ignored(tmp_path: Path, torn: bytes) -> None:
    report = read_report(write_journal(tmp_path, [HEADER, released(1)], torn=torn))
    assert report.counts["ok"] == 1


def test_a_run_without_photos_has_a_report(tmp_path: Path) -> None:
    report = read_report(write_journal(tmp_path, [HEADER], SUMMARY))
    assert (sum(report.counts.values()), report.worst, report.attempts, report.beyond) == (0, (), (), 0)


def test_worst_cases_are_the_most_similar_released_ones(tmp_path: Path) -> None:
    lines = [HEADER, *(released(i, i / 64, 9, None) for i in range(20)), refused(30)]
    worst = read_report(write_journal(tmp_path, lines)).worst
    assert [case.id for case in worst] == [pseudonym(i) for i in range(19, 9, -1)]
    assert worst[0] == Case(pseudonym(19), 19 / 64, 9, None, 1)


def test_released_portraits_without_a_similarity_are_told(tmp_path: Path) -> None:
    report = read_report(write_journal(tmp_path, [HEADER, released(1, None), released(2), refused(3, None)]))
    assert report.unmeasured == 1


def test_portraits_that_find_their_original_first_are_counted(tmp_path: Path) -> None:
    lines = [HEADER, released(1, rank=1), released(2, rank=2), released(3, rank=1), refused(4)]
    assert read_report(write_journal(tmp_path, lines)).first == 2


def test_released_portraits_past_a_limit_are_counted(tmp_path: Path) -> None:
    lines = [
        HEADER,
        released(1),
        released(2, 0.6),
        released(3, 0.538),  # equal to the limit in the digits of the journal
        released(4, rank=2),
        released(5, rank=3),
        released(6, nearest=0.8),
        released(7, nearest=None),
        refused(8),
    ]
    assert read_report(write_journal(tmp_path, lines, SUMMARY)).beyond == 3
    assert SUMMARY.others is not None
    not_carried = replace(SUMMARY, others=replace(SUMMARY.others, carried=False))
    assert read_report(write_journal(tmp_path, lines, not_carried)).beyond == 2
    assert read_report(write_journal(tmp_path, lines, replace(SUMMARY, own=None))).beyond is None
    assert read_report(write_journal(tmp_path, lines)).beyond is None


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("sub/Ann Lee_x.png is the portrait of another photo", "(name) is the portrait of another photo"),
        ("Ann Lee.jpg cannot be read", "(name) cannot be read"),
        ("sub/Ann Lee.jpg and Ann Lee_x.webp", "(name) and (name)"),
        ("the image is damaged", "the image is damaged"),
    ],
)
def test_reasons_do_not_name_photos(tmp_path: Path, reason: str, shown: str) -> None:
    header = {"run": {"suffix": "_x"}, "secret": {}}
    lines = [header, failed(1, reason, input="sub/Ann Lee.jpg")]
    assert read_report(write_journal(tmp_path, lines)).errors == {shown: 1}


def test_a_seed_of_an_early_version_is_not_told(tmp_path: Path) -> None:
    header = {"run": {"seed": 20240417, "steps": 4}, "secret": {}}
    assert read_report(write_journal(tmp_path, [header])).settings == {"steps": 4}


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd" / NAME).mkdir(parents=True)
    for out in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UsageError, match="it has no journal; name the output folder of a run"):
            read_report(out)
    with pytest.raises(UsageError, match="directory"):
        read_report(tmp_path / "odd")


@pytest.mark.parametrize("content", [b"", b'{"run": {'])
def test_a_journal_without_a_line_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UsageError, match="its journal is empty"):
        read_report(tmp_path)


DAMAGED: list[Line] = [
    {"id": "a", "status": "lost", "reason": "it was lost"},
    {"id": "a"},
    {"id": 1, "status": "ok"},
    {"id": "a", "status": "error", "reason": None},
    {"id": "a", "status": "refused", "reason": "no cause"},
    released(1, 7.0),
    released(1) | {"similarity": "0.5"},
    released(1) | {"attempt": -1},
    released(1) | {"attempt": 10**12},
    released(1) | {"rank": 1.5},
    released(1) | {"input": ["a.jpg"]},
]


@pytest.mark.parametrize("line", [*map(json.dumps, DAMAGED), '{"similarity": NaN}', "[]", "1", "null", *ODD_JSON])
def test_a_damaged_line_is_an_error_unless_the_journal_begins_anew(tmp_path: Path, line: str) -> None:
    header = json.dumps(HEADER)
    (tmp_path / NAME).write_text(f"{header}\n{line}\n", "utf-8", "surrogateescape")
    with pytest.raises(UsageError, match=f"{NAME}, line 2: this is no line of a journal"):
        read_report(tmp_path)
    (tmp_path / NAME).write_text(f"{header}\n{line}\n{header}\n", "utf-8", "surrogateescape")
    assert read_report(tmp_path).counts["ok"] == 0


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_an_error(tmp_path: Path, constant: str) -> None:
    (tmp_path / NAME).write_text(f'{{"run": {{"guidance": {constant}}}, "secret": {{}}}}\n')
    with pytest.raises(UsageError, match="line 1"):
        read_report(tmp_path)


def test_a_first_line_without_settings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 1"):
        read_report(write_journal(tmp_path, [released(1)]))


@given(data=JSON)
def test_any_json_is_a_line_or_one_of_the_known_errors(data: Any) -> None:
    tally = Tally()
    tally.add(HEADER)
    try:
        tally.add(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    assert tally.report() is not None


numbers = st.integers(0, 8)
outcomes = st.builds(released, numbers) | st.builds(refused, numbers) | st.builds(failed, numbers)


@given(lines=st.lists(outcomes, max_size=30))
def test_each_photo_counts_once(lines: list[Line]) -> None:
    tally = Tally()
    for line in [HEADER, *lines]:
        tally.add(line)
    report = tally.report()
    assert report is not None
    last = {line["id"]: line["status"] for line in lines}
    assert Counter(last.values()) == Counter(report.counts)
    had = {line["id"] for line in lines if line["status"] == "ok"}
    ended = {identity for identity, status in last.items() if status == "refused"}
    assert report.withdrawn <= len(had & ended)
    assert sum(report.attempts) == report.counts["ok"] == sum(report.released_similarity)


def test_a_report_is_written_as_json_and_as_a_page(tmp_path: Path) -> None:
    lines = [HEADER, released(1), refused(2)]
    report = write_report(write_journal(tmp_path, lines, SUMMARY))
    plain = json.loads((tmp_path / REPORT_JSON).read_text())
    assert plain == json.loads(json.dumps(report.to_dict()))
    assert Summary.from_dict(plain["summary"]) == SUMMARY
    assert (tmp_path / REPORT_HTML).read_text().startswith("<!DOCTYPE html>")
    assert {path.name for path in tmp_path.iterdir()} == {NAME, REPORT_JSON, REPORT_HTML}


def test_the_same_journal_gives_the_same_files(tmp_path: Path) -> None:
    lines = [HEADER, *map(released, range(9)), refused(20)]
    for name in ("one", "other"):
        write_report(write_journal(tmp_path / name, lines, SUMMARY))
    for file in (REPORT_JSON, REPORT_HTML):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path: Path) -> None:
    odd = replace(SUMMARY, engines=replace(SUMMARY.engines, bundle="\udcff"))
    write_report(write_journal(tmp_path, [HEADER], odd))
    assert "\\udcff" in (tmp_path / REPORT_HTML).read_text()


def test_a_damaged_journal_leaves_the_earlier_report(tmp_path: Path) -> None:
    write_report(write_journal(tmp_path, [HEADER, released(1)]))
    before = (tmp_path / REPORT_HTML).read_bytes()
    write_journal(tmp_path, [HEADER, {"id": "a", "status": "lost"}])
    with pytest.raises(UsageError):
        write_report(tmp_path)
    assert (tmp_path / REPORT_HTML).read_bytes() == before


def test_faces_that_were_replaced_in_place_are_counted() -> None:
    tally = Tally()
    lines = [
        HEADER,
        released(1) | {"replaced": 3, "filled": 1, "kept": 2},
        released(1) | {"replaced": 4, "filled": 0, "kept": 2},
        released(2) | {"replaced": 1, "filled": 0, "kept": 0},
        refused(3),
    ]
    for line in lines:
        tally.add(line)
    report = tally.report()
    assert report is not None
    assert report.faces == {"replaced": 5, "filled": 0, "kept": 2}


def test_each_face_of_a_photo_counts(tmp_path: Path) -> None:
    """Each has a portrait and a decision of its own, and they have one photo."""
    named = [released(i) | {"input": "group.jpg", "face": i, "output": f"group-{i}.png"} for i in (1, 2, 3)]
    decision = {
        "verdict": "refuse", "id": pseudonym(2), "files": [{"output": "group-2.png", "input": "group.jpg", "face": 2}],
        "sha256": "00", "attempt": 2, "coarsening": 0, "by": "Ada", "at": "now", "reason": "it is blurred",
    }  # fmt: skip
    report = read_report(write_journal(tmp_path, [HEADER, *named, named[0], {"decision": decision}]))
    assert (report.counts["ok"], report.counts["refused"]) == (2, 1)
    assert report.refusals == {"a person": 1}
