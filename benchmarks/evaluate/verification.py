"""Verification: an attacker sees one portrait and one photo, and says whether they show the same person.

The attacker says yes if the similarity is above a threshold. The threshold is set on pairs of original photos of
different people, at a false accept rate (FAR) as face recognition uses it. The true accept rate (TAR) is the share of
portraits that are then accepted with their own original. Beside it stands the chance level: the share of pairs of a
portrait and another person's original that are accepted at the same threshold. The equal error rate (EER) is that of
portraits with their own originals against portraits with other people's. It needs no threshold that was set before.

Near copies of a photo show one person (see `people.find_people`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import percentiles
from .reidentification import Doubles, Metric, similarity
from .types import Figures, Mask, Vector

FARS = (1e-2, 1e-3)
FEWEST = 10  # pairs of originals that have to be above a threshold
_RESAMPLES = 500
_DIGITS = 9  # of similarities that count: sums in another order differ in the last one
Integers = NDArray[np.int64]


def verify(
    portraits: Vector,
    originals: Vector,
    own: Sequence[int],
    people: Integers,
    metric: Metric,
    masks: Mapping[str, Mask],
) -> Figures:
    """TAR at each of `FARS`, chance level and EER, of all portraits and by group.

    Intervals are 95 % percentile bootstrap intervals over people: each resample draws people with replacement and takes
    the pairs among those who were drawn (the vertex bootstrap of Snijders and Borgatti, Non-parametric standard errors
    and tests for network statistics, Connections, 1999), so that the threshold varies as well. The time grows with the
    number of pairs.

    Args:
        portraits: embeddings (n, d).
        originals: embeddings (m, d).
        own: row of each portrait's original.
        people: (m,), the person of each original.
        metric: see `reidentification.similarity`.
        masks: (n,) by the name of a group, the portraits in it. Thresholds are the same for all groups.

    Returns:
        ``thresholds``, the similarity by ``FAR ...``; ``all``, and ``groups`` with the same figures by group: an
        interval for each ``TAR at FAR ...``, with the chance level under ``chance``, and for ``EER``. Where there are
        too few pairs, ``value`` is None and ``reason`` says why.
    """
    rows, numbers = np.asarray(own, np.int64), np.unique(people, return_inverse=True)[1]
    thresholds = _Thresholds.of(originals, numbers, metric)
    trials = _Trials.of(portraits, originals, rows, numbers, metric)
    fars = [far for far in FARS if far * len(thresholds.similarities) >= FEWEST]
    groups = np.stack([np.ones(len(rows), bool), *masks.values()])

    def score(drawn: Integers) -> Doubles:
        """Figures (g, 2 f + 1) by group: TAR and chance level at each FAR, then EER."""
        weights = groups * drawn[trials.person].astype(np.float32)
        rates = [rate for at in thresholds.at(fars, drawn) for rate in trials.accepted(weights, drawn, at)]
        return np.stack([*rates, trials.equal_error_rates(weights, drawn)], axis=1)

    count, rng = int(numbers.max()) + 1, np.random.default_rng(0)
    everyone = np.ones(count, np.int64)
    values = score(everyone)
    resampled = np.stack([score(rng.multinomial(count, everyone / count)) for _ in range(_RESAMPLES)])

    def interval(group: int, column: int) -> Figures:
        value, of = float(values[group, column]), int(groups[group].sum())
        if np.isnan(value):
            return {"value": None, "of": of, "reason": "no pairs of different people"}
        return asdict(percentiles(value, resampled[:, group, column], of))

    def figures(group: int) -> Figures:
        found: Figures = {}
        for far in FARS:
            if far in fars:
                column = 2 * fars.index(far)
                found[f"TAR at FAR {far:g}"] = interval(group, column) | {"chance": interval(group, column + 1)}
            else:
                reason = f"fewer than {FEWEST} of {len(thresholds.similarities)} pairs of originals are above it"
                found[f"TAR at FAR {far:g}"] = {"value": None, "of": int(groups[group].sum()), "reason": reason}
        return found | {"EER": interval(group, -1)}

    return {
        "thresholds": {f"FAR {far:g}": at for far, at in zip(fars, thresholds.at(fars, everyone), strict=True)},
        "all": figures(0),
        "groups": {name: figures(group) for group, name in enumerate(masks, start=1)},
    }


@dataclass(frozen=True)
class _Thresholds:
    """Pairs of originals of different people.

    Attributes:
        similarities: (q,), the highest first.
        first, second: (q,), the people of each pair, 0 to p - 1.
    """

    similarities: Doubles
    first: Integers
    second: Integers

    @classmethod
    def of(cls, originals: Vector, people: Integers, metric: Metric) -> "_Thresholds":
        first, second = np.nonzero(np.triu(people[:, None] != people))
        found = similarity(originals, originals, metric)[first, second].round(_DIGITS)
        order = np.argsort(-found)
        return cls(found[order], people[first[order]], people[second[order]])

    def at(self, fars: Sequence[float], drawn: Integers) -> list[float]:
        """For each FAR the lowest of the similarities above which there is no more than this share of the pairs.

        Args:
            fars: 0..1.
            drawn: (p,), how often each person was drawn.
        """
        above = np.cumsum(drawn[self.first] * drawn[self.second])
        places = np.searchsorted(above, above[-1:] * np.array(fars), "right")
        thresholds: list[float] = self.similarities[np.minimum(places, len(above) - 1)].tolist()
        return thresholds


@dataclass(frozen=True)
class _Trials:
    """Pairs of portraits and originals.

    Attributes:
        person: (n,), the person of each portrait, 0 to p - 1.
        people: (m,), the person of each original.
        genuine: (n,), similarity of each portrait to its own original.
        others: (n, m), to the originals of other people; -inf for those of its own person.
        step: (n,), number of each genuine similarity among all s different ones, the lowest being 0.
        cell: (n * m,), row of each of the others times 2 s + 2, plus its place: 0 below the first step, 1 at it, 2
            above it, ... 2 s above the last one, and 2 s + 1 for those of its own person.
    """

    person: Integers
    people: Integers
    genuine: Doubles
    others: Doubles
    step: Integers
    cell: Integers

    @classmethod
    def of(cls, portraits: Vector, originals: Vector, own: Integers, people: Integers, metric: Metric) -> "_Trials":
        found = similarity(portraits, originals, metric).round(_DIGITS)
        genuine, different = found[np.arange(len(own)), own], people[own][:, None] != people
        steps, step = np.unique(genuine, return_inverse=True)
        place = np.searchsorted(steps, found, "left") + np.searchsorted(steps, found, "right")
        place = np.where(different, place, 2 * len(steps) + 1)
        cell = place + np.arange(len(own))[:, None] * (2 * len(steps) + 2)
        return cls(people[own], people, genuine, np.where(different, found, -np.inf), step, cell.ravel())

    def accepted(self, weights: Vector, drawn: Integers, threshold: float) -> tuple[Doubles, Doubles]:
        """Shares (g,) of genuine pairs and of other pairs that are above a threshold; see `equal_error_rates`."""
        # Of numbers of this type, products of matrices are fast; whole numbers below 2 ** 24 are exact.
        among = drawn[self.people].astype(np.float32)
        above, all_others = (
            weights @ ((self.others > limit).astype(np.float32) @ among) for limit in (threshold, -np.inf)
        )
        return _share(weights @ (self.genuine > threshold), weights.sum(axis=1)), _share(above, all_others)

    def equal_error_rates(self, weights: Vector, drawn: Integers) -> Doubles:
        """The rate (g,) at which the same share of genuine pairs is rejected as of other pairs is accepted.

        Between two points of the ROC curve (scikit-learn's ``roc_curve``) both shares are interpolated linearly. The
        EER on the convex hull of the curve (ROCCH-EER) is at most as high. It is not used, because it is below 50 % for
        guessing as well.

        Args:
            weights: (g, n), how often each portrait counts in each group.
            drawn: (p,), how often each person was drawn.
        """
        n, width = len(self.genuine), 2 * int(self.step.max()) + 4
        among = np.tile(drawn[self.people].astype(np.float64), n)
        counts = np.bincount(self.cell, among, n * width).reshape(n, width)[:, :-1]
        rates = []
        for weight, others in zip(weights, weights @ counts, strict=True):
            if not others.any():
                rates.append(np.nan)
                continue
            genuine = np.zeros(width - 1)
            genuine[1::2] = np.bincount(self.step, weight)
            # Shares of genuine pairs that are rejected and of others that are, for thresholds from below to above all.
            rejected, right = (np.append(0, some.cumsum()) / some.sum() for some in (genuine, others))
            rates.append(np.interp(1, rejected + right, rejected))  # rejected = accepted = 1 - right
        return np.array(rates)


def _share(part: Vector, whole: Vector) -> Doubles:
    """Part / whole; NaN where there is nothing."""
    share: Doubles = np.asarray(part, np.float64) / np.where(whole > 0, whole, np.nan)
    return share
