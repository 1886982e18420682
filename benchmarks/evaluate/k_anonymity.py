"""Attribute k-anonymity: a prompt is all that survives of a person, so how many people share each prompt?

Whoever is alone with a prompt could be told from all others by whoever knows the attributes of everybody (Sweeney,
k-anonymity, 2002, with the prompt as quasi-identifier). What is counted are the people of one folder: among more
people, more would share a prompt.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES, Attributes
from anon_runtime.faces.prompt import write_prompts

from .cache import Vector
from .labels import Mask
from .predictors import FaceEngines

IGNORABLE = tuple(name for name in CELEBA if name != "Male")  # the prompt always says man or woman


@dataclass(frozen=True)
class Anonymity:
    """How people share prompts.

    Attributes:
        people: in all.
        prompts: different ones.
        alone: people whose prompt nobody shares (k = 1).
        fewer_than_five: people who share theirs with fewer than four others (k < 5).
        median: of all people, how many have a person's prompt, that person included.
    """

    people: int
    prompts: int
    alone: int
    fewer_than_five: int
    median: float


def as_attributes(reading: Vector) -> list[Attributes]:
    """Readings (n, k) of `FaceEngines` as the runtime has them; images without a face are left out."""
    people = []
    for row in reading[~np.isnan(reading).any(axis=1)]:
        own = dict(zip(FaceEngines.columns, row.tolist(), strict=True))
        home = max(ETHNICITIES, key=lambda name: own[name])
        people.append({"Ethnic": home, "Age": int(own["Age"])} | {name: own[name] for name in CELEBA})
    return people


def in_decades(person: Attributes) -> Attributes:
    """A person whose age is rounded down to a decade: 34 becomes 30."""
    return person | {"Age": int(person["Age"]) // 10 * 10}


def count(people: Sequence[Attributes], ignore: Collection[str] = (), among: Mask | None = None) -> Anonymity:
    """How people share prompts, positive and negative ones together.

    Args:
        people: all of them.
        ignore: attributes that are left out of both prompts.
        among: those who are counted; they share their prompts with everybody.
    """
    prompts = [write_prompts(person, ignore=ignore) for person in people]
    sizes = Counter(prompts)
    counted = [prompt for prompt, one in zip(prompts, among, strict=True) if one] if among is not None else prompts
    own = np.array([sizes[prompt] for prompt in counted])
    alone, few = int((own == 1).sum()), int((own < 5).sum())
    return Anonymity(len(counted), len({*counted}), alone, few, float(np.median(own)) if len(own) else 0.0)


def best_to_ignore(people: Sequence[Attributes]) -> list[tuple[str, Anonymity]]:
    """Attributes in the order in which leaving them out, one after the other, leaves the fewest people alone.

    Greedy: each is the best one beside those before it, which need not give the best set of its size. Among equals,
    the one that leaves fewer different prompts.

    Returns:
        Each attribute, and how people share prompts without it and those before it.
    """
    chosen: list[tuple[str, Anonymity]] = []
    ignored: tuple[str, ...] = ()
    for _ in tqdm(IGNORABLE, desc="attributes to ignore", unit="attribute"):
        left = [name for name in IGNORABLE if name not in ignored]
        found = {name: count(people, (*ignored, name)) for name in left}
        best = min(left, key=lambda name: (found[name].alone, found[name].prompts))
        ignored = (*ignored, best)
        chosen.append((best, found[best]))
    return chosen
