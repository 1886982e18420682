"""A review over HTTP."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anon_runtime import Anonymizer
from anon_runtime.folder.journal_file import NAME, JournalFile
from anon_runtime.folder.review import Review
from anon_runtime.service.options import Access, ServiceOptions
from tests.runtime.folder.journals import painted, pseudonym

from .conftest import Running, running


def listed(reviewing: Running, **query: Any) -> dict[str, Any]:
    answer = reviewing.client.get("/v1/review", params=query)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def decision(reviewing: Running, number: int = 0, **fields: Any) -> dict[str, Any]:
    (seen,) = [one for one in listed(reviewing)["portraits"] if one["id"] == pseudonym(number)]
    words = {"verdict": "refuse", "by": "Ada", "reason": "It is distorted."}
    return {"id": seen["id"], "sha256": seen["sha256"]} | words | fields


def test_portraits_are_listed_and_shown(reviewing: Running, people: Path) -> None:
    assert reviewing.client.get("/v1/info").json()["review"] is True
    found = listed(reviewing)
    assert [one["id"] for one in found["portraits"]] == [pseudonym(number) for number in range(3)]
    assert found["folder"] == "reviewed"
    assert found["counts"] == {"open": 3, "accept": 0, "repaint": 0, "refuse": 0}
    assert found["portraits"][0]["prompt"] == "closeup portrait photo of a woman"
    assert [one["id"] for one in listed(reviewing, start=1, count=1)["portraits"]] == [pseudonym(1)]
    assert listed(reviewing, state="accept")["portraits"] == []
    answer = reviewing.client.get(f"/v1/review/portraits/{pseudonym(1)}")
    assert (answer.content, answer.headers["Content-Type"]) == ((people / "01.png").read_bytes(), "image/png")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_decision_is_kept(reviewing: Running, reviewed: Path) -> None:
    answer = reviewing.client.post("/v1/review/decisions", json=decision(reviewing, by=" Ada "))
    assert (answer.status_code, answer.json()["state"]) == (200, "refuse")
    line = json.loads((reviewed / NAME).read_text().splitlines()[-1])["decision"]
    assert (line["id"], line["by"], line["reason"]) == (pseudonym(0), "Ada", "It is distorted.")
    assert listed(reviewing)["counts"] == {"open": 2, "accept": 0, "repaint": 0, "refuse": 1}
    assert reviewing.client.get(f"/v1/review/portraits/{pseudonym(0)}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reason": ""}, "refuse needs a reason"),
        ({"reason": "  "}, "refuse needs a reason"),
        ({"verdict": "repaint", "reason": ""}, "repaint needs a reason"),
        ({"by": " "}, "by"),
        ({"by": "two\nlines"}, "by"),
        ({"reason": "x" * 501}, "reason"),
        ({"verdict": "maybe"}, "verdict"),
        ({"id": "../../etc"}, "id"),
        ({"more": 1}, "more"),
    ],
)
def test_what_is_no_decision_is_told(reviewing: Running, reviewed: Path, fields: dict[str, Any], named: str) -> None:
    before = (reviewed / NAME).read_bytes()
    answer = reviewing.client.post("/v1/review/decisions", json=decision(reviewing, **fields))
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert (reviewed / NAME).read_bytes() == before


def test_an_acceptance_needs_no_reason(reviewing: Running) -> None:
    own = decision(reviewing, verdict="accept", reason="")
    assert reviewing.client.post("/v1/review/decisions", json=own).json()["state"] == "accept"


def test_a_portrait_that_was_painted_again_meanwhile(reviewing: Running, reviewed: Path) -> None:
    seen = decision(reviewing)
    with closing(JournalFile(reviewed)) as journal:
        answer = reviewing.client.post("/v1/review/decisions", json=seen)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:anon-engines:in-use")
        journal.add(painted(reviewed, 0, content=b"another portrait"))
    answer = reviewing.client.post("/v1/review/decisions", json=seen)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:anon-engines:stale")
    assert answer.json()["fix"] == "look at the one that is there now"


def test_a_folder_that_is_gone_is_told(reviewing: Running, reviewed: Path) -> None:
    seen = decision(reviewing)
    (reviewed / NAME).unlink()
    for answer in (
        reviewing.client.get("/v1/review"),
        reviewing.client.post("/v1/review/decisions", json=seen),
    ):
        assert (answer.status_code, answer.json()["why"]) == (400, "it has no journal")
    assert not (reviewed / NAME).exists()


def test_others_cannot_look_or_decide(anonymizer: Anonymizer, reviewed: Path, serving: Running) -> None:
    with running(anonymizer, ServiceOptions(), Access("a-token-of-many-letters"), Review(reviewed)) as closed:
        for path in ("", f"/portraits/{pseudonym(0)}"):
            assert closed.client.get(f"/v1/review{path}").status_code == 401
        assert closed.client.post("/v1/review/decisions", json={}).status_code == 401
    origin = {"Origin": "https://evil.example"}
    assert serving.client.post("/v1/review/decisions", json={}, headers=origin).status_code == 403
    assert serving.client.get("/v1/review").status_code == 404, "this service has no review"
