"""Nearness to a training set: copies, strangers, and the statistics against simulation and scikit-learn."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.evaluate.nearness import auc, compare, share_nearer

values = st.lists(st.integers(0, 9), min_size=2, max_size=30)


def test_copies_are_nearer_than_all_outsiders() -> None:
    found = compare(np.ones(40), np.random.default_rng(0).uniform(0, 0.9, 100), alike=0.95)
    for name in ("nearer than 95 %", "nearer than 99 %"):
        assert found[name]["share"]["value"] == found[name]["share"]["high"] == 1
        assert found[name]["share"]["of"] == 40
        assert found[name]["share"]["low"] > found[name]["chance"]["high"]
    assert found["AUC"]["value"] == found["near copies"]["value"] == 1
    json.dumps(found)


def test_images_that_are_far_from_all_are_not_near() -> None:
    found = compare(np.zeros(40), np.random.default_rng(0).uniform(0.1, 0.9, 100), alike=0.95)
    assert found["nearer than 95 %"]["share"]["value"] == found["AUC"]["value"] == found["near copies"]["value"] == 0


@pytest.mark.parametrize(("outsiders", "tail"), [(19, 0.05), (90, 0.05), (200, 0.01)])
def test_strangers_are_as_near_as_chance_says(outsiders: int, tail: float) -> None:
    """Images and outsiders are drawn alike, 60 times: the share is the tail on average, and within its interval."""
    rng, shares, inside = np.random.default_rng(1), [], []
    for _ in range(60):
        found = share_nearer(rng.normal(size=60), rng.normal(size=outsiders), tail)
        assert found is not None
        shares.append(found["share"]["value"])
        inside.append(found["chance"]["low"] <= found["share"]["value"] <= found["chance"]["high"])
        assert found["chance"]["value"] == tail
    assert abs(np.mean(shares) - tail) < 4 * np.std(shares) / np.sqrt(60)
    assert np.mean(inside) >= 0.9


def test_the_interval_of_chance_holds_the_luck_of_few_outsiders() -> None:
    """With many outsiders it is the binomial one: of 100 images 1 to 10 are above the threshold by chance."""
    rng = np.random.default_rng(0)
    many, few = (share_nearer(rng.normal(size=100), rng.normal(size=m), 0.05) for m in (100_000, 19))
    assert many is not None
    assert few is not None
    assert (many["chance"]["low"], many["chance"]["high"]) == (0.01, 0.1)
    assert few["chance"]["high"] > 0.15


def test_the_threshold_lies_between_two_outsiders() -> None:
    """Of 39 outsiders one more is above the second nearest in 2 of 40 cases; of 29 it is 1.5 of 30."""
    near = np.arange(100, dtype=float)
    for outsiders, threshold in ((39, 37), (29, 27.5), (19, 18)):
        found = share_nearer(near, np.arange(outsiders, dtype=float), 0.05)
        assert found is not None
        assert found["threshold"] == pytest.approx(threshold)
        assert found["share"]["value"] == np.mean(near > threshold)


def test_the_nearest_outsider_is_not_nearer_than_itself() -> None:
    assert share_nearer(np.full(9, 18.0), np.arange(19, dtype=float), 0.05)["share"]["value"] == 0  # type: ignore[index]


@pytest.mark.parametrize(("tail", "enough"), [(0.05, 19), (0.01, 99)])
def test_too_few_outsiders_carry_no_threshold(tail: float, enough: int) -> None:
    near, outsiders = np.arange(20, dtype=float), np.arange(enough, dtype=float)
    assert share_nearer(near, outsiders, tail) is not None
    assert share_nearer(near, outsiders[1:], tail) is None
    assert share_nearer(near[:0], outsiders, tail) is None


@given(near=values, outsiders=values)
def test_the_auc_is_scikit_learns(near: list[int], outsiders: list[int]) -> None:
    found = auc(np.array(near, float), np.array(outsiders, float))
    assert found.value == pytest.approx(roc_auc_score([1] * len(near) + [0] * len(outsiders), [*near, *outsiders]))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.of == len(near)


def test_the_interval_of_the_auc_is_as_wide_as_it_varies() -> None:
    rng = np.random.default_rng(0)
    found = [auc(rng.normal(0.5, 1, 120), rng.normal(size=50)) for _ in range(400)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.high - one.low for one in found]) / (2 * 1.96) == pytest.approx(spread, rel=0.1)
    truth = 0.6382  # Phi(0.5 / sqrt(2))
    assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=0.03)


def test_fewer_than_ten_have_no_auc() -> None:
    rng = np.random.default_rng(0)
    assert compare(rng.normal(size=10), rng.normal(size=10))["AUC"] is not None
    assert compare(rng.normal(size=9), rng.normal(size=10))["AUC"] is None
    assert compare(rng.normal(size=10), rng.normal(size=9))["AUC"] is None
    alone = compare(rng.normal(size=30), np.empty(0))
    assert alone["AUC"] is alone["nearer than 95 %"] is None
    assert list(alone["quantiles"]) == ["images"]


def test_quantiles_and_near_copies() -> None:
    found = compare(np.arange(101) / 100, np.arange(21) / 10, alike=0.9)
    assert found["quantiles"]["images"] == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95])
    assert found["quantiles"]["outsiders"] == pytest.approx([0.1, 0.5, 1, 1.5, 1.9])
    assert found["near copies"]["value"] == pytest.approx(11 / 101)
    assert "near copies" not in compare(np.ones(3), np.ones(3))
