"""The calibration of a face-recognition network: how similar it finds different people.

The upper tail of the similarities is described by a generalized Pareto distribution, fitted by probability-weighted
moments (Hosking & Wallis, 1987). Pairs that share a person are not independent, so that the bootstrap draws people, not
pairs (Bolle, Ratha & Pankanti, 2004).
"""

import numpy as np
from numpy.typing import NDArray

from anon_runtime.bundle.identity import Calibration, Tail
from anon_runtime.errors import UsageError

Numbers = NDArray[np.float64]
TAIL_RATE = 0.01  # the share of pairs that the tail is fitted to
# The false match rates that are measured, as far as at least so many pairs reach them.
RATES = tuple(lead * 10.0**-power for power in range(1, 10) for lead in (5, 2, 1))
MIN_PAIRS = 10
MIN_PEOPLE = 100  # they are 4,950 pairs, of which the tail is fitted to 49
RESAMPLES = 200
BINS = 80
DIGITS = 5


def calibrate(embeddings: NDArray[np.float32], people: NDArray[np.int64], data: str) -> Calibration:
    """Measure the similarities of different people.

    The result depends on nothing but the arguments: the bootstrap's random numbers have a fixed seed.

    Args:
        embeddings: (n, d), of length 1.
        people: (n,), the number of each face's person.
        data: the name of the set of faces.

    Raises:
        UsageError: there are fewer people than `MIN_PEOPLE`, or all of them are equally similar.
    """
    members, person = np.unique(people, return_inverse=True)
    if len(members) < MIN_PEOPLE:
        why = f"it shows {len(members)} people, where near copies of a photo count as one"
        raise UsageError(f"calibration on {data}", why, f"use photos of at least {MIN_PEOPLE} people")
    first, second = (rows.astype(np.int32) for rows in np.triu_indices(len(person), k=1))
    apart = person[first] != person[second]
    first, second = first[apart], second[apart]
    similarities = (embeddings @ embeddings.T)[first, second].astype(np.float64)
    if not similarities.max() > similarities.min():
        raise UsageError(
            f"calibration on {data}", "the network finds all people equally similar", "use another network"
        )
    counts = np.histogram(np.clip(similarities, -1, 1), BINS, (-1, 1))[0]
    order = np.argsort(-similarities, kind="stable")
    falling, first, second = similarities[order], person[first[order]], person[second[order]]
    rates = [rate for rate in RATES if rate * len(falling) >= MIN_PAIRS]
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(len(members), size=len(members)), minlength=len(members))
        resampled.append(fit_tail(falling, drawn[first] * drawn[second]))
    return Calibration(
        data=data,
        people=len(members),
        pairs=len(falling),
        rates=tuple(round(rate, 10) for rate in rates),
        thresholds=tuple(round(float(falling[round(rate * len(falling)) - 1]), DIGITS) for rate in rates),
        tail=fit_tail(falling, np.ones(len(falling))),
        resampled=tuple(resampled),
        histogram=tuple(counts.tolist()),
    )


def fit_tail(falling: Numbers, weights: NDArray[np.number]) -> Tail:
    """Fit a generalized Pareto distribution to the largest numbers, by probability-weighted moments.

    Args:
        falling: (n,), numbers from the largest to the smallest.
        weights: (n,), how often each of them counts, 0 or more.
    """
    above = np.cumsum(weights)
    end = int(np.searchsorted(above, TAIL_RATE * above[-1]))
    start = falling[end]
    excess, own = falling[:end] - start, weights[:end] / above[end - 1]
    beyond = above[:end] / above[end - 1] - own / 2  # the share of the tail that is larger, in the middle of each step
    mean, weighted = float(own @ excess), float(own @ (excess * beyond))
    shape = 2 - mean / (mean - 2 * weighted)
    scale = 2 * mean * weighted / (mean - 2 * weighted)
    return Tail(*(round(float(number), DIGITS) for number in (start, TAIL_RATE, shape, scale)))
