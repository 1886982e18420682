"""Re-identification: how far up an anonymized image's own original stands when all originals are ranked by likeness.

Queries are the anonymized images, the gallery is all originals, and one of them is the right one. Where others are
exactly as similar as that one, all orders are equally likely, and every figure is its expectation: images that all
look the same to an encoder give what guessing gives.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from .cache import Vector

KS = (1, 5, 10)
DEPTH = 50
BINS = np.linspace(-1, 1, 81)
_LEVEL = 1e-9  # similarities that differ by less are the same: sums in another order differ by a last digit
_BLOCK = 512


@dataclass(frozen=True)
class Ranking:
    """Of n queries, where each one's own original stands.

    Attributes:
        above: int (n,), how many of the gallery are more similar than the own original.
        level: int (n,), how many others are exactly as similar.
        same: float (n,), similarity to the own original.
        different: int (80,), histogram of similarities to all others, in `BINS`.
    """

    above: NDArray[np.int64]
    level: NDArray[np.int64]
    same: Vector
    different: NDArray[np.int64]

    def hits(self, k: int) -> Vector:
        """Chance of each query (n,) that its own original is among the first k: Re-ID@k is their mean."""
        return np.clip((k - self.above) / (self.level + 1), 0, 1)

    def precisions(self, depth: int = DEPTH) -> Vector:
        """Average precision within the first ``depth`` of each query (n,); their mean is mAP@depth.

        With one right answer it is 1 / rank, or 0 beyond the depth (Manning et al., Introduction to Information
        Retrieval, 2008, chapter 8; torchmetrics' ``RetrievalMAP(top_k=depth)``).
        """
        # sums[r] = 1/1 + ... + 1/r, with nothing added beyond the depth
        sums = np.concatenate([[0], np.cumsum(1 / np.arange(1, depth + 1))])
        first, last = np.minimum(self.above, depth), np.minimum(self.above + self.level + 1, depth)
        return (sums[last] - sums[first]) / (self.level + 1)

    def of(self, chosen: NDArray[np.bool_]) -> "Ranking":
        """Some of the queries, against the whole gallery; the histogram of strangers stays that of all."""
        return Ranking(self.above[chosen], self.level[chosen], self.same[chosen], self.different)


def similarity(a: Vector, b: Vector, metric: str) -> Vector:
    """How similar embeddings are, (n, d) and (m, d) -> (n, m).

    Args:
        a, b: embeddings.
        metric: ``cosine``, or ``euclidean`` for 1 - distance.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if metric == "euclidean":
        return 1 - cdist(a, b)
    return (a / _norm(a)) @ (b / _norm(b)).T


def _norm(vectors: Vector) -> Vector:
    return np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def rank(queries: Vector, gallery: Vector, own: Sequence[int], metric: str = "cosine") -> Ranking:
    """Rank the gallery for every query.

    Args:
        queries: (n, d).
        gallery: (m, d).
        own: the row of the gallery that is each query's original.
        metric: see `similarity`.
    """
    rows = np.asarray(own, np.int64)
    above, level, same = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), np.empty(len(rows))
    different = np.zeros(len(BINS) - 1, np.int64)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        likeness = similarity(queries[part], gallery, metric)
        right = likeness[np.arange(len(likeness)), rows[part]]
        same[part] = right
        above[part] = (likeness > right[:, None] + _LEVEL).sum(axis=1)
        level[part] = (np.abs(likeness - right[:, None]) <= _LEVEL).sum(axis=1) - 1
        likeness[np.arange(len(likeness)), rows[part]] = np.nan
        different += np.histogram(np.clip(likeness, -1, 1), BINS)[0]
    return Ranking(above, level, same, different)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, of so many values."""

    value: float
    low: float
    high: float
    of: int


def bootstrap(values: Vector, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of values (n,) and its percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    Images are drawn with replacement. Where all are hits or none is, that shows no spread, and the exact limit of a
    binomial share takes its place (Clopper and Pearson, 1934).
    """
    n, rng = len(values), np.random.default_rng(seed)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    limit = 1 - (0.05 / 2) ** (1 / n)
    if (values == 0).all() or (values == 1).all():
        return Interval(float(values[0]), *((0.0, limit) if values[0] == 0 else (1 - limit, 1.0)), n)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), n)


def figures(ranking: Ranking) -> dict[str, Interval]:
    """Re-ID@1, @5, @10 and mAP@50."""
    found = {f"Re-ID@{k}": bootstrap(ranking.hits(k)) for k in KS}
    return found | {f"mAP@{DEPTH}": bootstrap(ranking.precisions())}


def chance(gallery: int) -> dict[str, float]:
    """What guessing among so many originals gives."""
    depth = min(DEPTH, gallery)
    found = {f"Re-ID@{k}": min(k / gallery, 1) for k in KS}
    return found | {f"mAP@{DEPTH}": float((1 / np.arange(1, depth + 1)).sum() / gallery)}


def chance_within(cells: Sequence[object], chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """What guessing gives whoever knows in which cell somebody is, such as ethnicity, sex and age band.

    Args:
        cells: of the originals.
        chosen: whose chances are averaged.
    """
    sizes = Counter(cells)
    each = [chance(sizes[cell]) for i, cell in enumerate(cells) if chosen is None or chosen[i]]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def cmc(ranking: Ranking) -> list[float]:
    """The cumulative match characteristic: Re-ID@1 to Re-ID@50."""
    return [float(ranking.hits(k).mean()) for k in range(1, DEPTH + 1)]
