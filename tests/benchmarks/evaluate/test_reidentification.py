"""Re-identification, compared with results by hand, with torchmetrics and with random guessing."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from benchmarks.evaluate.intervals import bootstrap
from benchmarks.evaluate.reidentification import (
    BINS,
    DEPTH,
    KS,
    Doubles,
    Metric,
    Ranking,
    chance,
    chance_within,
    cmc,
    figures,
    rank,
    similarity,
)


def vectors(n: int, seed: int, width: int = 16) -> Doubles:
    return np.random.default_rng(seed).standard_normal((n, width))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_identical_folders_are_re_identified(metric: Metric) -> None:
    gallery = vectors(120, 0)
    found = figures(rank(gallery, gallery, range(120), metric))
    assert all(interval.value == interval.high == 1 and interval.low > 0.96 for interval in found.values())
    assert set(found) == {"Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50"}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_strangers_are_re_identified_by_chance_only(metric: Metric) -> None:
    n = 900
    ranking = rank(vectors(n, 1), vectors(n, 2), range(n), metric)
    for k in (1, 5, 10, 50, 200):
        interval = bootstrap(ranking.hits(k))
        assert interval.low <= k / n <= interval.high
    interval = bootstrap(ranking.precisions())
    assert interval.low <= chance(n)["mAP@50"] <= interval.high


def test_a_case_by_hand() -> None:
    """Three originals on a line; the queries lie at 0.1, 1.4 and 0.9, so that their ranks are 1, 1 and 3."""
    gallery = np.array([[0.0], [1.0], [3.0]])
    ranking = rank(np.array([[0.1], [1.4], [0.9]]), gallery, [0, 1, 2], "euclidean")
    assert ranking.above.tolist() == [0, 0, 2]
    assert ranking.level.tolist() == [0, 0, 0]
    assert [ranking.hits(k).mean() for k in (1, 2, 3)] == pytest.approx([2 / 3, 2 / 3, 1])
    assert ranking.precisions().tolist() == pytest.approx([1, 1, 1 / 3])
    assert ranking.precisions(2).tolist() == pytest.approx([1, 1, 0])
    assert ranking.same.tolist() == pytest.approx([0.9, 0.6, -1.1])
    assert ranking.different.sum() == 6


def torchmetrics_inputs(queries: Doubles, gallery: Doubles, own: list[int]) -> dict[str, torch.Tensor]:
    likeness = similarity(queries, gallery, "cosine")
    n, m = likeness.shape
    return {
        "preds": torch.tensor(likeness).flatten(),
        "target": torch.tensor(np.arange(m) == np.array(own)[:, None]).flatten(),
        "indexes": torch.arange(n).repeat_interleave(m),
    }


@pytest.mark.packages
def test_re_id_and_map_are_torchmetrics() -> None:
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

    gallery = vectors(150, 3, 6)
    queries = gallery + vectors(150, 4, 6)
    own = list(range(149, -1, -1))[::-1]
    ranking, inputs = rank(queries, gallery, own), torchmetrics_inputs(queries, gallery, own)
    for k in (*KS, 50):
        expected = float(RetrievalHitRate(top_k=k)(**inputs))
        assert 0 < expected < 1
        assert ranking.hits(k).mean() == pytest.approx(expected)
    assert ranking.precisions().mean() == pytest.approx(float(RetrievalMAP(top_k=DEPTH)(**inputs)), abs=1e-6)


def test_wrong_pairs_are_worse() -> None:
    gallery = vectors(100, 5)
    queries = gallery + 0.3 * vectors(100, 6)
    right, wrong = rank(queries, gallery, range(100)), rank(queries, gallery, np.roll(np.arange(100), 1).tolist())
    for name, interval in figures(right).items():
        assert figures(wrong)[name].high < interval.low


@given(st.integers(1, 80), st.integers(0, 5), st.integers(1, 100))
def test_equal_embeddings_give_the_figures_of_guessing(n: int, seed: int, k: int) -> None:
    """The order of equally similar images has no influence, even if the right match is the first in the gallery."""
    alike = np.tile(vectors(1, seed), (n, 1))
    for metric in get_args(Metric):
        ranking = rank(alike, alike, range(n), metric)
        assert ranking.hits(k).mean() == pytest.approx(min(k / n, 1))
        assert ranking.precisions().mean() == pytest.approx(chance(n)["mAP@50"])


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(2, 30), st.integers(1, 12))
def test_ties_are_the_mean_over_all_orders(seed: int, n: int, depth: int) -> None:
    """Embeddings with few different values have many ties; a random order gives the same figures on average."""
    rng = np.random.default_rng(seed)
    gallery, queries = rng.integers(0, 2, (n, 2)) + 1.0, rng.integers(0, 2, (n, 2)) + 1.0
    ranking = rank(queries, gallery, range(n), "euclidean")
    distances = cdist(queries, gallery).round(9)
    for i in range(n):
        first = int((distances[i] < distances[i, i]).sum()) + 1
        places = np.arange(first, first + int((distances[i] == distances[i, i]).sum()))
        assert ranking.hits(depth)[i] == pytest.approx((places <= depth).mean())
        assert ranking.precisions(depth)[i] == pytest.approx(np.where(places <= depth, 1 / places, 0).mean())


def test_blocks_change_nothing() -> None:
    gallery, queries = vectors(700, 7), vectors(700, 8)
    whole, parts = rank(queries, gallery, range(700)), rank(queries[600:], gallery, range(600, 700))
    np.testing.assert_array_equal(whole.above[600:], parts.above)
    assert whole.different.sum() == 700 * 699


def test_a_part_of_the_queries_keeps_the_whole_gallery() -> None:
    ranking = rank(vectors(40, 9), vectors(40, 10), range(40))
    some = np.arange(40) < 7
    np.testing.assert_array_equal(ranking.of(some).above, ranking.above[:7])


def test_similarities() -> None:
    a, b = vectors(5, 11), vectors(6, 12)
    np.testing.assert_allclose(similarity(a, b, "euclidean"), 1 - cdist(a, b))
    np.testing.assert_allclose(similarity(a, b, "cosine"), 1 - cdist(a, b, "cosine"))
    assert np.isfinite(similarity(np.zeros((1, 3)), a[:, :3], "cosine")).all(), (
        "a vector of zeros gives no division by zero"
    )


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


def test_knowing_the_cell_makes_guessing_better() -> None:
    cells = ["a", "a", "b", "a", "a"]
    found = chance_within(cells)
    assert found["Re-ID@1"] == pytest.approx((4 * 1 / 4 + 1) / 5)
    assert found["Re-ID@5"] == 1
    assert found["mAP@50"] == pytest.approx((4 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4 + 1) / 5)
    assert chance_within(cells, np.array([False, False, True, False, False]))["Re-ID@1"] == 1
    assert chance_within(["all"] * 5) == chance(5)


def test_the_curve_only_rises() -> None:
    curve = cmc(rank(vectors(60, 14), vectors(60, 15), range(60)))
    assert len(curve) == DEPTH
    assert curve == sorted(curve)
    assert len(BINS) == 81
    assert isinstance(rank(vectors(3, 0), vectors(3, 1), range(3)), Ranking)
