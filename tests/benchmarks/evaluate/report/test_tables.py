"""Tables of figures that are known: every figure stands in its column, and what is missing says why."""

from collections.abc import Iterator
from typing import Any

from benchmarks.evaluate.report import attack_tables, training_tables


def share(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "of": 100}


NONE = {"value": None, "of": 3, "reason": "too few"}


def rows(lines: Iterator[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines if line.startswith("| ")]


def test_attackers() -> None:
    own = {name: share(i / 10) for i, name in enumerate(("Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50"), 1)}
    sizes = {"among 100": share(0.5) | {"method": "exact"}, "among 1000": share(0.6) | {"method": "extrapolated"}}
    everyone = own | sizes | {"people": {"Re-ID@1": share(0.7)}}
    some = everyone | {"own group": share(0.8), "among 1000": NONE}
    row = {"off": {"all": everyone, "groups": {"held out": some}}, "strict": {"missing": "no journal"}}
    head, first, second, third = rows(attack_tables.attackers_table({"attackers": {"looks": {"methods": row}}}))
    assert head[2:] == ["Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50", "among 100", "among 1000", "people", "own group"]
    assert [cell.split()[0] for cell in first[2:-1]] == ["10.0", "20.0", "30.0", "40.0", "50.0", "60.0", "70.0"]
    assert first[7] == "60.0 (59.0-61.0) *"
    assert (second[1], second[7], second[9]) == ("off (held out)", "too few", "80.0 (79.0-81.0)")
    assert third[:3] == ["looks", "strict", "no journal"]


def test_verification() -> None:
    found = {"TAR at FAR 0.01": share(0.2) | {"chance": share(0.03)}, "TAR at FAR 0.001": NONE, "EER": share(0.4)}
    figures = {"one": {"methods": {"off": {"all": found, "groups": {}}}}, "two": {"missing": "two: weights"}}
    _, first, second = rows(attack_tables.verification_table({"verification": figures}))
    assert first == ["one", "off", "20.0 (19.0-21.0)", "3.0", "too few", "", "40.0 (39.0-41.0)"]
    assert second[:3] == ["two", "missing", ""]


def test_risks() -> None:
    one = {"attack": share(0.5), "control": share(0.3), "baseline": 0.1, "risk": share(0.2)}
    found = {
        "singling out": one,
        "linkability": {"1": one, "5": one},
        "inference": {"all": one, "worst": "Bald", "secrets": {"Bald": one}},
    }
    methods = {"off": found, "mask": {"missing": "no faces"}, "few": found | {"inference": {"missing": "no column"}}}
    head, *body = rows(attack_tables.risks_table({"risks": {"methods": methods}}))
    assert head == ["method", "risk of", "attack", "control", "guessing", "risk"]
    assert body[0][2:] == ["50.0 (49.0-51.0)", "30.0 (29.0-31.0)", "10.0", "20.0 (19.0-21.0)"]
    assert [row[0] for row in body] == ["off"] * 5 + ["mask"] + ["few"] * 3
    assert body[4][1].endswith("worst: Bald")


def test_hidden() -> None:
    found = {"mean": {"read": share(0.6)}, "attributes": {"Bald": {"read": share(0.7), "from the words": share(0.8)}}}
    mean = found | {"mean": {"read": share(0.6), "from the words": NONE}}
    own = {"hidden": ["Bald", "Young"], "methods": {"off": {"all": mean, "ignored": ["Bald", "Young"]}}}
    head, *body = rows(attack_tables.hidden_table({"hidden": own}))
    assert head == ["attribute", "method", "read", "from the words"]
    assert body[0] == ["mean of 2", "off", "60.0 (59.0-61.0)", "too few"]
    assert body[1] == ["Bald", "off", "70.0 (69.0-71.0)", "80.0 (79.0-81.0)"]
    assert body[2][:3] == ["Young", "off", ""]


def test_memory() -> None:
    tail = {"threshold": 0.5, "share": share(0.3), "chance": share(0.05)}
    part = {"nearer than 95 %": tail, "nearer than 99 %": None, "AUC": share(0.6)}
    encoders = {
        "one": {"methods": {"off": {"all": part, "groups": {"held out": part | {"AUC": None}}}}},
        "two": {"missing": ""},
    }
    own = {"training pictures": 9, "outsiders": 20, "encoders": encoders}
    _, first, second = rows(training_tables.memorisation_table({"memorisation": own}))
    assert first == ["one", "off", "30.0 (29.0-31.0)", "5.0 (4.0-6.0)", "too few people", "", "60.0 (59.0-61.0)"]
    assert (second[1], second[-1]) == ("off (held out)", "")


def test_learner() -> None:
    figures = {f"{name} AUC": share(0.8) for name in ("inner", "outer", "sex")} | {"ethnicity AUC": NONE}
    found = figures | {"age error": {"value": 7.0, "low": 6.0, "high": 8.0, "of": 9}}
    lost = {name: share(-0.05) for name in figures} | {"age error": {"value": 1.0, "low": 0.5, "high": 1.5, "of": 9}}
    methods = {name: {"all": found | {"difference": lost}} for name in ("originals", "off")}
    own = {"trained on": 40, "methods": methods, "held out": {"methods": methods}}
    _, first, second, third, fourth, *_ = rows(training_tables.learner_table({"learner": own}))
    assert first == ["all", "originals", *["80.0 (79.0 to 81.0)"] * 3, "", "7.0 (6.0 to 8.0)"]
    assert (second[1], third[1]) == ("off", "off, difference")
    assert third[2] == "-5.0 (-6.0 to -4.0)"
    assert third[-1] == "1.0 (0.5 to 1.5)"
    assert fourth[0] == "held out"


def test_what_was_not_measured_says_so() -> None:
    missing = {"missing": "it is not there"}
    for name, table in (
        ("risks", attack_tables.risks_table),
        ("hidden", attack_tables.hidden_table),
        ("memorisation", training_tables.memorisation_table),
        ("learner", training_tables.learner_table),
    ):
        assert list(table({name: missing}))[-1] == "it is not there"
