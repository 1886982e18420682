"""Re-identification: the rank of an anonymized image's original when all originals are ranked by similarity.

The queries are the anonymized images, the gallery is all originals, and one of them is the right match. Where other
originals are exactly as similar as the right one, all orders are equally likely, and every figure is an expected value.
If all images have the same embedding, the figures are those of random guessing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from .intervals import Interval, bootstrap
from .types import Mask, Vector

KS = (1, 5, 10)  # ranks of Re-ID@k
DEPTH = 50  # rank up to which average precision counts
BINS = np.linspace(-1, 1, 81)
_TOLERANCE = 1e-9  # similarities that differ by less are equal: sums in another order differ in the last digit
_BLOCK = 512  # queries whose similarities are in memory at once
Doubles = NDArray[np.float64]
Metric = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Ranking:
    """Ranks of the originals of n queries.

    Attributes:
        above: int (n,), number of images in the gallery that are more similar than the query's original.
        level: int (n,), number of other images that are exactly as similar.
        same: float (n,), similarity to the query's original.
        different: int (80,), histogram of the similarities to all other images, in `BINS`.
    """

    above: NDArray[np.int64]
    level: NDArray[np.int64]
    same: Vector
    different: NDArray[np.int64]

    def hits(self, k: int) -> Vector:
        """Probability for each query (n,) that its original is among the first k; Re-ID@k is the mean."""
        return ((k - self.above) / (self.level + 1)).clip(0, 1)

    def precisions(self, depth: int = DEPTH) -> Vector:
        """Average precision within the first ``depth`` ranks of each query (n,); mAP@depth is the mean.

        With one right match it is 1 / rank, or 0 beyond the depth (Manning et al., Introduction to Information
        Retrieval, 2008, chapter 8; torchmetrics' ``RetrievalMAP(top_k=depth)``).
        """
        # sums[r] = 1/1 + ... + 1/r for ranks up to the depth
        sums: Doubles = np.concatenate([[0], np.cumsum(1 / np.arange(1, depth + 1))])
        first, last = np.minimum(self.above, depth), np.minimum(self.above + self.level + 1, depth)
        precisions: Doubles = (sums[last] - sums[first]) / (self.level + 1)
        return precisions

    def of(self, chosen: Mask) -> "Ranking":
        """The ranking of some queries in the whole gallery; ``different`` stays that of all queries."""
        return Ranking(self.above[chosen], self.level[chosen], self.same[chosen], self.different)


def similarity(a: Vector, b: Vector, metric: Metric) -> Doubles:
    """Similarity of embeddings, (n, d) and (m, d) -> (n, m).

    Args:
        a, b: embeddings.
        metric: ``cosine``, or ``euclidean`` for 1 - distance.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if metric == "euclidean":
        likeness: Doubles = 1 - cdist(first, second)
    else:
        likeness = (first / _norm(first)) @ (second / _norm(second)).T
    return likeness


def _norm(vectors: Doubles) -> Doubles:
    lengths: Doubles = np.linalg.norm(vectors, axis=1, keepdims=True)
    return lengths.clip(1e-12)


def rank(queries: Vector, gallery: Vector, own: Sequence[int], metric: Metric = "cosine") -> Ranking:
    """Rank the gallery for every query.

    Args:
        queries: (n, d).
        gallery: (m, d).
        own: row of each query's original in the gallery.
        metric: see `similarity`.
    """
    rows = np.asarray(own, np.int64)
    starts = range(0, max(len(rows), 1), _BLOCK)
    blocks = [slice(start, start + _BLOCK) for start in starts]
    parts = [rank_similarities(similarity(queries[block], gallery, metric), rows[block]) for block in blocks]
    return Ranking(
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.level for part in parts]),
        np.concatenate([part.same for part in parts]),
        np.sum([part.different for part in parts], axis=0),
    )


def rank_similarities(similarities: Vector, own: Sequence[int] | NDArray[np.int64]) -> Ranking:
    """Rank a gallery whose similarities to the queries are known.

    Args:
        similarities: (n, m), of each query to each image of the gallery.
        own: column of each query's original.
    """
    right = similarities[np.arange(len(similarities)), np.asarray(own, np.int64)]
    above = (similarities > right[:, None] + _TOLERANCE).sum(axis=1)
    level = (np.abs(similarities - right[:, None]) <= _TOLERANCE).sum(axis=1) - 1
    return Ranking(above, level, right, _histogram(similarities) - _histogram(right))


def _histogram(similarities: Vector) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.histogram(np.clip(similarities, -1, 1), BINS)[0]
    return counts


def by_person(similarities: Vector, people: NDArray[np.int64]) -> Doubles:
    """The similarities to a gallery of people: the highest one over the images of each person.

    With near copies as images of one person, a copy that ranks above the own original is no wrong answer.

    Args:
        similarities: (n, m), of queries to images.
        people: (m,), the person of each image, see `people.find_people`.

    Returns:
        (n, p), in the order of ``np.unique(people)``.
    """
    order = np.argsort(people, kind="stable")
    starts = np.unique(people[order], return_index=True)[1]
    highest: Doubles = np.maximum.reduceat(similarities[:, order], starts, axis=1)
    return highest


def figures(ranking: Ranking) -> dict[str, Interval]:
    """Re-ID@1, @5, @10 and mAP@50."""
    found = {f"Re-ID@{k}": bootstrap(ranking.hits(k)) for k in KS}
    return found | {f"mAP@{DEPTH}": bootstrap(ranking.precisions())}


def chance(gallery: int) -> dict[str, float]:
    """The figures of random guessing among so many originals."""
    depth = min(DEPTH, gallery)
    found = {f"Re-ID@{k}": min(k / gallery, 1) for k in KS}
    return found | {f"mAP@{DEPTH}": float((1 / np.arange(1, depth + 1)).sum() / gallery)}


def chance_within(cells: Sequence[object], chosen: Mask | None = None) -> dict[str, float]:
    """The figures of random guessing among the originals of the same cell, such as ethnicity, sex and age band.

    Args:
        cells: the cell of each original.
        chosen: (n,), the originals over which is averaged; None takes all.
    """
    sizes = Counter(cells)
    found = [chance(sizes[cell]) for i, cell in enumerate(cells) if chosen is None or chosen[i]]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def cmc(ranking: Ranking) -> list[float]:
    """The cumulative match characteristic: Re-ID@1 to Re-ID@50."""
    return [float(ranking.hits(k).mean()) for k in range(1, DEPTH + 1)]
