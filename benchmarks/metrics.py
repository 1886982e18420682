"""Scores of what was read from images against what is true of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FEWEST = 10  # images of either kind, below which nothing is scored


def auc(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative (Mann and Whitney's U).

    Args:
        labels: (n,), with both kinds.
        scores: (n,); NaN where nothing could be read, which is as good as a coin toss beside any other.
    """
    read = ~np.isnan(scores)
    seen, positives = labels[read], int(labels.sum())
    positive, negative = int(seen.sum()), int((~seen).sum())
    above = float(rankdata(scores[read])[seen].sum()) - positive * (positive + 1) / 2
    pairs = positives * (len(labels) - positives)
    return (above + (pairs - positive * negative) / 2) / pairs


def column_aucs(names: Sequence[str], labels: NDArray[np.floating], scores: NDArray[np.floating]) -> dict[str, float]:
    """AUC of every column that has enough images of both kinds.

    Args:
        names: of the columns, k of them.
        labels: (n, k), above 0.5 for a positive; NaN where nobody judged.
        scores: (n, k); see `auc` for NaN.
    """
    found = {}
    for column, name in enumerate(names):
        judged = ~np.isnan(labels[:, column])
        positive = labels[judged, column] > 0.5
        if min(positive.sum(), (~positive).sum()) >= FEWEST:
            found[name] = auc(positive, scores[judged, column])
    return found
