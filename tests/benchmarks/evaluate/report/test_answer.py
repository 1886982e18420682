"""What the reader sees first, for attackers whose figures are known."""

from typing import Any

from benchmarks.evaluate.report.answer import answer
from benchmarks.evaluate.runs import PUBLIC

METHODS: dict[str, dict[str, Any]] = {"off": {}, "strict|er": {}}


def rate(value: float) -> dict[str, Any]:
    return {"Re-ID@1": {"value": value, "low": value - 0.01, "high": value + 0.01, "of": 100}}


def rates(value: float, **groups: float) -> dict[str, Any]:
    return {"all": rate(value), "groups": {name.replace("_", " "): rate(own) for name, own in groups.items()}}


def attackers(**groups: float) -> dict[str, Any]:
    strict = {"off": rates(0.3, **groups), "strict|er": rates(0.04, **groups)}
    return {
        "guessing": {"knows": "nothing", "kind": "baseline", "methods": dict.fromkeys(METHODS, rates(0.9))},
        "looks": {"knows": "photos", "kind": "attacker", "methods": strict},
        "reads": {"knows": "words", "kind": "attacker", "methods": {"off": rates(0.2), "strict|er": rates(0.06)}},
        "paints": {
            "knows": "the seed",
            "kind": "with the seed",
            "methods": {"off": rates(1) | {"seed": "given"}, "strict|er": {"missing": "paints: there is no journal"}},
        },
    }


def make(found: dict[str, Any] | None, groups: tuple[str, ...] = ()) -> dict[str, Any]:
    figures = {"originals": 200, "people": 100, "methods": METHODS, "groups": dict.fromkeys(groups, 20)}
    return figures if found is None else figures | {"attackers": found}


def test_the_strongest_attacker_is_neither_a_baseline_nor_one_with_the_seed() -> None:
    text = answer(make(attackers()))
    assert "**off**: of 200 photos, the strongest attacker (looks) finds **30.0 (29.0-31.0) %** at once" in text
    assert "the strongest attacker (reads) finds **6.0 (5.0-7.0) %**" in text
    assert "guessing finds 0.5 %" in text
    assert "others may find more" in text
    assert "The 200 photos show 100 people" in text
    assert "show 200 people" not in answer(make(attackers()) | {"people": 200})


def test_the_seed_is_told_where_somebody_has_painted_with_it() -> None:
    found = attackers()
    first, second = [line for line in answer(make(found)).splitlines() if line.startswith("- **")]
    assert "Whoever knows the run's seed finds 100.0 (99.0-101.0) %." in first
    assert "seed" not in second
    found["paints"]["methods"]["off"]["seed"] = PUBLIC
    public = answer(make(found))
    assert "**The run has the default seed, which everybody knows: whoever has the engines, too, finds 100.0" in public


def test_held_out_people_and_the_worst_group_are_named() -> None:
    groups = {"held_out": 0.01, "not_held_out": 0.9, "age:_60": 0.5, "sex:_man": 0.4}
    found = attackers(**groups)
    text = answer(make(found, ("held out", "age: 60", "sex: man")))
    assert "Of the held-out people it finds 1.0 (0.0-2.0) %." in text
    assert "Least protected group: age: 60 (100 photos), 50.0 (49.0-51.0) %." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| who | knows | off | off (held out) | strict\\|er | strict\\|er (held out) |"
    assert "| looks | photos | 30.0 (29.0-31.0) | 1.0 (0.0-2.0) | 4.0 (3.0-5.0) | 1.0 (0.0-2.0) |" in rows


def test_what_is_missing_stands_in_its_cell() -> None:
    assert "| paints | the seed | 100.0 (99.0-101.0) | paints: there is no journal |" in answer(make(attackers()))


def test_without_attackers_the_page_says_how_to_get_them() -> None:
    assert "add `attackers` to `--tables`" in answer(make(None))
