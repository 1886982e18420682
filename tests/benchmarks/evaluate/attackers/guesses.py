"""Whether similarities find originals as often as random guessing does."""

from collections.abc import Iterable

import numpy as np

from benchmarks.evaluate.reidentification import Doubles, chance, rank_similarities


def is_guessing(draws: Iterable[Doubles]) -> bool:
    """Whether the mean over several draws (n, m) is within three standard errors; row i belongs to original i."""
    rankings, expected = [], {}
    for similarities in draws:
        rankings.append(rank_similarities(similarities, range(len(similarities))))
        expected = chance(similarities.shape[1])
    found = {
        "Re-ID@10": [float(ranking.hits(10).mean()) for ranking in rankings],
        "mAP@50": [float(ranking.precisions().mean()) for ranking in rankings],
    }
    return all(
        abs(np.mean(values) - expected[name]) <= 3 * np.std(values, ddof=1) / np.sqrt(len(values))
        for name, values in found.items()
    )
