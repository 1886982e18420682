"""Histograms of similarities, and the portraits that are alike among each other.

A similarity is the cosine of two embeddings, -1..1.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..types import Array, Floats

BINS = 80  # of equal width over -1..1
WORST = 10
BLOCK = 2048  # a block of similarities takes 16 MB


@dataclass(frozen=True)
class Pair:
    """Two portraits.

    Attributes:
        one: the pseudonym of the first photo.
        other: the pseudonym of the second photo.
        similarity: the similarity of their portraits, -1..1.
    """

    one: str
    other: str
    similarity: float


@dataclass(frozen=True)
class Alike:
    """The similarities of portraits among each other.

    Attributes:
        portraits: the number of portraits that were compared, each with each.
        threshold: the similarity from which on two portraits count as alike; None if none is known.
        pairs: the number of pairs that are alike; None without a threshold.
        worst: the most similar pairs, alike or not, at most ten; the most similar one comes first. Of pairs that tie
            for the tenth place, any may be listed.
    """

    portraits: int
    threshold: float | None
    pairs: int | None
    worst: tuple[Pair, ...]


def histogram(similarities: ArrayLike) -> tuple[int, ...]:
    """Return the number of similarities in each of 80 bins of equal width over -1..1.

    Args:
        similarities: any number of similarities. A sum of rounded products may be a little above 1; it counts as 1.

    Raises:
        ValueError: a similarity is NaN.
    """
    values = np.clip(np.asarray(similarities, np.float64), -1, 1)
    if np.isnan(values).any():
        raise ValueError("a similarity is NaN")
    counts, _ = np.histogram(values, BINS, (-1, 1))
    return tuple(counts.tolist())


def find_alike(names: Sequence[str], embeddings: Array, threshold: float | None) -> Alike:
    """Compare each portrait with each other one, by blocks of a matrix product.

    Args:
        names: the pseudonyms of the photos.
        embeddings: (n, d), the embeddings of their portraits, of length 1, in any precision; it may be memory-mapped.
        threshold: the similarity from which on two portraits count as alike; None if none is known.
    """
    pairs, worst = 0, list[tuple[float, int, int]]()
    for row, column, block in _blocks(embeddings):
        if threshold is not None:
            pairs += int(np.count_nonzero(block >= threshold))
        least = worst[0][0] if len(worst) == WORST else -1.5  # the pairs of a portrait with itself are at -2
        if block.max(initial=-2) < least:
            continue
        count = min(WORST, block.size)
        best = np.argpartition(block, block.size - count, axis=None)[block.size - count :]
        for i, j in zip(*np.unravel_index(best, block.shape), strict=True):
            if block[i, j] >= least:
                worst.append((float(block[i, j]), row + int(i), column + int(j)))
        worst = heapq.nlargest(WORST, worst)[::-1]
    named = [((names[i], names[j]), round(min(value, 1.0), 4)) for value, i, j in worst]
    found = [Pair(min(pair), max(pair), value) for pair, value in named]
    ordered = sorted(found, key=lambda pair: (-pair.similarity, pair.one, pair.other))
    return Alike(len(embeddings), threshold, None if threshold is None else pairs, tuple(ordered))


def _blocks(embeddings: Array) -> Iterator[tuple[int, int, Floats]]:
    """Yield the similarities of pairs by blocks, with the block's first row and column; each pair comes once."""
    for row in range(0, len(embeddings), BLOCK):
        upper = embeddings[row : row + BLOCK].astype(np.float32)
        for column in range(row, len(embeddings), BLOCK):
            block = upper @ embeddings[column : column + BLOCK].astype(np.float32).T
            if column == row:
                block[np.tril_indices(len(upper))] = -2
            yield row, column, block
