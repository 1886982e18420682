"""Figures by group."""

from typing import Any

from benchmarks.evaluate.report.group_tables import group_tables


def rates(value: float) -> dict[str, Any]:
    return {name: {"value": value, "low": 0, "high": 1} for name in ("Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50")}


def test_the_strongest_attacker_of_each_method_is_shown_by_group() -> None:
    weak = {"all": rates(0.1), "groups": {"age: 60": rates(0.2), "sex: man": rates(0.3)}}
    strong = {"all": rates(0.4), "groups": {"age: 60": rates(0.5)}}
    missing = {"missing": "there is no journal"}
    figures = {
        "methods": {"off": {}, "a|b": {}, "none": {}},
        "groups": {"age: 60": 20, "sex: man": 9},
        "attackers": {
            "looks": {"kind": "attacker", "methods": {"off": weak, "a|b": strong, "none": missing}},
            "reads": {"kind": "attacker", "methods": {"off": strong, "a|b": weak, "none": missing}},
            "knows": {"kind": "baseline", "methods": {name: {"all": rates(1)} for name in ("off", "a|b", "none")}},
        },
    }
    text = list(group_tables(figures))
    titles = [line for line in text if line.startswith("### ")]
    assert titles == ["### off, the strongest attacker: reads\n", "### a|b, the strongest attacker: looks\n"]
    assert "| off | age: 60 | 20 | 50.0 (0.0-100.0) | " + " | ".join(["50.0 (0.0-100.0)"] * 3) + " |" in text
    assert "| a\\|b | sex: man | 9 | too few | too few | too few | too few |" in text
    assert len(list(group_tables({"methods": {"off": {}}, "groups": {}}))) == 1
