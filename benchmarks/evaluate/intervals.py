"""Means of figures over images, with their confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .types import Vector

_REMEMBERED = 1000  # up to so many images, resamples are kept: 16 MB


@dataclass(frozen=True)
class Interval:
    """A figure, such as a mean, and its 95 % confidence interval.

    Attributes:
        value: the figure.
        low, high: ends of the interval.
        of: number of values.
    """

    value: float
    low: float
    high: float
    of: int


def bootstrap(values: Vector, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of values (n,) and its bootstrap interval; images are drawn with replacement."""
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return percentiles(float(values.mean()), resampled_means(values, resamples, seed), len(values))


def resampled_means(values: Vector, resamples: int = 2000, seed: int = 0) -> Vector:
    """The means (resamples,) of values (n,) that are drawn with replacement; equal seeds draw the same images."""
    n = len(values)
    if n <= _REMEMBERED:
        return _draws(n, resamples, seed) @ values / n
    rng = np.random.default_rng(seed)
    return np.array([values[rng.integers(n, size=n)].mean() for _ in range(resamples)])


@lru_cache(maxsize=64)
def _draws(n: int, resamples: int, seed: int) -> Vector:
    """How often each of n images is in each resample (resamples, n); a report needs the same ones many times."""
    rng = np.random.default_rng(seed)
    rows = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples)]
    return np.stack(rows).astype(np.float64)


def percentiles(value: float, resampled: Sequence[float] | Vector, of: int) -> Interval:
    """The percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    If the figure is 0 or 1, resamples are all alike or nearly so: the interval then reaches to the exact limit of a
    binomial proportion at least (Clopper and Pearson, 1934).

    Args:
        value: the figure of all images.
        resampled: the figures of the resamples; NaN, where a resample has none, is left out.
        of: number of values.
    """
    low, high = map(float, np.nanquantile(resampled, [0.025, 0.975]))
    limit = 1 - (0.05 / 2) ** (1 / of)
    if value == 0:
        high = max(high, limit)
    if value == 1:
        low = min(low, 1 - limit)
    return Interval(value, low, high, of)
