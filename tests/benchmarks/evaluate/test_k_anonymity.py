import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.types import Attributes
from benchmarks.evaluate.k_anonymity import IGNORABLE, as_attributes, best_to_ignore, count, in_decades
from benchmarks.evaluate.predictors import FaceEngines


def person(age: int = 34, home: str = "white", **present: float) -> Attributes:
    return {"Ethnic": home, "Age": age, **{name: present.get(name, 0.0) for name in CELEBA}}


def test_a_case_by_hand() -> None:
    people = [person(), person(Smiling=0.4), person(Smiling=0.6), person(age=36), person(home="black")]
    found = count(people)
    assert (found.people, found.prompts, found.alone, found.fewer_than_five, found.median) == (5, 4, 3, 5, 1)
    assert count(people, ["Smiling"]).alone == 2, "the first three are alike without it"
    assert count([in_decades(p) for p in people], ["Smiling"]).alone == 1, "34 and 36 are both 30"
    assert count([person()] * 5).fewer_than_five == 0


def test_a_group_shares_its_prompts_with_everybody() -> None:
    people = [person(), person(), person(age=50)]
    assert count(people, among=np.array([True, False, True])).alone == 1
    assert count(people, among=np.array([True, False, True])).people == 2
    assert count(people, among=np.zeros(3, bool)).people == 0


def test_the_attribute_that_makes_people_unique_comes_first() -> None:
    people = [person(Smiling=i % 2, Bald=float(i == 0)) for i in range(8)]
    (first, left), (second, last), *_ = best_to_ignore(people)
    assert count(people).alone == 1
    assert (first, left.alone) == ("Bald", 0)
    assert (second, last.prompts) == ("Smiling", 1)


def test_fewer_attributes_give_fewer_prompts() -> None:
    rng = np.random.default_rng(0)
    people: list[Attributes] = [person() | {name: rng.random() for name in CELEBA} for _ in range(30)]
    steps = best_to_ignore(people)
    prompts = [count(people).prompts, *(left.prompts for _, left in steps)]
    assert sorted(name for name, _ in steps) == sorted(IGNORABLE)
    assert prompts == sorted(prompts, reverse=True)


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(ETHNICITIES), st.booleans()), min_size=1, max_size=40))
def test_counts_agree_with_each_other(facts: list[tuple[int, str, bool]]) -> None:
    people = [person(age, home, Male=float(male)) for age, home, male in facts]
    found = count(people)
    assert found.prompts == len(set(facts))
    assert found.alone == sum(facts.count(fact) == 1 for fact in facts)
    assert found.alone <= found.fewer_than_five <= found.people


def test_readings_become_attributes() -> None:
    row = np.zeros(len(FaceEngines.columns))
    row[FaceEngines.columns.index("Smiling")] = 0.7
    row[FaceEngines.columns.index("black")] = 1
    row[FaceEngines.columns.index("Age")] = 41
    (own,) = as_attributes(np.stack([row, np.full(len(row), np.nan)]))
    assert own == pytest.approx(person(41, "black", Smiling=0.7))
