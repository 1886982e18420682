"""k-anonymity of words: the number of people of a run whom the words of a portrait fit.

The words are the only information about a person that reaches a portrait. A person whom alone they fit can be singled
out by somebody who knows the attributes of everybody (Sweeney, k-anonymity, 2002). Coarser words fit more people.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..faces.attributes import CELEBA
from ..types import Attributes

Numbers = NDArray[np.int64]


class Said(NamedTuple):
    """Words about a person, in numbers.

    Attributes:
        affirmed: the attributes that the words affirm, one bit for each.
        mentioned: the attributes that the words affirm or deny, one bit for each.
        age: the age in years, divided by ``years`` and rounded down.
        years: the number of years that the words do not tell apart.
        ethnicity: the ethnicity.
    """

    affirmed: int
    mentioned: int
    age: int
    years: int
    ethnicity: str


@dataclass(frozen=True)
class KAnonymity:
    """Numbers of people whom words fit; k is the number of people whom the words of a portrait fit.

    Attributes:
        people: the number of portraits, each with the words of one person.
        prompts: the number of different words.
        alone: the number of portraits with k = 1.
        fewer_than_five: the number of portraits with k < 5.
        median: the median of k over all portraits; 0 if there are none.
    """

    people: int
    prompts: int
    alone: int
    fewer_than_five: int
    median: float


def say(words: Attributes, age: int, years: int = 1, ignore: Collection[str] = ()) -> Said:
    """Return words in numbers.

    Args:
        words: the attributes that the words mention.
        age: the age of the person in years.
        years: the number of years that the words do not tell apart.
        ignore: attributes that no words mention.
    """
    affirmed = mentioned = 0
    for bit, name in enumerate(CELEBA):
        if name in words and name not in ignore:
            mentioned |= 1 << bit
            affirmed |= int(float(words[name]) > 0.5) << bit
    return Said(affirmed, mentioned, age // years, years, str(words.get("Ethnic", "")))


def count_people(words: Sequence[Said], everybody: Sequence[Said]) -> KAnonymity:
    """Return the k-anonymity of words.

    Args:
        words: the words of each portrait.
        everybody: all words about each person of the run, with ages to the year; each portrait's person is among them.
    """
    kinds: dict[tuple[int, int], list[Said]] = {}
    for one in words:
        kinds.setdefault((one.mentioned, one.years), []).append(one)
    names = {name: number for number, name in enumerate(sorted({one.ethnicity for one in everybody}))}
    people = _table(everybody, names)
    sizes, different = [np.zeros(0, np.int64)], 0
    for (mentioned, years), some in kinds.items():
        known = people // np.array([1, years, 1])
        known[:, 0] &= mentioned
        rows, counts = np.unique(known, axis=0, return_counts=True)
        known_sizes = dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True))
        own = [tuple(row) for row in _table(some, names).tolist()]
        sizes.append(np.array([known_sizes[row] for row in own]))
        different += len(set(own))
    k = np.concatenate(sizes)
    median = float(np.median(k)) if k.size else 0.0
    return KAnonymity(len(k), different, int((k == 1).sum()), int((k < 5).sum()), median)


def _table(words: Sequence[Said], names: dict[str, int]) -> Numbers:
    rows = [(one.affirmed, one.age, names[one.ethnicity]) for one in words]
    return np.array(rows, np.int64).reshape(-1, 3)
