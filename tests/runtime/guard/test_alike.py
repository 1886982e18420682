"""Portraits that are alike, against a comparison of each pair by itself."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.guard import alike
from anon_runtime.guard.alike import BINS, WORST, Pair, find_alike, histogram
from anon_runtime.types import Floats


def make_embeddings(count: int, seed: int) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((count, 4))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def name(number: int) -> str:
    return f"{number:03d}"


@given(values=st.lists(st.floats(-1, 1)))
def test_a_histogram_counts_each_similarity_in_its_bin(values: list[float]) -> None:
    counts = histogram(values)
    assert len(counts) == BINS
    assert sum(counts) == len(values)
    edges = np.linspace(-1, 1, BINS + 1)
    for low, high, count in zip(edges[:-2], edges[1:-1], counts[:-1], strict=True):
        assert count == sum(low <= value < high for value in values)


def test_rounded_products_above_1_count_as_1() -> None:
    assert histogram([1.0000001, 1.0])[-1] == 2
    assert histogram([-1.0000001])[0] == 1


def test_a_histogram_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        histogram([0.5, float("nan")])


@given(
    count=st.integers(0, 30),
    seed=st.integers(0, 2**16),
    block=st.integers(1, 12),
    threshold=st.none() | st.floats(-1, 1),
)
def test_pairs_are_those_of_all_comparisons(count: int, seed: int, block: int, threshold: float | None) -> None:
    embeddings = make_embeddings(count, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "BLOCK", block)
        found = find_alike([name(i) for i in range(count)], embeddings, threshold)
    exact = {(i, j): float(embeddings[i] @ embeddings[j]) for i, j in itertools.combinations(range(count), 2)}
    best = sorted(exact.values(), reverse=True)[:WORST]
    assert found.portraits == count
    assert [pair.similarity for pair in found.worst] == pytest.approx(best, abs=2e-4)
    for pair in found.worst:
        assert exact[int(pair.one), int(pair.other)] == pytest.approx(pair.similarity, abs=2e-4)
    if threshold is None:
        assert found.pairs is None
    else:  # the last digit of a product depends on the size of its block
        least, most = (sum(value >= threshold + shift for value in exact.values()) for shift in (1e-5, -1e-5))
        assert found.pairs is not None
        assert least <= found.pairs <= most


@given(order=st.permutations(range(25)))
def test_the_order_of_portraits_does_not_matter(order: list[int]) -> None:
    embeddings, names = make_embeddings(25, 1), [name(i) for i in range(25)]
    straight = find_alike(names, embeddings, 0.5)
    assert find_alike([names[i] for i in order], embeddings[order], 0.5) == straight


def test_opposite_portraits_are_a_pair_as_well() -> None:
    embeddings = np.array([[1, 0], [-1.0001, 0]], np.float32)  # rounding makes some a little longer than 1
    assert find_alike(["b", "a"], embeddings, 0.5) == alike.Alike(2, 0.5, 0, (Pair("a", "b", -1.0001),))


@pytest.mark.parametrize("precision", [np.float16, np.float32])
def test_planted_copies_are_found(precision: Any) -> None:
    embeddings = np.eye(40, dtype=precision)
    embeddings[31] = embeddings[7]
    found = find_alike([name(i) for i in range(40)], embeddings, 0.9)
    assert found.pairs == 1
    assert found.worst[0] == Pair("007", "031", 1.0)
