"""Coarser words, on attributes that hypothesis generates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import PromptStyle, in_words, write_prompts
from anon_runtime.guard.words import DECADE, HALF_DECADE, LEFT_OUT, NOBODY, Frequencies, agreement, coarsen
from anon_runtime.types import Attributes

scores = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)  # equal scores occur often
persons = st.fixed_dictionaries(
    {"Ethnic": st.sampled_from(ETHNICITIES), "Age": st.integers(0, 100), **dict.fromkeys(CELEBA, scores)}
)
frequencies = st.dictionaries(st.sampled_from(CELEBA), st.integers(0, 50)).map(lambda having: Frequencies(50, having))
levels = st.integers(0, 13)
OPTIONAL = len(CELEBA) - 1  # Male is always said


@given(person=persons, level=levels, shares=frequencies, data=st.data())
def test_coarser_words_depend_on_the_person_only(
    person: Attributes, level: int, shares: Frequencies, data: st.DataObject
) -> None:
    before = dict(person)
    coarse = coarsen(person, level, shares)
    shuffled = dict(data.draw(st.permutations(list(person.items()))))
    assert coarsen(shuffled, level, shares) == coarse
    assert person == before
    assert list(coarse) == [name for name in person if name in coarse]  # prompts list attributes in this order


@given(person=persons, level=levels, shares=frequencies)
def test_each_level_only_leaves_out(person: Attributes, level: int, shares: Frequencies) -> None:
    finer, coarser = coarsen(person, level, shares), coarsen(person, level + 1, shares)
    assert coarser.keys() <= finer.keys()
    assert {"Ethnic", "Age", "Male"} <= coarser.keys()
    assert all(coarser[name] == person[name] for name in coarser if name != "Age")


@given(person=persons, shares=frequencies)
def test_low_levels_change_the_age_only(person: Attributes, shares: Frequencies) -> None:
    assert coarsen(person, 0, shares) == person
    for level in (HALF_DECADE, DECADE):
        assert coarsen(person, level, shares) == {**person, "Age": coarsen(person, level)["Age"]}


@pytest.mark.parametrize(
    ("age", "half_decade", "decade"),
    [(0, 2, 5), (4, 2, 5), (5, 7, 5), (29, 27, 25), (30, 32, 35), (34, 32, 35), (35, 37, 35), (100, 102, 105)],
)
def test_ages_become_the_middle_of_their_half_decade_and_decade(age: int, half_decade: int, decade: int) -> None:
    person: Attributes = {"Ethnic": "white", "Age": age, "Male": 1.0}
    assert [coarsen(person, level)["Age"] for level in (0, 1, 2, 3, 9)] == [age, half_decade, *[decade] * 3]


@given(person=persons, shares=frequencies, level=st.integers(DECADE + 1, 12))
def test_the_least_certain_and_the_rarest_attributes_are_left_out(
    person: Attributes, shares: Frequencies, level: int
) -> None:
    count = min(LEFT_OUT * (level - DECADE), OPTIONAL)
    coarse = coarsen(person, level, shares)
    names = set(CELEBA) - {"Male"}
    left_out = names - coarse.keys()
    assert count <= len(left_out) <= min(2 * count, OPTIONAL)

    def certainty(name: str) -> float:
        return abs(float(person[name]) - 0.5)

    def sharing(name: str) -> int:
        having = shares.having.get(name, 0)
        return having if float(person[name]) > 0.5 else 50 - having

    for key in (certainty, sharing):
        bound = sorted(key(name) for name in names)[count - 1]
        assert all(key(name) >= bound for name in names - left_out)
        assert sum(key(name) <= bound for name in left_out) >= count


def test_the_highest_levels_leave_out_all_attributes() -> None:
    person: Attributes = {"Ethnic": "white", "Age": 34, **dict.fromkeys(CELEBA, 1.0)}
    assert coarsen(person, 12, NOBODY) == {"Ethnic": "white", "Age": 35, "Male": 1.0}


def test_a_rare_lack_is_left_out_as_well() -> None:
    """Of 50 people, 49 have a beard and 49 have no hat: who lacks the one or wears the other is rare."""
    person: Attributes = {"Ethnic": "white", "Age": 34, **dict.fromkeys(CELEBA, 1.0), "No_Beard": 0.0}
    having = dict.fromkeys(CELEBA, 25) | {"No_Beard": 49, "Wearing_Hat": 1}
    coarse = coarsen(person, DECADE + 1, Frequencies(50, having))
    assert not {"No_Beard", "Wearing_Hat"} & coarse.keys()


@pytest.mark.parametrize("style", ["paper", "natural"])
@given(person=persons, shares=frequencies, level=levels)
def test_prompts_have_no_attribute_that_is_left_out(
    style: PromptStyle, person: Attributes, shares: Frequencies, level: int
) -> None:
    coarse = coarsen(person, level, shares)
    said = [label for prompt in write_prompts(coarse, style) for label in prompt.replace(" , ", ",").split(",")]
    labels = {name: in_words(name) if style == "natural" else name for name in CELEBA if name != "Male"}
    assert {name for name, label in labels.items() if label in {s.strip() for s in said}} == coarse.keys() & labels


@given(words=persons, portrait=persons)
def test_agreement_lies_between_the_opposite_and_the_same(words: Attributes, portrait: Attributes) -> None:
    said: Attributes = {name: float(float(words[name]) > 0.5) for name in CELEBA}
    opposite: Attributes = {name: 1 - float(score) for name, score in said.items()}
    assert agreement(words, {**portrait, **said}) == 1
    assert agreement(words, {**portrait, **opposite}) == 0
    assert 0 <= agreement(words, portrait) <= 1


def test_agreement_is_the_mean_over_the_attributes_that_the_words_say() -> None:
    words: Attributes = {"Ethnic": "white", "Age": 35, "Male": 0.9, "Smiling": 0.2}
    portrait: Attributes = {"Ethnic": "asian", "Age": 70, "Male": 0.75, "Smiling": 0.5, "Bald": 1.0}
    assert agreement(words, portrait) == (0.75 + 0.5) / 2
    assert agreement({"Ethnic": "white", "Age": 35}, portrait) == 0
    assert agreement(words, {"Ethnic": "white", "Age": 35, "Smiling": 0.0}) == 1
