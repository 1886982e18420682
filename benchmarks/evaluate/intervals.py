"""Means of figures over images, with their confidence intervals."""

from dataclasses import dataclass

import numpy as np

from .types import Vector


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
    n, rng = len(values), np.random.default_rng(seed)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    limit = 1 - (0.05 / 2) ** (1 / n)
    if (values == 0).all() or (values == 1).all():
        low, high = (0.0, limit) if values[0] == 0 else (1 - limit, 1.0)
        return Interval(float(values[0]), low, high, n)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = map(float, np.quantile(means, [0.025, 0.975]))
    return Interval(float(values.mean()), low, high, n)
