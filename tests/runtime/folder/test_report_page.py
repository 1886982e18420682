"""The page of a report: well-formed, without anything from elsewhere, and with the figures of the report."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.folder.report_page import render
from anon_runtime.folder.tally import Report, Tally
from anon_runtime.guard.groups import Fact, group_people
from anon_runtime.guard.summary import Summary
from tests.runtime.folder.journals import HEADER, SUMMARY, Line, failed, pseudonym, refused, released

VOID = {"meta"}
LINES: list[Line] = [
    *(released(i, 0.2 + i / 100) for i in range(12)),
    *(refused(i) for i in range(20, 23)),
    failed(30),
    failed(31, "no face was found", "skipped"),
]


class Page(HTMLParser):
    """A page whose tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def make_report(lines: Sequence[Line] = LINES, summary: Summary | None = SUMMARY, **settings: object) -> Report:
    tally = Tally()
    tally.add({"run": HEADER["run"] | settings, "secret": {}})
    for line in lines:
        tally.add(line)
    if summary is not None:
        tally.add({"summary": through_json(summary)})
    report = tally.report()
    assert report is not None
    return report


def through_json(summary: Summary) -> Any:
    return json.loads(json.dumps(summary.to_dict()))


def read(report: Report) -> Page:
    return Page(render(report))


REPORTS = {
    "whole": make_report(),
    "without a summary": make_report(summary=None),
    "without photos": make_report([]),
    "everything refused": make_report([refused(i) for i in range(9)]),
    "withdrawn": make_report([released(1), refused(1)]),
    "without thresholds": make_report(
        summary=replace(
            SUMMARY,
            gallery=None,
            own=None,
            others=None,
            different=None,
            alike=None,
            words=None,
            uncoarsened=None,
            groups=(),
        )
    ),
    "unmeasured": make_report([released(1, None)]),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_pages_are_well_formed_and_need_nothing_from_elsewhere(report: Report) -> None:
    html = render(report)
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object", "a"} & set(page.tags)
    assert not {"src", "href", "style", "data"} & {name for _, name, _ in page.attributes}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import|//", html)
    identities = [value for _, name, value in page.attributes if name == "id"]
    assert len(identities) == len(set(identities))
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        root = ET.fromstring(svg)
        assert [one.tag for one in root][:2] == ["title", "desc"]
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        rows = ET.fromstring(table.replace("&ndash;", "-")).findall(".//tr")
        assert all(row[0].tag == "th" and row[0].get("scope") for row in rows)
        assert len({len(row) for row in rows}) == 1


odd = st.text("<>&\"'a;-", min_size=1, max_size=12)


@given(text=odd)
def test_texts_are_escaped(text: str) -> None:
    summary = replace(
        SUMMARY,
        versions={text: text},
        engines=replace(SUMMARY.engines, bundle=text, target=text, files={text: text}),
        guard=replace(SUMMARY.guard, network=text),
    )
    lines = [failed(1, text), refused(2, cause=text), failed(3, text, "skipped")]
    page = read(make_report(lines, summary, **{text: text, "ignore": [text]}))
    spaced = re.sub(r"\s+", " ", text)
    assert page.words.count(text) >= 8, "a text is missing or was read as a tag"
    assert page.text.count(spaced) >= 8


def test_a_page_has_the_figures_of_its_report() -> None:
    text = read(make_report()).text
    for figure in (
        "given 41 photos",
        "0.538 on (95 % interval 0.494 to 0.582)",
        "about one in 100 is",
        "measured with SFace on SFHQ-40: 401 people and 80,200 pairs",
        "(37 originals) and of the gallery",
        "a rate of 0.00018 and a threshold of 0.769 (95 % interval 0.713 to 0.826)",
        "has 23 files: 19 faces were compared, in 1 no face was found, and 3 could not be read",
        "one of the 2 people whom a portrait resembles most. (There are too few people for the 5 that",
        "0 of 12 (0.0 %) resemble nobody more",
        "33 released portraits were compared, each with each. 17 pairs are alike: their similarity is 0.777 or more.",
        f"{'aa' * 16} and {'bb' * 16}",
        "At most 6 attempts",
        "30 of 33 (90.9 %)",
        "13 of 33 (39.4 %) portraits have words that fit one person",
        "29 of 33 (87.9 %) portraits have words that fit fewer than five people",
        "sex: man 22 hidden hidden 11 0.31",
        "ab" * 32,
        "WP216",
        "singling out",
        "linkability",
        "inference",
    ):
        assert figure.lower() in text.lower(), figure


def test_outcomes_of_the_last_run_and_of_all_runs_stand_side_by_side() -> None:
    html = render(make_report())
    rows = {
        "A portrait was made and released.": ("28", "12"),
        "An earlier run had made the portrait already.": ("5", "&ndash;"),
        "The guard or a person refused the portraits, so that there is no file.": ("4", "3"),
        "No face was found, and the settings say to skip such photos.": ("3", "1"),
        "The photo could not be processed, so that there is no file.": ("1", "1"),
    }
    for meaning, numbers in rows.items():
        cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
        assert f'<th scope="row">{meaning}</th>{cells}</tr>' in html


def test_only_the_most_frequent_reasons_are_listed() -> None:
    lines = [failed(100 * i + j, f"reason {i}") for i in range(12) for j in range(12 - i if i < 3 else 1)]
    html = render(make_report(lines))
    assert '<th scope="row">reason 0</th><td class="number">12</td>' in html
    shown = len(re.findall(r'<th scope="row">reason \d+</th>', html))
    assert shown == 8
    assert '<th scope="row">other reasons</th><td class="number">4</td>' in html


def test_worst_cases_are_named_by_pseudonyms() -> None:
    html = render(make_report())
    cells = "".join(f'<td class="number">{number}</td>' for number in ("0.31", "7", "0.5", "3"))
    assert f'<th scope="row">{pseudonym(11)}</th>{cells}</tr>' in html


def test_names_of_photos_are_not_told() -> None:
    lines = [{**line, "input": f"Ann Lee {i}.jpg"} for i, line in enumerate(LINES)]
    report = make_report(lines, rename="none")
    assert "Ann" not in render(report) + str(report)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("off", "No portrait was refused in the last run: the guard was off."),
        ("report", "No portrait was refused in the last run: the guard only measured"),
    ],
)
def test_the_top_says_that_nothing_was_refused(mode: Literal["off", "report"], words: str) -> None:
    summary = replace(SUMMARY, guard=replace(SUMMARY.guard, mode=mode))
    assert words in read(make_report([released(1)], summary)).text.split("What was done")[0]
    assert "No portrait was refused in the last run" not in read(make_report()).text


def test_a_guard_that_only_measures_says_what_a_strict_one_would_refuse() -> None:
    summary = replace(SUMMARY, guard=replace(SUMMARY.guard, mode="report"))
    words = "1 of 2 (50.0 %) are past a limit; a strict guard would have refused them."
    assert words in read(make_report([released(1), released(2, 0.9)], summary)).text


@pytest.mark.parametrize(
    ("ending", "words"), [("stopped", "somebody stopped it"), ("failures", "too many photos failed")]
)
def test_the_top_says_that_a_run_ended_early(ending: Literal["stopped", "failures"], words: str) -> None:
    assert words in read(make_report(summary=replace(SUMMARY, ending=ending))).text.split("What was done")[0]
    assert words not in read(make_report()).text


def test_the_top_says_that_there_is_no_summary() -> None:
    words = "The journal has no summary of the run"
    assert words in read(make_report(summary=None)).text.split("What was done")[0]
    assert words not in read(make_report()).text


def test_the_top_says_that_a_later_run_was_interrupted() -> None:
    lines = [{"summary": through_json(SUMMARY)}, released(1), released(2)]
    words = "After the last summary, 2 photos were processed"
    assert words in read(make_report(lines, None)).text.split("What was done")[0]
    assert "After the last summary" not in read(make_report()).text


def test_figures_of_a_missing_run_are_dashes() -> None:
    cells = '<td class="number">&ndash;</td><td class="number">12</td>'
    assert f'<th scope="row">A portrait was made and released.</th>{cells}</tr>' in render(make_report(summary=None))


def test_withdrawn_portraits_are_told() -> None:
    assert "1 refused photo had a portrait of an earlier run" in read(REPORTS["withdrawn"]).text
    assert "had a portrait of an earlier run" not in read(make_report()).text


def test_unmeasured_portraits_are_told() -> None:
    assert "1 released portrait could not be measured" in read(REPORTS["unmeasured"]).text
    assert "could not be measured" not in read(make_report()).text


def test_a_threshold_that_is_not_carried_refuses_nothing_and_is_not_drawn() -> None:
    assert SUMMARY.others is not None
    for carried in (True, False):
        text = read(make_report(summary=replace(SUMMARY, others=replace(SUMMARY.others, carried=carried)))).text
        assert ("nothing was refused by it" in text) != carried
        assert ("threshold 0.77" in text) == carried


@pytest.mark.parametrize(
    ("asked", "applied", "words"),
    [
        (5, 0, "was not limited: there are too few people for it"),
        (0, 0, "was not limited: it was turned off"),
        (1, 1, "must not be the person whom a portrait resembles most"),
    ],
)
def test_the_limit_of_the_rank_is_told(asked: int, applied: int, words: str) -> None:
    guard = replace(SUMMARY.guard, min_rank=asked, effective_min_rank=applied)
    assert words in read(make_report(summary=replace(SUMMARY, guard=guard))).text


def test_names_that_are_not_hidden_are_told() -> None:
    shown, hidden = (read(make_report(rename=rename)).text for rename in ("none", "hash"))
    assert "Whoever has both can link them by name" in shown
    assert "names are not hidden" in shown
    assert "Whoever has both can link them by name" not in hidden
    assert "names are not hidden" not in hidden


def test_small_groups_are_not_shown() -> None:
    people = [Fact("white", "man", 30, True, 0, 0.3)] * 40 + [Fact("black", "woman", 70, False, 5, 0.6)] * 3
    text = read(make_report(summary=replace(SUMMARY, groups=group_people(people)))).text
    assert "Groups of people" in text
    assert "black" not in text
    assert "ethnicity: others 43 40 3" not in text
    few = read(make_report(summary=replace(SUMMARY, groups=group_people(people[-9:])))).text
    assert "No group has as many" in few


def test_each_mode_has_its_own_promise() -> None:
    """What is true of a portrait is not said of a photo that is kept, and the other way round."""
    portrait, faces = (read(make_report(mode=mode)).text for mode in ("portrait", "faces"))
    assert "words about the biggest face of its photo" in portrait
    assert "words about a face of its photo" in faces
    for text in (portrait, faces):
        assert "No pixel of a photo is in it" in text
        assert "background and text of a photo are not copied" in text
    lines = [one | {"replaced": 3, "filled": 1, "kept": 0} for one in LINES[:12]]
    in_place = read(make_report(lines, mode="in-place", keep_metadata=["icc"])).text
    assert "No pixel of the region of such a face is in it" in in_place
    assert "No pixel of a photo is in it" not in in_place
    assert "are not copied" not in in_place
    for words in ("who does not exist. 36", "around it. 12", "this was kept: icc", "no second one"):
        assert words in in_place
    assert "agreed" not in in_place
    assert "somebody has given" in read(make_report(lines, mode="in-place", only_box=[[1, 2, 3, 4]])).text


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            replace(SUMMARY, engines=replace(SUMMARY.engines, files={"second_face_detector": "ab"})),
            "Two face detectors",
        ),
        (replace(SUMMARY, guard=replace(SUMMARY.guard, mode="off")), "the guard was off"),
        (None, "the guard was off"),
    ],
)
def test_who_has_looked_at_finished_pictures(summary: Summary | None, words: str) -> None:
    assert words in read(make_report(LINES, summary, mode="in-place")).text
