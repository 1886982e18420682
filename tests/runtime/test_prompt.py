from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.attributes import CELEBA
from anon_runtime.prompt import write_prompts

scores = st.fixed_dictionaries({name: st.floats(0, 1) for name in CELEBA})


def algorithm_1(attributes: dict) -> tuple[str, str]:
    """A transcription of the paper's Algorithm 1, line by line."""
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
def test_prompts_are_algorithm_1(scores: dict, ethnicity: str, age: int) -> None:
    attributes = {"Ethnic": ethnicity, "Age": age} | scores
    assert write_prompts(attributes) == algorithm_1(attributes)


def test_one_by_hand() -> None:
    attributes = {"Ethnic": "white", "Age": 34, "Male": 0.5, "Smiling": 0.51, "Bald": 0.5}
    assert write_prompts(attributes) == ("closeup portrait photo of a white 34 woman, Smiling , ", " Bald , ")
