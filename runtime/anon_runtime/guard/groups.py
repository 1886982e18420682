"""The guard's decisions by groups of people, without cells that are so small that they tell about a person.

The rules are those of statistical disclosure control (Hundepool et al., Statistical Disclosure Control, 2012): a small
group is merged with others, a small count is hidden, and enough else is merged and hidden with them that nothing
follows by subtraction from a total.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MINIMUM = 10  # people
OTHERS = "others"


class Fact(NamedTuple):
    """The decision about a person's portrait, for counting; it is never written anywhere.

    Attributes:
        ethnicity: the ethnicity that was read from the photo.
        sex: ``man`` or ``woman``.
        age: the age in years.
        released: whether a portrait was released; otherwise it was refused.
        attempt: the last attempt, from 0.
        similarity: the similarity of its portrait to the own original, -1..1; None if it has none.
    """

    ethnicity: str
    sex: str
    age: int
    released: bool
    attempt: int
    similarity: float | None


@dataclass(frozen=True)
class Group:
    """A group of at least ten people.

    Attributes:
        name: the name of the group; ``others`` for groups that are merged, since one of them is too small.
        people: the number of people.
        released: the number of released portraits; None if it is hidden.
        refused: the number of people whose portrait was refused; None if it is hidden.
        retried: the number of people whose portrait took more than one attempt; None if it is hidden.
        similarity: the median similarity to the own original over the last attempts, rounded to two decimals, so that
            it does not point at a line of the journal; None if there are too few.
    """

    name: str
    people: int
    released: int | None
    refused: int | None
    retried: int | None
    similarity: float | None


@dataclass(frozen=True)
class Grouping:
    """The people by one attribute.

    Attributes:
        by: the name of the attribute.
        rows: the groups; empty if there are too few people to show any.
    """

    by: str
    rows: tuple[Group, ...]


def age_band(age: int) -> str:
    """Return the age band of an age in years."""
    return "0-19" if age < 20 else "20-39" if age < 40 else "40-59" if age < 60 else "60+"


_GROUPINGS: Mapping[str, Callable[[Fact], str]] = {
    "ethnicity": lambda fact: fact.ethnicity,
    "sex": lambda fact: fact.sex,
    "age": lambda fact: age_band(fact.age),
}


def group_people(facts: Iterable[Fact], minimum: int = MINIMUM) -> tuple[Grouping, ...]:
    """Return the decisions by ethnicity, by sex and by age band.

    Args:
        facts: the decision for each person.
        minimum: the number of people below which a cell is not shown.
    """
    everybody = list(facts)
    return tuple(_group(by, everybody, label, minimum) for by, label in _GROUPINGS.items())


def _group(by: str, facts: Sequence[Fact], label: Callable[[Fact], str], minimum: int) -> Grouping:
    groups: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[label(fact)].append(fact)
    merged = choose_merged({name: len(own) for name, own in groups.items()}, minimum)
    rows = {name: own for name, own in sorted(groups.items()) if name not in merged}
    if merged:
        rows[OTHERS] = [fact for name in sorted(merged) for fact in groups[name]]
    if sum(map(len, rows.values())) < minimum:
        return Grouping(by, ())
    people = [len(own) for own in rows.values()]
    refused = [sum(not fact.released for fact in own) for own in rows.values()]
    retried = [sum(fact.attempt > 0 for fact in own) for own in rows.values()]
    no_refusals, no_retries = choose_hidden(refused, people, minimum), choose_hidden(retried, people, minimum)
    return Grouping(
        by,
        tuple(
            Group(
                name,
                people[i],
                None if i in no_refusals else people[i] - refused[i],
                None if i in no_refusals else refused[i],
                None if i in no_retries else retried[i],
                _median(own, minimum),
            )
            for i, (name, own) in enumerate(rows.items())
        ),
    )


def choose_merged(sizes: Mapping[str, int], minimum: int) -> set[str]:
    """Return the groups that are merged: the small ones, and the next larger ones if the rest would give them away.

    Args:
        sizes: the number of people by group.
        minimum: the size below which a group is small.
    """
    merged: set[str] = set()
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        hidden = sum(sizes[other] for other in merged)
        if sizes[name] >= minimum and (not merged or hidden >= minimum):  # a single one would be small
            break
        merged.add(name)
    return merged


def choose_hidden(parts: Sequence[int], wholes: Sequence[int], minimum: int) -> set[int]:
    """Return the rows of a table in which a count is hidden.

    The sum of the counts is known to the reader. A row is hidden if the count or its rest is small, and further rows
    are hidden until the sum of the hidden ones tells no single count. Nothing is hidden if it holds for nobody or for
    everybody.

    Args:
        parts: the count of each row.
        wholes: the number of people of each row, which the reader knows.
        minimum: the number below which a count is small.
    """
    if sum(parts) in (0, sum(wholes)):
        return set()
    hidden = {i for i, part in enumerate(parts) if min(part, wholes[i] - part) < minimum}
    for i in sorted(range(len(parts)), key=lambda i: (wholes[i], i)):
        most = sum(wholes[j] for j in hidden)
        if not hidden or (len(hidden) > 1 and 0 < sum(parts[j] for j in hidden) < most):
            break
        hidden.add(i)
    return hidden


def _median(facts: Sequence[Fact], minimum: int) -> float | None:
    known = [fact.similarity for fact in facts if fact.similarity is not None]
    return round(statistics.median(known), 2) if len(known) >= minimum else None
