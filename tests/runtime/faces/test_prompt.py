from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.prompt import in_words, write_prompts
from anon_runtime.types import Attributes

scores = st.fixed_dictionaries({name: st.floats(0, 1) for name in CELEBA})


def algorithm_1(attributes: Mapping[str, Any]) -> tuple[str, str]:
    """The paper's Algorithm 1, line by line."""
    positive = "closeup portrait photo of a " + attributes["Ethnic"] + " " + str(attributes["Age"]) + " "
    if attributes["Male"] > 0.5:
        positive += "man, "
    else:
        positive += "woman, "
    negative = " "
    for key in [k for k in attributes if k not in ("Ethnic", "Age", "Male")]:
        if attributes[key] > 0.5:
            positive += key + " , "
        else:
            negative += key + " , "
    return positive, negative


@given(scores=scores, ethnicity=st.text(min_size=1), age=st.integers(0, 100))
def test_prompts_are_algorithm_1(scores: dict[str, float], ethnicity: str, age: int) -> None:
    attributes: Attributes = {"Ethnic": ethnicity, "Age": age, **scores}
    assert write_prompts(attributes) == algorithm_1(attributes)


def test_one_by_hand() -> None:
    attributes: Attributes = {"Ethnic": "white", "Age": 34, "Male": 0.5, "Smiling": 0.51, "Bald": 0.5}
    assert write_prompts(attributes) == ("closeup portrait photo of a white 34 woman, Smiling , ", " Bald , ")


@given(scores=scores, ignore=st.sets(st.sampled_from(CELEBA)))
def test_ignored_attributes_are_in_neither_prompt(scores: dict[str, float], ignore: set[str]) -> None:
    attributes: Attributes = {"Ethnic": "black", "Age": 50, **scores}
    left = {k: v for k, v in attributes.items() if k not in ignore or k == "Male"}
    assert write_prompts(attributes, ignore=ignore - {"Male"}) == algorithm_1(left)


@given(scores=scores)
def test_natural_style_only_changes_the_words(scores: dict[str, float]) -> None:
    attributes: Attributes = {"Ethnic": "black", "Age": 50, **scores}
    paper, natural = write_prompts(attributes), write_prompts(attributes, "natural")
    for before, after in zip(paper, natural, strict=True):
        for name in sorted(CELEBA, key=len, reverse=True):
            before = before.replace(f"{name} ,", f"{in_words(name)} ,")
        assert after == before.replace(" 50 ", " 50 year old ", 1) if "50" in before else after == before


def test_words() -> None:
    assert in_words("5_o_Clock_Shadow") == "5 o'clock shadow"
    assert in_words("Wearing_Earrings") == "wearing earrings"
    assert all("_" not in in_words(name) and in_words(name).islower() for name in CELEBA)
