"""The three risks of a table of what was read from portraits: singling out, linkability and inference.

It stands for a table of the originals, as synthetic data does, and is attacked like that; see `table_attacks`.
Predicates and secrets are about attributes that are there or not. Where rows are compared, it is by the scores: a table
of attributes that are there or not is so coarse that hardly anybody is linked even with a copy.
"""

from dataclasses import asdict

import numpy as np

from ...metrics import FEWEST
from ..intervals import bootstrap
from ..people import Numbers
from ..types import Figures, Mask, Vector
from ..utility import INNER, OUTER
from . import table_attacks
from .residual import average, figures, halves
from .tables import Table, as_facts, select_rows

NEIGHBORS = (1, 5)  # portraits that each side of a link leads to; Anonymeter's own number is 1
# Columns of a predicate. With 3 of the 42, Anonymeter's own number, most people have no predicate; with a single one,
# there are about twenty predicates for two hundred people.
COLUMNS = 10


def single_out(people: Table, portraits: Table, faces: Mask) -> Figures:
    """Singling out: a predicate that holds for one portrait holds for one of the people.

    A person's result is the share of the predicates on that person's portrait. People who have none are not counted.
    ``right`` is the share of predicates that hold for that person, and for nobody else.

    Args:
        people: table of n people.
        portraits: table of their portraits.
        faces: (n,), the portraits with a face.
    """
    owners, results, guesses = [], [], []
    for number, half in enumerate(halves(len(faces))):
        rng = np.random.default_rng(number)
        chosen = np.flatnonzero(half & faces)
        table = select_rows(portraits, half & faces)
        predicates = table_attacks.find_predicates(table, COLUMNS, rng)
        owner = chosen[table_attacks.hold(predicates, table).argmax(axis=0)]
        held = table_attacks.hold(predicates, people)
        one, other = held[half].sum(axis=0) == 1, held[~half].sum(axis=0) == 1
        owners.append(owner)
        results.append(np.stack([one, other, one & held[owner, np.arange(len(owner))]], axis=1))
        guess = table_attacks.hold(table_attacks.guess_predicates(table, COLUMNS, rng), people)
        guesses.append((guess[half].sum(axis=0) == 1).mean())
    attacked, control, right = _means_by(np.concatenate(owners), np.concatenate(results)).T
    return figures(attacked, control, float(np.mean(guesses))) | {"right": asdict(bootstrap(right))}


def _means_by(person: Numbers, values: Mask) -> Vector:
    """Means (p, m) of the values (n, m) of each of the p people, whose numbers (n,) are given."""
    number = np.unique(person, return_inverse=True)[1]
    counts = np.bincount(number)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, number, values)
    return sums / counts[:, None]


def link(people: Table, portraits: Table, faces: Mask) -> Figures:
    """Linkability: the inner and the outer face of a person, seen apart, lead to the same portrait.

    Args:
        people, portraits, faces: see `single_out`.

    Returns:
        Figures for each of `NEIGHBORS`.
    """

    def attack(half: Mask) -> tuple[Mask, Vector]:
        table = select_rows(portraits, half & faces)
        chance = table_attacks.link_by_chance(int((half & faces).sum()), NEIGHBORS)
        return table_attacks.link(table, people, (INNER, OUTER), NEIGHBORS), np.tile(chance, (len(half), 1))

    attacked, control, baseline = average(attack, len(faces))
    return {
        str(count): figures(attacked[:, i], control[:, i], float(baseline[:, i].mean()))
        for i, count in enumerate(NEIGHBORS)
    }


def infer(people: Table, portraits: Table, faces: Mask) -> Figures:
    """Inference: the portrait that is most like a person in all other columns tells the last one, the secret.

    Args:
        people, portraits, faces: see `single_out`.

    Returns:
        Figures for each secret, for all of them together (a person's result is their mean), and the name of the worst:
        the one whose risk has the highest lower limit, which of so many can be above 0 by chance. A secret is a column
        of which `FEWEST` people have another value than most people.
    """
    facts = as_facts(people)
    secrets = [name for name in facts if len(faces) - np.unique(facts[name], return_counts=True)[1].max() >= FEWEST]
    if not secrets:
        return {"missing": f"there is no column in which {FEWEST} people differ from the others"}

    def attack(half: Mask) -> tuple[Mask, Vector]:
        table = select_rows(portraits, half & faces)
        hits = [table_attacks.infer(table, people, secret) for secret in secrets]
        chances = [table_attacks.infer_by_chance(table, people, secret) for secret in secrets]
        return np.stack(hits, axis=1), np.stack(chances, axis=1)

    attacked, control, baseline = average(attack, len(faces))
    each = {
        name: figures(attacked[:, i], control[:, i], float(baseline[:, i].mean())) for i, name in enumerate(secrets)
    }
    return {
        "all": figures(attacked.mean(axis=1), control.mean(axis=1), float(baseline.mean())),
        "worst": max(each, key=lambda name: (each[name]["risk"]["low"], each[name]["risk"]["value"])),
        "secrets": each,
    }
