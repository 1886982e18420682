"""k-anonymity, against a comparison of each portrait's words with each person."""

import statistics
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.prompt import write_prompts
from anon_runtime.guard.anonymity import KAnonymity, Said, count_people, say
from anon_runtime.guard.words import NOBODY, coarsen, years_apart
from anon_runtime.types import Attributes

NAMES = ("Male", "Bald", "Smiling", "Wearing_Hat", "Bangs", "Chubby", "Goatee", "Mustache", "Young", "Big_Nose")
scores = st.sampled_from((0.1, 0.3, 0.45, 0.6, 0.9))
persons = st.fixed_dictionaries(
    {"Ethnic": st.sampled_from(("asian", "white")), "Age": st.integers(20, 34), **dict.fromkeys(NAMES, scores)}
)


def fits(words: Attributes, years: int, person: Attributes) -> bool:
    """Whether words are true of a person."""
    same = [(float(words[name]) > 0.5) == (float(person[name]) > 0.5) for name in words if name in NAMES]
    ages = int(words["Age"]) // years == int(person["Age"]) // years
    return all(same) and ages and words["Ethnic"] == person["Ethnic"]


@given(data=st.lists(st.tuples(persons, st.integers(0, 4)), max_size=25))
def test_k_is_the_number_of_people_whom_the_words_fit(data: list[tuple[Attributes, int]]) -> None:
    everybody = [say(person, int(person["Age"])) for person, _ in data]
    spoken = [(coarsen(person, level), years_apart(level)) for person, level in data]
    said = [say(words, int(person["Age"]), years) for (person, _), (words, years) in zip(data, spoken, strict=True)]
    k = [sum(fits(words, years, person) for person, _ in data) for words, years in spoken]
    found = count_people(said, everybody)
    alone, few = sum(one == 1 for one in k), sum(one < 5 for one in k)
    assert found == KAnonymity(len(data), len(set(said)), alone, few, statistics.median(k) if k else 0.0)


@given(data=st.lists(persons, min_size=1, max_size=25))
def test_words_that_leave_nothing_out_are_shared_as_prompts_are(data: list[Attributes]) -> None:
    everybody = [say(person, int(person["Age"])) for person in data]
    # hypothesis may change the order of the names, in which prompts have the words.
    written = [write_prompts({name: person[name] for name in ("Ethnic", "Age", *NAMES)}) for person in data]
    found = count_people(everybody, everybody)
    assert found.prompts == len(set(written))
    assert found.alone == sum(written.count(one) == 1 for one in written)


@given(data=st.lists(persons, min_size=1, max_size=25), level=st.integers(1, 4))
def test_coarser_words_fit_no_fewer_people(data: list[Attributes], level: int) -> None:
    everybody = [say(person, int(person["Age"])) for person in data]
    years = years_apart(level)
    coarse = [say(coarsen(person, level, NOBODY), int(person["Age"]), years) for person in data]
    before, after = count_people(everybody, everybody), count_people(coarse, everybody)
    assert after.alone <= before.alone
    assert after.median >= before.median


def test_attributes_that_no_prompt_mentions_tell_nobody_apart() -> None:
    people: list[Any] = [{"Ethnic": "white", "Age": 30, "Male": 1, "Bald": bald} for bald in (0, 1)]
    assert count_people(*[[say(one, 30) for one in people]] * 2).alone == 2
    assert count_people(*[[say(one, 30, ignore=("Bald",)) for one in people]] * 2).alone == 0


def test_groups_of_five_are_not_fewer_than_five() -> None:
    words = [Said(0, 1, age, 1, "white") for age in (1, 1, 1, 1, 1, 2, 2, 2, 2, 3)]
    assert count_people(words, words) == KAnonymity(10, 3, 1, 5, 4.5)


def test_nobody_has_no_words() -> None:
    assert count_people([], []) == KAnonymity(0, 0, 0, 0, 0.0)
