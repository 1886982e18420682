"""Decisions as lines of a journal, and the portraits that they remove."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.errors import OutputError
from anon_runtime.folder.decisions import Decision, File, Verdict, remove_portraits

NAMES = st.lists(st.text("abcÄ_ .-", min_size=1).filter(lambda name: name != ".."), min_size=1, max_size=3).map(
    "/".join
)
DECISION = Decision(
    "refuse", "ab" * 16, (File("a.png", "a.jpg"),), hashlib.sha256(b"image").hexdigest(), 2, 1, "Ada", "2026", "blurred"
)


@given(
    st.builds(
        Decision,
        verdict=st.sampled_from(get_args(Verdict)),
        id=st.text(min_size=1),
        files=st.lists(st.builds(File, NAMES, st.none() | st.text(), st.none() | st.integers(1, 99)), max_size=3).map(
            tuple
        ),
        sha256=st.text(),
        attempt=st.integers(0, 99),
        coarsening=st.integers(0, 99),
        by=st.text(),
        at=st.text(),
        reason=st.text(),
    )
)
def test_a_line_gives_the_decision_again(decision: Decision) -> None:
    again = Decision.of(json.loads(json.dumps(decision.to_dict())))
    paths = tuple(file._replace(output=str(Path(file.output))) for file in decision.files)
    assert again == replace(decision, files=paths)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "maybe"},
        {"verdict": ["accept"]},
        {"id": ""},
        {"id": 5},
        {"attempt": -1},
        {"attempt": True},
        {"coarsening": 1.5},
        {"reason": None},
        {"more": 1},
        {"files": [{"output": "/etc/passwd"}]},
        {"files": [{"output": "../a.png"}]},
        {"files": [{"output": 5}]},
        {"files": [{"output": "a.png", "input": 5}]},
        {"files": [{}]},
        {"files": None},
    ],
)
def test_what_is_no_decision_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Decision.of(DECISION.to_dict() | wrong)
    assert Decision.of(DECISION.to_dict()) == DECISION


def test_only_the_portrait_that_was_decided_about_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "b.png"
    decisions = [DECISION, replace(DECISION, files=(File("b.png", None), File("missing.png", None), File(".", None)))]
    for content in (b"image", b"another image"):
        (tmp_path / "a.png").write_bytes(content)
        other.write_bytes(b"another image")
        remove_portraits(tmp_path, [replace(one, verdict="accept") for one in decisions])
        assert (tmp_path / "a.png").exists()
        remove_portraits(tmp_path, decisions)
        assert (tmp_path / "a.png").exists() == (content != b"image")
        assert other.exists()


def test_a_portrait_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(OutputError, match=r"cannot read .*a.png"):
        remove_portraits(tmp_path, [DECISION])
