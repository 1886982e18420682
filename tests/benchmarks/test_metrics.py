import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.metrics import FEWEST, auc, column_aucs


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.1, 0.2, 0.8, 0.9], 1), ([0.9, 0.8, 0.2, 0.1], 0), ([0.5] * 4, 0.5), ([0.1, 0.8, 0.2, 0.9], 0.75)],
)
def test_auc_is_the_share_of_pairs_in_order(scores: list[float], expected: float) -> None:
    assert auc(np.array([False, False, True, True]), np.array(scores)) == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2).filter(lambda p: len({a for a, _ in p}) == 2))
def test_auc_is_scikit_learns_ties_included(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (np.array(side) for side in zip(*pairs, strict=True))
    assert auc(labels, scores.astype(float)) == pytest.approx(roc_auc_score(labels, scores))


def test_a_missing_score_counts_one_half() -> None:
    labels = np.array([False, False, True, True])
    assert auc(labels, np.array([0.1, 0.2, 0.9, np.nan])) == 0.75  # two pairs are in order, and two count one half
    assert auc(labels, np.full(4, np.nan)) == 0.5
    assert auc(labels, np.array([np.nan, np.nan, 1, 1])) == 0.5


def test_columns_with_too_few_positives_or_negatives_are_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((4 * FEWEST, 3))
    labels[:FEWEST, 0] = labels[: FEWEST - 1, 1] = 1
    labels[: 2 * FEWEST, 2] = np.nan
    labels[2 * FEWEST : 3 * FEWEST, 2] = 1
    scores = rng.random(labels.shape)
    found = column_aucs(("enough", "too few", "half labelled"), labels, scores)
    assert list(found) == ["enough", "half labelled"]
    half = slice(2 * FEWEST, None)
    assert found["half labelled"] == pytest.approx(roc_auc_score(labels[half, 2], scores[half, 2]))
