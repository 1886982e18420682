import logging
import warnings
from typing import Any

import numpy as np
import pytest

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from benchmarks.evaluate.attackers.residual import residual
from benchmarks.evaluate.attackers.tables import AGE, ETHNICITY, Table, as_facts
from benchmarks.evaluate.utility import INNER, OUTER

pytestmark = pytest.mark.packages
pytest.importorskip("anonymeter")
pd = pytest.importorskip("pandas")
evaluators = pytest.importorskip("anonymeter.evaluators")
confidence = pytest.importorskip("anonymeter.stats.confidence")
table_attacks = pytest.importorskip("benchmarks.evaluate.attackers.table_attacks")


def make_table(count: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    scores = {name: rng.random(count) for name in CELEBA}
    return scores | {ETHNICITY: rng.choice(np.array(ETHNICITIES, object), count), AGE: rng.integers(18, 80, count)}


def blend(first: Table, second: Table) -> Table:
    """A table whose rows are like those of the first."""
    return {name: first[name] if name in (ETHNICITY, AGE) else 0.7 * first[name] + 0.3 * second[name] for name in first}


PEOPLE = make_table(40, 0)
PORTRAITS = blend(PEOPLE, make_table(40, 1))


def evaluated(evaluator: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where an attack is no better than a guess
        return evaluator.results()


def test_links_of_a_case_by_hand() -> None:
    """Three portraits, of which the third is the same person twice; the sides are one column each."""
    portraits = {"a": np.array([0.0, 1, 2]), "b": np.array([0.0, 1, 2])}
    people = {"a": np.array([0.1, 0.9, 0.4]), "b": np.array([0.2, 1.9, 0.6])}
    linked = table_attacks.link(portraits, people, (["a"], ["b"]), (1, 2, 3))
    assert linked.tolist() == [[True, True, True], [False, True, True], [False, True, True]]


def test_links_by_chance_of_a_case_by_hand() -> None:
    """Of four portraits, two and two have none in common in one of six cases."""
    assert table_attacks.link_by_chance(4, (1, 2, 3)) == pytest.approx([1 / 4, 5 / 6, 1])


@pytest.mark.parametrize("neighbors", [1, 5])
def test_links_are_those_of_the_library(neighbors: int) -> None:
    evaluator = evaluators.LinkabilityEvaluator(
        pd.DataFrame(PEOPLE), pd.DataFrame(PORTRAITS), (list(INNER), list(OUTER)), n_attacks=40, n_neighbors=neighbors
    ).evaluate(n_jobs=1)
    linked = table_attacks.link(PORTRAITS, PEOPLE, (INNER, OUTER), (2, neighbors))
    assert 0 < linked[:, 1].sum() == evaluated(evaluator).n_success
    assert linked[:, 0].sum() == table_attacks.link(PORTRAITS, PEOPLE, (INNER, OUTER), (2,)).sum()


def test_inference_of_a_case_by_hand() -> None:
    """The age of the portrait with the nearest score, right within 5 %."""
    portraits = {"Smiling": np.array([0.1, 0.5, 0.9]), AGE: np.array([20, 40, 60])}
    people = {"Smiling": np.array([0.15, 0.45, 0.8, 0.2]), AGE: np.array([20, 43, 58, 41])}
    assert table_attacks.infer(portraits, people, AGE).tolist() == [True, False, True, False]
    assert table_attacks.infer_by_chance(portraits, people, AGE) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    # 40 is nearest to 43 and 41, 20 to 20, and 60 to 58.
    assert table_attacks.infer(portraits, people, "Smiling").tolist() == [True, True, True, True]
    assert table_attacks.infer_by_chance(portraits, people, "Smiling") == pytest.approx([2 / 3, 2 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize("secret", ["Smiling", ETHNICITY, AGE])
def test_inferences_are_those_of_the_library(secret: str) -> None:
    people, portraits = (pd.DataFrame({**table, secret: as_facts(table)[secret]}) for table in (PEOPLE, PORTRAITS))
    known = [name for name in PEOPLE if name != secret]
    evaluator = evaluators.InferenceEvaluator(people, portraits, known, secret, regression=secret == AGE, n_attacks=40)
    found = evaluated(evaluator.evaluate(n_jobs=1))
    assert 0 < table_attacks.infer(PORTRAITS, PEOPLE, secret).sum() == found.n_success


@pytest.mark.parametrize("secret", ["Smiling", ETHNICITY, AGE])
def test_inferences_by_chance_are_those_of_the_library(secret: str) -> None:
    """Its guess is the secret of the portrait with the same number, and so random if the portraits are in any order."""
    people, portraits = ({name: values[:8] for name, values in table.items()} for table in (PEOPLE, PORTRAITS))
    known = [name for name in PEOPLE if name != secret]
    guessed = []
    for shift in range(8):
        facts = {name: np.roll(values, shift) for name, values in as_facts(portraits).items()}
        evaluator = evaluators.InferenceEvaluator(
            pd.DataFrame(as_facts(people)), pd.DataFrame(facts), known, secret, regression=secret == AGE, n_attacks=8
        )
        guessed.append(evaluated(evaluator.evaluate(n_jobs=1)).n_baseline / 8)
    assert table_attacks.infer_by_chance(portraits, people, secret).mean() == pytest.approx(np.mean(guessed))


def test_predicates_of_a_case_by_hand() -> None:
    """A score above 0.5 is what a predicate sees. The youngest and the oldest can be singled out by their age."""
    same = {name: np.zeros(3) for name in CELEBA}
    portraits = same | {ETHNICITY: np.array(["white"] * 3, object), AGE: np.array([20, 40, 60])}
    predicates = table_attacks.find_predicates(portraits, len(portraits), np.random.default_rng(0))
    assert table_attacks.hold(predicates, portraits).sum(axis=0).tolist() == [1, 1]
    people = dict(portraits) | {AGE: np.array([19, 61, 62]), "Smiling": np.array([0.4, 0.4, 0.4])}
    held = table_attacks.hold(predicates, people).T.tolist()
    assert sorted(held) == [[False, True, True], [True, False, False]]
    people["Smiling"] = np.array([0.6, 0.6, 0.4])
    assert table_attacks.hold(predicates, people)[:2].sum() == 0


def test_predicates_that_single_out_by_the_library_hold_for_one_person() -> None:
    facts = as_facts(PEOPLE), as_facts(PORTRAITS)
    evaluator = evaluators.SinglingOutEvaluator(*map(pd.DataFrame, facts), n_attacks=40, n_cols=10, seed=0).evaluate()
    predicates = evaluator.queries()
    assert 0 < len(predicates) == evaluated(evaluator).n_success
    assert (table_attacks.hold(predicates, PEOPLE).sum(axis=0) == 1).all()


def test_predicates_are_seeded() -> None:
    """Anonymeter's own random predicates differ from call to call: Polars gives the values of text in any order."""
    for make in (table_attacks.find_predicates, table_attacks.guess_predicates):
        first, second, third = (make(PORTRAITS, 10, np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert list(map(str, first)) == list(map(str, second)) != list(map(str, third))
        assert len(first) == 40
    found = table_attacks.find_predicates(PORTRAITS, 10, np.random.default_rng(0))
    assert (table_attacks.hold(found, PORTRAITS).sum(axis=0) == 1).all()


def test_people_who_are_all_alike_have_no_predicates(caplog: pytest.LogCaptureFixture) -> None:
    portraits = {name: values[[0] * 5] for name, values in PORTRAITS.items()}
    with caplog.at_level(logging.DEBUG):
        assert table_attacks.find_predicates(portraits, 10, np.random.default_rng(0)) == []
    assert not caplog.records, "it is nothing to be warned of"
    assert table_attacks.hold([], PEOPLE).shape == (40, 0)


def test_the_residual_risk_is_that_of_the_library() -> None:
    attacked, control = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 0, 0])
    theirs = confidence.residual_success(confidence.SuccessRate(0.75, 0), confidence.SuccessRate(0.25, 0))
    assert residual(attacked, control).value == pytest.approx(theirs.value)
