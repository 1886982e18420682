"""The one-to-one attacker, compared with the exact assignment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from benchmarks.evaluate.attackers.matching import one_to_one
from benchmarks.evaluate.reidentification import chance, figures, rank_similarities
from tests.benchmarks.evaluate.attackers.guesses import is_guessing


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_sharp_likelihoods_give_the_assignment(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    assigned = rng.permutation(n)
    likelihoods = rng.standard_normal((n, n))
    likelihoods[np.arange(n), assigned] += 12
    likelihoods += 30 * rng.standard_normal(n)  # originals that suit everybody
    columns = linear_sum_assignment(likelihoods, maximize=True)[1]
    np.testing.assert_array_equal(columns, assigned)
    np.testing.assert_array_equal(one_to_one(likelihoods).argmax(axis=1), columns)


def test_an_original_that_suits_all_is_shared() -> None:
    """Both portraits look most like the first original, and the first one of them more so."""
    likelihoods = np.log([[0.9, 0.1], [0.6, 0.4]])
    shares = np.exp(one_to_one(likelihoods))
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert shares.argmax(axis=1).tolist() == [0, 1]
    odds = shares[0, 0] * shares[1, 1] / (shares[0, 1] * shares[1, 0])
    assert odds == pytest.approx(0.9 * 0.4 / (0.1 * 0.6)), "scaling keeps the odds ratio"


def test_knowing_nothing_stays_a_guess() -> None:
    equal = rank_similarities(one_to_one(np.zeros((30, 40))), range(30))
    assert {name: interval.value for name, interval in figures(equal).items()} == pytest.approx(chance(40))


def test_strangers_are_found_by_chance() -> None:
    assert is_guessing(one_to_one(3 * np.random.default_rng(seed).standard_normal((150, 150))) for seed in range(10))


def test_fewer_portraits_than_originals() -> None:
    rng = np.random.default_rng(1)
    likelihoods = rng.standard_normal((20, 50)) + 4 * np.eye(20, 50) + 5 * rng.standard_normal(50)
    before, after = (rank_similarities(one, range(20)).hits(1).mean() for one in (likelihoods, one_to_one(likelihoods)))
    assert before < 0.5 < after
