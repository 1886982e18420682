"""Means of figures over images, with their confidence intervals."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .types import Vector

_REMEMBERED = 1000  # up to so many images, resamples are kept: 16 MB


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval.

    Attributes:
        value: the mean.
        low, high: ends of the interval.
        of: number of values.
    """

    value: float
    low: float
    high: float
    of: int


def bootstrap(values: Vector, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of values (n,) and its percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    Images are drawn with replacement. If all values are 0 or all are 1, every resample is the same, and the exact limit
    of a binomial proportion is used in its place (Clopper and Pearson, 1934).
    """
    n = len(values)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    limit = 1 - (0.05 / 2) ** (1 / n)
    if (values == 0).all() or (values == 1).all():
        low, high = (0.0, limit) if values[0] == 0 else (1 - limit, 1.0)
        return Interval(float(values[0]), low, high, n)
    low, high = map(float, np.quantile(resampled_means(values, resamples, seed), [0.025, 0.975]))
    return Interval(float(values.mean()), low, high, n)


def resampled_means(values: Vector, resamples: int = 2000, seed: int = 0) -> Vector:
    """The means (resamples,) of values (n,) that are drawn with replacement; equal seeds draw the same images."""
    n = len(values)
    if n <= _REMEMBERED:
        return _shares(n, resamples, seed) @ values
    rng = np.random.default_rng(seed)
    return np.array([values[rng.integers(n, size=n)].mean() for _ in range(resamples)])


@lru_cache(maxsize=64)
def _shares(n: int, resamples: int, seed: int) -> Vector:
    """The share of each of n images in each resample (resamples, n); a report needs the same ones many times."""
    rng = np.random.default_rng(seed)
    rows = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples)]
    return np.stack(rows) / n
