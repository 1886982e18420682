import numpy as np
import pytest

from benchmarks.evaluate.intervals import bootstrap, percentiles


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(13)
    intervals = [bootstrap((rng.random(200) < 0.3).astype(float), resamples=400, seed=i) for i in range(300)]
    assert 0.90 < np.mean([i.low <= 0.3 <= i.high for i in intervals]) < 0.98
    assert bootstrap(np.empty(0)).of == 0


@pytest.mark.parametrize("n", [1, 10, 450])
def test_the_interval_of_no_hits_has_a_width(n: int) -> None:
    """At the exact limit, a result as extreme as this one has a probability of 2.5 %."""
    none, all_of_them = bootstrap(np.zeros(n)), bootstrap(np.ones(n))
    assert (none.value, none.low, all_of_them.value, all_of_them.high) == (0, 0, 1, 1)
    assert (1 - none.high) ** n == pytest.approx(0.025)
    assert all_of_them.low**n == pytest.approx(0.025)


def test_the_ends_of_resamples_by_hand() -> None:
    resampled = [float("nan"), *np.arange(41.0)]
    found = percentiles(17, resampled, 5)
    assert (found.value, found.low, found.high, found.of) == (17, 1, 39, 5)


def test_resamples_that_vary_more_than_the_exact_limit_count() -> None:
    assert percentiles(0, [0, 0.9], 100).high > 0.8
    assert percentiles(1, [1, 0.1], 100).low < 0.2
    assert percentiles(0.5, [0.5, 0.5], 10).low == 0.5
