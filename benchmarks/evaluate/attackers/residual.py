"""The residual risk of an attack: its success, less what it owes to what people have in common.

Anonymeter (Giomi et al., 2023) attacks people whose portraits the attacker has, and people whose portraits are not
among them: the control. The residual risk is

    (success - success on the control) / (1 - success on the control),

between 0 and 1; below 0 it counts as 0.

All people are split into two halves at random, several times. The attacker has the portraits of each half once, and the
other half is the control. A person's result is the mean over the splits, and intervals are over people.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
from scipy.stats import bootstrap as resample

from ..intervals import Interval, bootstrap
from ..people import folds
from ..types import Figures, Mask, Vector

SPLITS = 5

# An attack on all n people with the portraits of some of them (n,): on whom it succeeds, and how likely a guess does;
# both (n, m) for m variants of the attack.
Attack = Callable[[Mask], tuple[Mask, Vector]]


def halves(count: int) -> Iterator[Mask]:
    """`SPLITS` times two halves of so many people (n,)."""
    for seed in range(SPLITS):
        yield from folds(np.arange(count), 2, seed)


def average(attack: Attack, count: int) -> tuple[Vector, Vector, Vector]:
    """Success of an attack on each person, on each as control, and of a guess on each: means of `halves`, (n, m)."""
    parts = []
    for half in halves(count):
        hits, chance = attack(half)
        inside = half[:, None]
        parts.append((inside * hits, ~inside * hits, inside * chance))
    attacked, control, baseline = (np.sum(part, axis=0) / SPLITS for part in zip(*parts, strict=True))
    return attacked, control, baseline  # each person is in one half of each split, and outside the other


def figures(attacked: Vector, control: Vector, baseline: float) -> Figures:
    """Success on people (n,), on the same people as control, that of guessing, and the residual risk."""
    return {
        "attack": asdict(bootstrap(attacked)),
        "control": asdict(bootstrap(control)),
        "baseline": baseline,
        "risk": asdict(residual(attacked, control)),
    }


def residual(attacked: Vector, control: Vector) -> Interval:
    """The residual risk of people, and its percentile bootstrap interval over them.

    Args:
        attacked: (n,), success of the attack on each person.
        control: (n,), success on the same person as control.

    Returns:
        As `bootstrap` does, it uses the exact limit if the attack succeeds on everybody, or on nobody.
    """
    count = len(attacked)
    if count < 2:
        return Interval(float("nan"), float("nan"), float("nan"), count)
    if (attacked == 0).all() or (attacked == 1).all():
        mean = bootstrap(attacked)
        low, high = _risk(np.array([mean.low, mean.high]), control.mean())
    else:
        found = resample(
            (attacked, control),
            lambda a, c, axis: _risk(a.mean(axis), c.mean(axis)),
            paired=True,
            n_resamples=2000,
            method="percentile",
            rng=0,
        )
        low, high = found.confidence_interval
    return Interval(float(_risk(attacked.mean(), control.mean())), float(low), float(high), count)


def _risk(attack: Vector, control: Vector) -> Vector:
    """Anonymeter's `residual_success`, and 0 where the attack on the control always succeeds."""
    rest = np.where(control < 1, 1 - control, np.inf)
    return np.clip((attack - control) / rest, 0, 1)
