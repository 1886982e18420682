"""Area under the ROC curve of scores that were read from images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FEWEST = 10  # positive images and negative images that an AUC needs


def auc(labels: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the probability that a positive scores higher than a negative (Mann and Whitney's U).

    Args:
        labels: (n,), with positives and negatives.
        scores: (n,); NaN where nothing could be read. A pair with a NaN counts one half, as a random guess does.
    """
    read = ~np.isnan(scores)
    seen, positives = labels[read], int(labels.sum())
    positive, negative = int(seen.sum()), int((~seen).sum())
    above = float(rankdata(scores[read])[seen].sum()) - positive * (positive + 1) / 2
    pairs = positives * (len(labels) - positives)
    return (above + (pairs - positive * negative) / 2) / pairs


def column_aucs(names: Sequence[str], labels: NDArray[np.floating], scores: NDArray[np.floating]) -> dict[str, float]:
    """AUC of every column that has at least `FEWEST` positives and negatives.

    Args:
        names: of the k columns.
        labels: (n, k), above 0.5 for a positive; NaN where there is no label.
        scores: (n, k); see `auc` for NaN.
    """
    found = {}
    for column, name in enumerate(names):
        labelled = ~np.isnan(labels[:, column])
        positive = labels[labelled, column] > 0.5
        if min(positive.sum(), (~positive).sum()) >= FEWEST:
            found[name] = auc(positive, scores[labelled, column])
    return found
