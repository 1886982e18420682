"""k-anonymity of the prompts: the number of people who share each prompt.

The prompt is the only information about a person that reaches the portrait. A person with a unique prompt could be
singled out by somebody who knows the attributes of everybody (Sweeney, k-anonymity, 2002; the prompt is the
quasi-identifier). The people of one folder are counted; among more people, more would share a prompt.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Attributes

from .predictors import FaceEngines
from .types import Mask, Vector

IGNORABLE = tuple(name for name in CELEBA if name != "Male")  # the prompt always contains man or woman


@dataclass(frozen=True)
class KAnonymity:
    """Numbers of people who share prompts; k is the number of people with a person's prompt, including that person.

    Attributes:
        people: number of people.
        prompts: number of different prompts.
        alone: people with k = 1.
        fewer_than_five: people with k < 5.
        median: of k over all people.
    """

    people: int
    prompts: int
    alone: int
    fewer_than_five: int
    median: float


def as_attributes(reading: Vector) -> list[Attributes]:
    """Readings (n, k) of `FaceEngines` in the type of the runtime; images without a face are left out."""
    people: list[Attributes] = []
    for row in reading[~np.isnan(reading).any(axis=1)]:
        own = dict(zip(FaceEngines.columns, row.tolist(), strict=True))
        ethnicity = max(ETHNICITIES, key=own.__getitem__)
        people.append({"Ethnic": ethnicity, "Age": int(own["Age"]), **{name: own[name] for name in CELEBA}})
    return people


def in_decades(person: Attributes) -> Attributes:
    """A person whose age is rounded down to a decade: 34 becomes 30."""
    return person | {"Age": int(person["Age"]) // 10 * 10}


def count(people: Sequence[Attributes], ignore: Collection[str] = (), among: Mask | None = None) -> KAnonymity:
    """k-anonymity of the pairs of positive and negative prompts.

    Args:
        people: all people.
        ignore: attributes that are left out of both prompts.
        among: (n,), the people who are counted; k includes the others as well. None counts everybody.
    """
    prompts = [write_prompts(person, ignore=ignore) for person in people]
    sizes = Counter(prompts)
    counted = [prompt for prompt, one in zip(prompts, among, strict=True) if one] if among is not None else prompts
    own = np.array([sizes[prompt] for prompt in counted])
    alone, few = int((own == 1).sum()), int((own < 5).sum())
    return KAnonymity(len(counted), len({*counted}), alone, few, float(np.median(own)) if len(own) else 0.0)


def best_to_ignore(people: Sequence[Attributes]) -> list[tuple[str, KAnonymity]]:
    """Attributes in the order in which leaving them out makes the fewest people unique, found by greedy search.

    Each attribute is the best one to leave out after those before it; the set of the first n need not be the best set
    of n. Where several are equally good, the one that leaves fewer different prompts comes first.

    Returns:
        Each attribute, and the k-anonymity without it and those before it.
    """
    chosen: list[tuple[str, KAnonymity]] = []
    ignored: tuple[str, ...] = ()
    for _ in tqdm(IGNORABLE, desc="attributes to ignore", unit="attribute"):
        left = [name for name in IGNORABLE if name not in ignored]
        found = {name: count(people, (*ignored, name)) for name in left}
        best = min(left, key=lambda name: (found[name].alone, found[name].prompts))
        ignored = (*ignored, best)
        chosen.append((best, found[best]))
    return chosen
