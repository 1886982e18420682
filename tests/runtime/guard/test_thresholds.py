"""The thresholds that follow from a calibration, against distributions whose quantiles are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.bundle.identity import Calibration, Tail
from anon_runtime.guard.thresholds import find_threshold, lowest_carried_rate
from tests.runtime.guard.calibrations import RATES, TAIL, THRESHOLDS, calibration

tails = st.builds(
    Tail,
    st.floats(0.2, 0.6),
    st.floats(0.02, 0.2),
    st.sampled_from([0.0, -0.3, 0.3]) | st.floats(-0.8, 0.8),
    st.floats(0.01, 0.3),
)
calibrations = st.builds(
    calibration, tails, st.lists(tails, min_size=1, max_size=9).map(tuple), st.integers(1_000, 10**9)
)
any_rate = st.floats(-12, 0).map(lambda power: 10.0**power)


@pytest.mark.parametrize(("rate", "value"), list(zip(RATES, THRESHOLDS, strict=True)))
def test_measured_rates_have_measured_thresholds(rate: float, value: float) -> None:
    assert find_threshold(calibration(), rate).value == value


def test_rates_between_measured_ones_are_interpolated_by_their_logarithm() -> None:
    assert find_threshold(calibration(), 10**-1.5).value == pytest.approx(0.5)
    assert find_threshold(calibration(), 0.9).value == 0.2


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_lower_rates_are_those_of_the_tail(shape: float) -> None:
    value = find_threshold(calibration(Tail(0.5, 0.1, shape, 0.1)), 1e-4).value
    beyond = np.exp(-(value - 0.5) / 0.1) if shape == 0 else (1 + shape * (value - 0.5) / 0.1) ** (-1 / shape)
    assert 0.1 * beyond == pytest.approx(1e-4)


def test_a_tail_below_the_measured_thresholds_does_not_lower_them() -> None:
    assert find_threshold(calibration(Tail(0.3, 0.1, -0.5, 0.1)), 1e-4).value == 0.7


def test_the_interval_holds_95_percent_of_the_resampled_tails() -> None:
    spread = tuple(replace(TAIL, start=0.3 + i / 1000) for i in range(201))
    threshold = find_threshold(calibration(resampled=spread), 1e-4)
    assert (threshold.low, threshold.high) == pytest.approx((threshold.value - 0.095, threshold.value + 0.095))


def test_above_the_tail_the_interval_is_as_wide_as_at_its_start() -> None:
    spread = tuple(replace(TAIL, start=0.3 + i / 1000) for i in range(201))
    threshold = find_threshold(calibration(resampled=spread), 0.5)
    assert (threshold.low, threshold.value, threshold.high) == pytest.approx((0.105, 0.2, 0.295))


def test_too_few_pairs_do_not_carry_a_rate() -> None:
    assert find_threshold(calibration(), 1.1e-5).carried
    assert not find_threshold(calibration(), 0.9e-5).carried
    assert lowest_carried_rate(calibration()) == pytest.approx(1e-5)


def test_an_interval_that_reaches_1_does_not_carry_a_rate() -> None:
    long = Tail(0.4, 0.1, 0.0, 0.1)  # it reaches 1 at a rate of 0.1 / exp(6)
    measured = calibration(resampled=(long,))
    assert find_threshold(measured, 0.11 * np.exp(-6)).carried
    assert not find_threshold(measured, 0.09 * np.exp(-6)).carried
    assert lowest_carried_rate(measured) == pytest.approx(0.1 * np.exp(-6))


def test_a_calibration_may_carry_no_rate() -> None:
    assert lowest_carried_rate(calibration(resampled=(Tail(1.0, 0.1, 0.0, 0.1),))) == 1.0


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false match rate"):
        find_threshold(calibration(), rate)


@given(measured=calibrations, one=any_rate, other=any_rate)
def test_thresholds_rise_as_the_rate_falls(measured: Calibration, one: float, other: float) -> None:
    strict, lax = (find_threshold(measured, rate) for rate in sorted((one, other), reverse=True))
    assert strict.value <= lax.value


@given(measured=calibrations, rate=any_rate)
def test_the_interval_holds_the_threshold(measured: Calibration, rate: float) -> None:
    threshold = find_threshold(measured, rate)
    assert threshold.low <= threshold.value <= threshold.high


@given(measured=calibrations)
def test_the_lowest_carried_rate_is_carried_and_no_lower_one_is(measured: Calibration) -> None:
    lowest = lowest_carried_rate(measured)
    if lowest < 1:
        assert find_threshold(measured, lowest).carried
        assert not find_threshold(measured, lowest * (1 - 1e-9)).carried
