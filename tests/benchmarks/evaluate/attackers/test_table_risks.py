import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from benchmarks.evaluate.attackers import residual
from benchmarks.evaluate.attackers.risks import measure
from benchmarks.evaluate.attackers.tables import AGE, ETHNICITY, Table, read_table
from benchmarks.evaluate.predictors import BOX, FaceEngines
from benchmarks.evaluate.types import Vector

pytestmark = pytest.mark.packages
pytest.importorskip("anonymeter")
table_attacks = pytest.importorskip("benchmarks.evaluate.attackers.table_attacks")
table_risks = pytest.importorskip("benchmarks.evaluate.attackers.table_risks")

COUNT = 80
ALIKE = CELEBA[4:]  # attributes that all people share, so that the tests have few secrets


@pytest.fixture(autouse=True)
def _one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, "SPLITS", 1)


def make_reading(seed: int) -> Vector:
    """Readings of people whose scores are random; those of the attributes `ALIKE` are below 0.5 in most people."""
    rng = np.random.default_rng(seed)
    scores = rng.random((COUNT, len(CELEBA)))
    scores[:, [CELEBA.index(name) for name in ALIKE]] **= 4
    scores[10:, [CELEBA.index(name) for name in ALIKE]] /= 2
    ethnicity = np.eye(len(ETHNICITIES))[rng.integers(len(ETHNICITIES), size=COUNT)]
    reading = np.column_stack([scores, ethnicity, rng.integers(18, 80, COUNT), np.zeros((COUNT, len(BOX)))])
    assert reading.shape[1] == len(FaceEngines.columns)
    return reading


PEOPLE = make_reading(0)


def test_copies_give_everything_away() -> None:
    found = measure(PEOPLE, PEOPLE)
    assert (found["people"], found["no face"]) == (COUNT, 0)
    single, links, inferences = found["singling out"], found["linkability"], found["inference"]
    assert single["right"]["value"] == 1
    assert single["right"]["of"] == single["risk"]["of"] <= COUNT
    assert set(links) == {"1", "5"}
    assert set(inferences["secrets"]) == {*CELEBA[:4], ETHNICITY, AGE}
    for one in (single, *links.values(), inferences["all"], *inferences["secrets"].values()):
        assert one["attack"]["value"] == one["risk"]["value"] == 1
        assert one["baseline"] < 1
        assert one["control"]["value"] < 1
        assert one["risk"]["low"] > 0.5
    assert links["1"]["baseline"] == pytest.approx(2 / COUNT)
    json.dumps(found)


def test_portraits_of_others_give_nothing_away() -> None:
    found = measure(PEOPLE, make_reading(1))
    single, links, inferences = found["singling out"], found["linkability"], found["inference"]
    for one in (single, *links.values(), inferences["all"]):
        assert one["risk"]["low"] == 0
        assert one["risk"]["value"] < 0.3
        low, high = one["control"]["low"], one["control"]["high"]
        assert low - 0.1 < one["attack"]["value"] < high + 0.1
    assert single["right"]["value"] == 0


def test_results_depend_on_nothing_but_the_readings() -> None:
    portraits = 0.5 * PEOPLE + 0.5 * make_reading(1)
    first = measure(PEOPLE, portraits)
    np.random.seed(1)  # what Anonymeter's evaluators draw from
    random.seed(1)
    assert measure(PEOPLE, portraits) == first


def test_the_worst_secret_has_the_highest_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    risks = [(0.0, 0.9), (0.1, 0.2), (0.1, 0.3), (0.0, 0.0), (0.0, 0.1), (0.0, 0.4), (0.0, 0.2)]
    made = iter({"risk": {"low": low, "value": value}} for low, value in risks)
    monkeypatch.setattr(table_risks, "figures", lambda *_: next(made))
    table = read_table(PEOPLE)
    assert table_risks.infer(table, table, np.ones(COUNT, bool))["worst"] == CELEBA[2]


def test_the_attacker_knows_the_originals_and_has_the_portraits(monkeypatch: pytest.MonkeyPatch) -> None:
    portraits = make_reading(1)
    portraits[3] = np.nan
    for name in ("single_out", "link", "infer"):
        monkeypatch.setattr(table_risks, name, lambda *tables: tables)
    found = measure(PEOPLE, portraits)
    for people, made, faces in (found["singling out"], found["linkability"], found["inference"]):
        np.testing.assert_array_equal(people["Smiling"], PEOPLE[:, CELEBA.index("Smiling")])
        np.testing.assert_array_equal(made["Smiling"][faces], np.delete(portraits, 3, 0)[:, CELEBA.index("Smiling")])
        assert np.flatnonzero(~faces).tolist() == [3]


def test_a_portrait_without_a_face_is_not_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its person is attacked all the same."""
    sizes: list[int] = []
    for name in ("find_predicates", "guess_predicates", "link", "infer", "infer_by_chance"):
        attack: Callable[..., Any] = getattr(table_attacks, name)

        def checked(portraits: Table, *rest: Any, attack: Callable[..., Any] = attack) -> Any:
            assert (portraits[AGE] >= 18).all(), "without a face, everything is read as 0"
            sizes.append(len(portraits[AGE]))
            return attack(portraits, *rest)

        monkeypatch.setattr(table_attacks, name, checked)
    portraits = PEOPLE.copy()
    portraits[::4] = np.nan
    found = measure(PEOPLE, portraits)
    assert (found["people"], found["no face"]) == (COUNT, COUNT // 4)
    assert min(sizes) < COUNT // 2
    assert min(sizes) + max(sizes) == COUNT * 3 // 4
    links = found["linkability"]["1"]
    assert links["risk"]["of"] == found["inference"]["all"]["risk"]["of"] == COUNT
    assert 0.7 < links["attack"]["value"] < 0.9
    assert links["baseline"] == pytest.approx(1 / 30, abs=0.005)
    assert found["singling out"]["right"]["value"] > 0.8
    assert found["singling out"]["risk"]["of"] <= COUNT * 3 // 4


def test_a_person_counts_once_however_many_predicates_there_are() -> None:
    means = table_risks._means_by(np.array([7, 2, 7, 7]), np.array([[1, 0], [0, 1], [0, 0], [0, 1]], bool))  # noqa: SLF001
    np.testing.assert_allclose(means, [[0.0, 1.0], [1 / 3, 1 / 3]])


def test_people_who_are_all_alike_have_no_secrets_and_no_predicates() -> None:
    alike = read_table(PEOPLE[[0] * 60])
    faces = np.ones(60, bool)
    assert table_risks.infer(alike, alike, faces) == {
        "missing": "there is no column in which 10 people differ from the others"
    }
    found = table_risks.single_out(alike, alike, faces)
    assert found["risk"]["of"] == 0
    assert np.isnan(found["risk"]["value"])
