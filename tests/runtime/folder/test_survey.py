"""The survey gives back what it was given, and counts people once."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.casting import Cast
from anon_runtime.folder.discovery import Photo
from anon_runtime.folder.identity import Identity
from anon_runtime.folder.survey import Described, Survey, count
from anon_runtime.types import Attributes, Description, Floats

scores = st.floats(0, 1)
people = st.fixed_dictionaries(
    {"Ethnic": st.sampled_from(("white", "asian")), "Age": st.integers(0, 99), "Male": scores, "Bald": scores}
)


def embedding(number: int) -> Floats:
    """A different embedding for each number."""
    return np.array([number % 7, number // 7, 1, 0], np.float32) / np.float32(2048)


def described(number: int, attributes: Attributes) -> Described:
    """A photo that was described."""
    photo = Photo(Path(f"{number}.jpg"), Path(f"/photos/{number}.jpg"))
    seconds = {"decode": 0.25, "detect": 0.5}
    marks = np.arange(10, dtype=np.float32).reshape(5, 2) + number
    description = Description("", "", attributes, (1.0, 2.5, 30.0, 40.0), seconds, embedding(number), marks)
    return Described(photo, Identity(number, f"{number:032x}"), Cast((description,)))


@given(persons=st.lists(people, max_size=9))
def test_what_was_added_comes_back(persons: list[Attributes]) -> None:
    survey = Survey()
    items = [described(number, person) for number, person in enumerate(persons)]
    for item in items:
        survey.add(item)
    assert len(survey) == len(items)
    for back in (list(survey), list(pickle.loads(pickle.dumps(survey)))):
        assert back == items
        assert all(isinstance(item.description.attributes["Age"], int) for item in back)
        for number, item in enumerate(back):
            assert np.array_equal(item.description.embedding, embedding(number))


def test_given_attributes_are_kept_once() -> None:
    person: Attributes = {"Ethnic": "white", "Age": 30, "Male": 1}
    survey = Survey(person)
    survey.add(described(3, person))
    assert [item.description.attributes for item in survey] == [person]
    assert count([survey]).having == {}


@pytest.mark.parametrize("shared", [0, 1, 3])
def test_people_of_two_surveys_count_once(shared: int) -> None:
    one, other = Survey(), Survey()
    for number in range(5):
        one.add(described(number, {"Ethnic": "white", "Age": 30, "Male": 1.0, "Bald": number / 4}))
    for number in range(5 - shared, 10 - shared):
        other.add(described(number, {"Ethnic": "white", "Age": 30, "Male": 0.0, "Bald": min(number / 4, 1.0)}))
    found = count([one, other])
    assert found.people == 10 - shared
    assert found.having == {"Age": 10 - shared, "Male": 5, "Bald": 2 + 5 - shared}
