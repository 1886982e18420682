"""AUC of cross-fitted scores, and intervals over people.

A cross-fitted score comes from a model that saw nothing of the person who is scored. The people of two folds are scored
by two models. Their scores are not compared: a fold with more positives leaves fewer of them to learn from, so that
all scores in it are lower, and without any information the AUC of all scores together would be below one half (Parker,
Günter and Bedo, Stratification bias in low signal microarray studies, 2007). Pairs within a fold have no such bias.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from sklearn.linear_model import LogisticRegression

from ..metrics import FEWEST
from .intervals import Interval
from .people import Numbers, folds
from .types import Figures, Mask, Vector

RESAMPLES = 2000


def number_folds(people: Numbers) -> Numbers:
    """The number of the test set of each image (n,); all images of a person are in one set, see `people.folds`."""
    numbers = np.zeros(len(people), np.int64)
    for number, own in enumerate(folds(people)):
        numbers[own] = number
    return numbers


def resample(people: Numbers, resamples: int = RESAMPLES, seed: int = 0) -> Vector:
    """How often each image (n,) is in each bootstrap resample, (1 + resamples, n); the first row is the images as are.

    People are drawn with replacement, and all images of a person with them, because they are not independent (Davison
    and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
    """
    members, own = np.unique(people, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return np.concatenate([np.ones((1, len(members))), draws])[:, own].astype(np.float32)


def are_enough(labels: Vector) -> bool:
    """Whether there are `FEWEST` positives (1) and negatives (0); other images have NaN."""
    return bool(min((labels == 1).sum(), (labels == 0).sum()) >= FEWEST)


def fold_auc(labels: Vector, scores: Vector, fold: Numbers, weights: Vector) -> Vector:
    """AUC among the pairs of a positive and a negative in the same fold, for each resample (r,).

    Args:
        labels: (n,), 1 for a positive, 0 for a negative, NaN for images that do not count.
        scores: (n,); NaN where nothing could be read. A pair with a NaN counts one half, as a random guess does.
        fold: (n,), the number of each image's fold.
        weights: (r, n), how often each image is in each resample.

    Returns:
        (r,), 0..1; one half for a resample without any pair.
    """
    above, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for number in np.unique(fold):
        own = np.flatnonzero((fold == number) & ~np.isnan(labels))
        own = own[np.argsort(scores[own])]  # NaN comes last
        seen = int((~np.isnan(scores[own])).sum())
        counts = weights[:, own].astype(np.float64)
        positive, negative = counts * labels[own], counts * (1 - labels[own])
        among = positive.sum(axis=1) * negative.sum(axis=1)
        pairs += among
        above += among / 2  # what follows is added or taken away for pairs in the right or in the wrong order
        if seen:
            levels = np.flatnonzero(np.diff(scores[own[:seen]], prepend=np.nan))  # the first image of each score
            high = np.add.reduceat(positive[:, :seen], levels, axis=1)
            low = np.add.reduceat(negative[:, :seen], levels, axis=1)
            below = np.cumsum(low, axis=1) - low / 2
            above += (high * (below - low.sum(axis=1, keepdims=True) / 2)).sum(axis=1)
    auc: Vector = np.divide(above, pairs, out=np.full(len(weights), 0.5), where=pairs > 0)
    return auc


def as_interval(values: Vector, of: int) -> Figures:
    """The value of the images as they are and its 95 % percentile interval (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: (1 + resamples,), see `resample`.
        of: number of what the value is a mean of.
    """
    low, high = map(float, np.quantile(values[1:], [0.025, 0.975]))
    return asdict(Interval(float(values[0]), low, high, of))


def mean_interval(columns: Sequence[Vector]) -> Figures:
    """The interval of the mean of some figures, each (1 + resamples,); the value is None if there are none."""
    return as_interval(np.mean(columns, axis=0), len(columns)) if columns else {"value": None, "of": 0}


def score_with_logistic_regression(train: Vector, labels: Vector, test: Vector, inverse_penalty: float) -> Vector:
    """The log odds (m,) of test images by a logistic regression with a squared penalty.

    Args:
        train: features (n, d).
        labels: (n,), 1 or 0; NaN where unknown, and these images are not used.
        test: features (m, d).
        inverse_penalty: scikit-learn's ``C``.

    Returns:
        (m,); all 0, which says nothing, if the known labels are all the same.
    """
    known: Mask = ~np.isnan(labels)
    if len(np.unique(labels[known])) < 2:
        return np.zeros(len(test))
    model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(train[known], labels[known])
    scores: Vector = model.decision_function(test)
    return scores
