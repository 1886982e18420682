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
    by_person,
    chance,
    chance_within,
    cmc,
    figures,
    rank,
    rank_similarities,
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


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 20))
def test_similarities_are_ranked_as_embeddings_are(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery, own = rng.integers(0, 3, (n, 2)) / 2, rng.integers(0, 3, (m, 2)) / 2, rng.integers(0, m, n)
    one = rank(queries, gallery, own.tolist(), "euclidean")
    likeness = similarity(queries, gallery, "euclidean")
    before = likeness.copy()
    other = rank_similarities(likeness, own)
    for name in ("above", "level", "same", "different"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(likeness, before)
    assert one.different.sum() == n * (m - 1)


def test_the_last_digits_make_no_difference() -> None:
    ranking = rank_similarities(np.array([[0.3, 0.3 + 1e-12, 0.3 - 1e-12, 0.2, 0.4]]), [0])
    assert (ranking.above.tolist(), ranking.level.tolist()) == ([1], [2])


def test_no_queries_have_an_empty_ranking() -> None:
    ranking = rank(np.empty((0, 16)), vectors(3, 0), [])
    assert len(ranking.above) == len(ranking.same) == ranking.different.sum() == 0


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 30))
def test_a_person_is_as_similar_as_their_most_similar_image(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    likeness, people = rng.random((n, m)), rng.integers(0, 9, m)
    expected = [[row[people == person].max() for person in np.unique(people)] for row in likeness]
    assert by_person(likeness, people).tolist() == expected


def test_a_copy_above_the_original_is_no_wrong_answer_among_people() -> None:
    likeness, people, own = np.array([[0.2, 0.5, 0.9]]), np.array([4, 1, 4]), [0]
    assert rank_similarities(likeness, own).above.tolist() == [2]
    assert rank_similarities(by_person(likeness, people), [1]).above.tolist() == [0]


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
