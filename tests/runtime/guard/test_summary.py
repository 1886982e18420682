"""The summary of a run on its way through a line of the journal."""

import copy
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.guard.alike import Alike, Pair
from anon_runtime.guard.anonymity import KAnonymity
from anon_runtime.guard.groups import Group, Grouping
from anon_runtime.guard.summary import Different, Engines, Gallery, GuardFacts, Summary
from anon_runtime.guard.thresholds import Threshold
from tests.runtime.strategies import JSON

WHOLE = Summary(
    started="2026-11-25T10:00:00+00:00",
    ended="2026-11-25T10:05:00+00:00",
    ending="finished",
    found=12,
    counts={"ok": 10, "refused": 2},
    versions={"anon-engines": "0.2.0"},
    engines=Engines("demo", "onnxruntime", {"unet": "0" * 64}),
    seconds={"unet": 1.5, "guard": 1},
    guard=GuardFacts("strict", "SFace", 0.01, 6, 5, 0, 1),
    originals=12,
    gallery=Gallery(3, 2, 1, 0),
    own=Threshold(0.5, 0.4, 0.6, 0.01, True),
    others=Threshold(0.8, 0.7, 1.2, 0.0005, False),
    different=Different("faces", 40, 780, (780,)),
    alike=Alike(10, None, None, (Pair("a", "b", 0.5),)),
    words=KAnonymity(10, 5, 3, 7, 2.0),
    uncoarsened=KAnonymity(10, 9, 8, 10, 1.0),
    groups=(Grouping("sex", (Group("man", 12, None, None, 0, None),)), Grouping("age", ())),
)
BARE = replace(
    WHOLE, gallery=None, own=None, others=None, different=None, alike=None, words=None, uncoarsened=None, groups=()
)


def through_json(summary: Summary) -> Any:
    return json.loads(json.dumps(summary.to_dict(), allow_nan=False))


@pytest.mark.parametrize("summary", [WHOLE, BARE], ids=["whole", "bare"])
def test_a_summary_comes_back_from_json(summary: Summary) -> None:
    assert Summary.from_dict(through_json(summary)) == summary


@pytest.mark.parametrize("name", [field.name for field in fields(Summary)])
def test_a_line_of_another_version_is_an_error(name: str) -> None:
    plain = through_json(WHOLE)
    missing = {key: value for key, value in plain.items() if key != name}
    with pytest.raises(ValueError, match="fields of"):
        Summary.from_dict(missing)
    with pytest.raises(ValueError, match="fields of"):
        Summary.from_dict(plain | {f"{name}2": plain[name]})
    with pytest.raises(ValueError, match="is no"):
        Summary.from_dict(plain | {name: False})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("guard", "mode"), "lax"),
        (("guard", "attempts"), 6.5),
        (("guard", "attempts"), True),
        (("own", "value"), "0.5"),
        (("own", "carried"), 1),
        (("counts", "ok"), None),
        (("groups", 0, "rows", 0, "name"), 1),
        (("groups", 0, "rows"), {"man": 12}),
        (("found",), None),
    ],
)
def test_a_value_of_another_type_is_an_error(path: tuple[str | int, ...], value: object) -> None:
    plain = copy.deepcopy(through_json(WHOLE))
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match="is no"):
        Summary.from_dict(plain)


@given(data=JSON)
def test_other_json_is_an_error(data: object) -> None:
    with pytest.raises(ValueError, match=r"is no|fields of"):
        Summary.from_dict(data)


@given(name=st.sampled_from([field.name for field in fields(Summary)]), data=JSON)
def test_any_value_gives_a_summary_or_an_error(name: str, data: object) -> None:
    plain = through_json(WHOLE) | {name: data}
    try:
        summary = Summary.from_dict(plain)
    except ValueError:
        return
    assert summary.to_dict()[name] == data or isinstance(data, list)
