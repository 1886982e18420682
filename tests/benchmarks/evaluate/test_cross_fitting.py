import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.evaluate.cross_fitting import (
    are_enough,
    as_interval,
    fold_auc,
    mean_interval,
    number_folds,
    resample,
    score_with_logistic_regression,
)
from benchmarks.metrics import FEWEST, auc

Row = tuple[bool, int, int]  # label, score, and how often it is in a resample


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_one_fold_is_scikit_learns_auc_of_the_repeated_images(rows: list[Row]) -> None:
    labels, scores, counts = (np.array(side, np.float64) for side in zip(*rows, strict=True))
    found = fold_auc(labels, scores, np.zeros(len(rows), np.int64), counts[None])
    drawn = np.repeat(np.arange(len(rows)), counts.astype(int))
    if len({*labels[drawn]}) < 2:
        assert found.tolist() == [0.5], "there is no pair"
    else:
        assert found == pytest.approx([roc_auc_score(labels[drawn], scores[drawn])])


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-1.0, 0, 2, np.nan])), min_size=2, max_size=30))
def test_scores_that_are_missing_count_as_in_the_other_tables(rows: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    if labels.any() and not labels.all():
        found = fold_auc(labels.astype(float), scores, np.zeros(len(rows), np.int64), np.ones((1, len(rows))))
        assert found == pytest.approx([auc(labels, scores)])


def test_pairs_of_two_folds_do_not_count() -> None:
    labels, scores = np.array([0.0, 1, 0, 1, 1]), np.array([1.0, 2, 9, 8, 10])
    weights = np.array([[1, 1, 1, 1, 1], [2, 1, 1, 0, 3], [1, 0, 0, 1, 0]])
    found = fold_auc(labels, scores, np.array([0, 0, 1, 1, 1]), weights)
    # In the first fold 1 of 1 pair is in order, in the second one 1 of 2; weighted 2 of 2, and 3 of 3; no pair.
    assert found == pytest.approx([2 / 3, 5 / 5, 0.5])


def test_images_without_a_label_do_not_count() -> None:
    labels, scores = np.array([0, np.nan, 1]), np.array([0.0, 5, 1])
    assert fold_auc(labels, scores, np.zeros(3, np.int64), np.ones((1, 3))) == [1]


def test_cross_fitted_scores_without_information_are_chance() -> None:
    """The score of a fold is the share of positives in the other folds, and the AUC of all pairs is below one half."""
    labels = (np.random.default_rng(0).random(100) < 0.3).astype(float)
    fold = number_folds(np.arange(100))
    scores = np.array([labels[fold != own].mean() for own in fold])
    weights = np.ones((1, 100))
    assert fold_auc(labels, scores, fold, weights) == [0.5]
    assert fold_auc(labels, scores, np.zeros(100, np.int64), weights)[0] < 0.45


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_people_are_drawn_with_all_their_images(numbers: list[int]) -> None:
    people = np.array(numbers)
    weights = resample(people, 20)
    assert weights.shape == (21, len(people))
    assert (weights[0] == 1).all()
    first = [numbers.index(one) for one in set(numbers)]
    assert (weights[:, first].sum(axis=1) == len(first)).all(), "as many people as there are"
    for one in set(numbers):
        own = weights[:, people == one]
        assert (own == own[:, :1]).all()
    np.testing.assert_array_equal(weights, resample(people, 20))


def test_images_of_few_people_tell_less() -> None:
    values = np.repeat(np.arange(10.0), 10)

    def width(people: np.ndarray) -> float:
        weights = resample(people)
        found = as_interval(weights @ values / weights.sum(axis=1), 100)
        assert found["value"] == pytest.approx(4.5)
        return float(found["high"] - found["low"])

    error = values.std()  # of one image
    assert width(np.arange(100)) == pytest.approx(2 * 1.96 * error / 10, rel=0.1)
    assert width(np.repeat(np.arange(10), 10)) == pytest.approx(2 * 1.96 * error / np.sqrt(10), rel=0.1)


def test_the_folds_keep_people_together() -> None:
    people = np.arange(60) // 2
    fold = number_folds(people)
    assert np.bincount(fold).tolist() == [12] * 5
    assert (fold[::2] == fold[1::2]).all()


def test_intervals_leave_out_the_images_as_they_are() -> None:
    values = np.array([7.0, *np.linspace(0, 1, 2001)])
    assert as_interval(values, 3) == {"value": 7, "low": pytest.approx(0.025), "high": pytest.approx(0.975), "of": 3}
    assert mean_interval([values, 3 * values])["high"] == pytest.approx(1.95)
    assert mean_interval([values, 3 * values])["of"] == 2
    assert mean_interval([]) == {"value": None, "of": 0}


def test_enough_are_ten_of_both() -> None:
    labels = np.array([1.0] * FEWEST + [0] * FEWEST + [np.nan] * 5)
    assert are_enough(labels)
    assert not are_enough(labels[1:])
    assert not are_enough(labels[: 2 * FEWEST - 1])


def test_the_regression_is_scikit_learns_of_the_known_labels() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 3)), rng.normal(size=(9, 3))
    labels = (train[:, 0] > 0).astype(float)
    unknown = labels.copy()
    unknown[:10] = np.nan
    expected = LogisticRegression(C=0.3).fit(train[10:], labels[10:]).decision_function(test)
    assert score_with_logistic_regression(train, unknown, test, 0.3) == pytest.approx(expected)
    nothing = score_with_logistic_regression(train, np.where(labels == 1, 1, np.nan), test, 0.3)
    assert nothing.tolist() == [0] * 9
