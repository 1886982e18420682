"""Coarser words for a person: less is said about the person, and more people share the words.

If a generator remembers somebody, another seed does not help as long as the words are the same. Each level leaves out
more: the age becomes the middle of its half decade, then of its decade; then the attributes are left out of which the
network is least certain, and those that the fewest people of the run share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Attributes

HALF_DECADE, DECADE = 1, 2  # levels
LEFT_OUT = 4  # attributes of each kind for each level above that of the decade
_KEPT = ("Ethnic", "Age", "Male")


@dataclass(frozen=True)
class Frequencies:
    """How many people of a run have each attribute.

    Attributes:
        people: the number of people.
        having: the number of people with a score above 0.5, by attribute.
    """

    people: int
    having: dict[str, int]

    def sharing(self, name: str, score: float) -> int:
        """Return the number of people of whom a prompt says the same about an attribute.

        Args:
            name: the attribute.
            score: its score, 0..1.
        """
        having = self.having.get(name, 0)
        return having if score > 0.5 else self.people - having


NOBODY = Frequencies(0, {})


def count_attributes(people: Sequence[Attributes]) -> Frequencies:
    """Return how many of some people have each attribute.

    Args:
        people: the attributes of each of them, all with the same names.
    """
    names = [name for name in people[0] if name != "Ethnic"] if people else []
    return Frequencies(len(people), {name: sum(float(one[name]) > 0.5 for one in people) for name in names})


def coarsen(attributes: Attributes, level: int, frequencies: Frequencies = NOBODY) -> Attributes:
    """Return attributes that say less about a person; attributes that are left out reach no prompt.

    Args:
        attributes: the attributes of a face.
        level: 0 changes nothing; each higher level says less.
        frequencies: how many people of the run have each attribute.
    """
    result = dict(attributes)
    if (years := years_apart(level)) > 1:
        result["Age"] = int(result["Age"]) // years * years + years // 2
    if level > DECADE:
        count = LEFT_OUT * (level - DECADE)
        scores = {name: float(score) for name, score in attributes.items() if name not in _KEPT}
        uncertain = sorted(scores, key=lambda name: (abs(scores[name] - 0.5), name))[:count]
        rare = sorted(scores, key=lambda name: (frequencies.sharing(name, scores[name]), name))[:count]
        for name in {*uncertain, *rare}:
            del result[name]
    return result


def years_apart(level: int) -> int:
    """Return the number of years that words of a level do not tell apart.

    Args:
        level: see `coarsen`.
    """
    return 1 if level < HALF_DECADE else 5 if level < DECADE else 10


def agreement(words: Attributes, portrait: Attributes) -> float:
    """Return how well the attributes of a portrait agree with the words that it was painted from, 0..1.

    Args:
        words: the attributes that the prompts say.
        portrait: the attributes of the portrait.
    """
    scores: Sequence[tuple[float, float]] = [
        (float(portrait[name]), float(float(score) > 0.5))
        for name, score in words.items()
        if name not in ("Ethnic", "Age") and name in portrait
    ]
    return float(np.mean([1 - abs(seen - said) for seen, said in scores])) if scores else 0.0
