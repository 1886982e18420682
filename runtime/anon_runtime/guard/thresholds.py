"""The similarity from which on a portrait counts as the same person, found by its false match rate.

The false match rate is the share of pairs of different people that are at least as similar (ISO/IEC 19795-1). Rates
that the calibration measured are read from its quantiles. Lower rates are extrapolated with a generalized Pareto
distribution (Pickands, 1975; Coles, 2001, chapter 4), whose interval says how far it can be trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle.identity import Calibration, Tail
from ..faces.geometry import Reals

INTERVAL = (0.025, 0.975)  # the quantiles of the resampled tails between which 95 % of them lie
CARRIED_PAIRS = 0.1  # a rate at which fewer of the measured pairs than this are expected is too far from the data


@dataclass(frozen=True)
class Threshold:
    """The similarity that different people reach with a false match rate.

    Attributes:
        value: the similarity; it may exceed 1, which no pair of faces reaches.
        low: the lower end of its 95 % interval.
        high: the upper end of its 95 % interval.
        rate: the false match rate.
        carried: whether the calibration data can carry a decision at this rate.
    """

    value: float
    low: float
    high: float
    rate: float
    carried: bool


def find_threshold(calibration: Calibration, rate: float) -> Threshold:
    """Return the similarity that pairs of different people reach with a false match rate.

    The threshold rises or stays as the rate falls. The data carry a rate at which a tenth of a pair is expected among
    the measured ones, if the interval ends below 1, the similarity of a face with itself.

    Args:
        calibration: the similarities of different people.
        rate: the false match rate, above 0 and at most 1. Rates above the highest measured one count as that one.

    Raises:
        ValueError: the rate is not above 0, or is above 1.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"a false match rate of {rate} is not above 0 and at most 1")
    rates, thresholds, tail = calibration.rates, calibration.thresholds, calibration.tail
    if rate >= rates[-1]:
        value = float(np.interp(-np.log(rate), -np.log(rates), thresholds))
    else:
        value = max(thresholds[-1], float(_quantiles([tail], rate)[0]))
    # Above its start the tail says nothing. The quantiles there are taken to be as uncertain as the start.
    known = min(rate, tail.rate)
    shift = value - float(_quantiles([tail], known)[0]) if rate > tail.rate else 0.0
    low, high = np.quantile(_quantiles(calibration.resampled, known), INTERVAL) + shift
    low, high = min(float(low), value), max(float(high), value)
    carried = rate * calibration.pairs >= CARRIED_PAIRS and high < 1
    return Threshold(value, low, high, rate, carried)


def lowest_carried_rate(calibration: Calibration) -> float:
    """Return the lowest false match rate that the calibration data can carry; 1 if they carry none.

    See `find_threshold` for what the data carry.

    Args:
        calibration: the similarities of different people.
    """
    # The product with the number of pairs may be rounded down; the next float is not.
    lowest = float(np.nextafter(CARRIED_PAIRS / calibration.pairs, 1))
    highest = calibration.tail.rate
    if find_threshold(calibration, lowest).carried:
        return lowest
    if not find_threshold(calibration, highest).carried:
        return 1.0
    for _ in range(60):  # halves the distance of the logarithms until it is below the digits of a float
        middle = float(np.sqrt(lowest * highest))
        if find_threshold(calibration, middle).carried:
            highest = middle
        else:
            lowest = middle
    return highest


def _quantiles(tails: Sequence[Tail], rate: float) -> Reals:
    """Return for each tail the similarity that is reached with a rate, (n,)."""
    start, own, shape, scale = np.array([(t.start, t.rate, t.shape, t.scale) for t in tails]).T
    steps = np.log(own / rate)
    nearly_zero = np.abs(shape) < 1e-9  # the exponential distribution is the limit
    shape = np.where(nearly_zero, 1.0, shape)
    quantiles: Reals = start + scale * np.where(nearly_zero, steps, np.expm1(shape * steps) / shape)
    return quantiles
