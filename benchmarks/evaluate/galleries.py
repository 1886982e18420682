"""Re-identification in galleries of a fixed size, so that runs with different numbers of photos can be compared.

The more photos there are to choose from, the fewer people are found: Re-ID@1 of 100 photos and of 1000 photos are
different figures. For a smaller gallery than the one at hand the rate is computed exactly (`hits_among`), for a larger
one it is extrapolated (`extrapolate`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, expit, logit
from scipy.stats import hypergeom

from .intervals import Interval, bootstrap, percentiles
from .reidentification import Doubles, Ranking, by_person, figures, rank_similarities
from .types import Figures, Mask, Vector

SIZES = (100, 1000)
FARTHEST = 10  # a gallery is extrapolated to so many times its size at most; beyond it nothing was tried
FEWEST = 5  # images that have to be found in a gallery before their number in a larger one is estimated
_RESAMPLES = 2000


def hits_among(ranking: Ranking, k: int, size: int, gallery: int) -> Doubles:
    """Probability for each query (n,) that its original is among the first k in a random part of the gallery.

    The part has the query's original and ``size - 1`` other images, all choices being equally likely. Of the images
    that are more similar than the original, a hypergeometric number is among them; the original is found if it is less
    than k. Equally similar images are in random order. With k = 1 the mean is the linkability of Vauquier et al.
    (Legally validated evaluation framework for voice anonymization, Interspeech 2025).

    Args:
        ranking: in the whole gallery.
        k: ranks that count as found.
        size: of the part, 1 to ``gallery``.
        gallery: number of images in the whole gallery.
    """
    found = hypergeom.cdf(k - 1, gallery - 1, np.arange(gallery), size - 1)
    # sums[r]: of the probabilities with 0 to r - 1 images above; ties take the mean over the places they share.
    sums = np.concatenate([[0], np.cumsum(found)])
    hits: Doubles = (sums[ranking.above + ranking.level + 1] - sums[ranking.above]) / (ranking.level + 1)
    return hits.clip(0, 1)


def false_match_rates(similarities: Vector, own: Sequence[int] | NDArray[np.int64]) -> Doubles:
    """How often a wrong image is as similar to a query as its original is.

    Similarities are centred and scaled by the mean and the deviation of all wrong images of their query, which makes
    queries comparable, so that a rate is counted over the wrong images of all queries (Grother and Phillips, Models of
    large population recognition performance, CVPR 2004).

    Args:
        similarities: (n, m), of n queries to a gallery of at least two images.
        own: column of each query's original.

    Returns:
        (n, 2): the share of wrong images that are more similar, and the share that are at least as similar.
    """
    rows, columns = np.arange(len(similarities)), np.asarray(own, np.int64)
    wrong = np.ones(similarities.shape, bool)
    wrong[rows, columns] = False
    mean = similarities.mean(axis=1, keepdims=True, where=wrong)
    deviation = similarities.std(axis=1, keepdims=True, where=wrong).clip(1e-6)
    scores = ((similarities - mean) / deviation).round(6)  # equal ones may differ in the last digit
    right, pool = scores[rows, columns], np.sort(scores[wrong])
    below = np.stack([np.searchsorted(pool, right, side) for side in ("right", "left")], axis=1)
    rates: Doubles = 1 - below / len(pool)
    return rates


def binomial_hits(false_matches: Vector, k: int, size: int) -> Doubles:
    """Probability for each query (n,) that its original is among the first k, by the binomial model.

    It is ``binom.cdf(k - 1, size - 1, rate)``: fewer than k of ``size - 1`` wrong images match falsely, independently
    of one another. Where some wrong images are exactly as similar as the original, it is the mean over all rates
    between both false match rates, so that equal embeddings give k / size.

    Args:
        false_matches: (n, 2), see `false_match_rates`.
        k: ranks that count as found, fewer than ``size``.
        size: of the gallery.
    """
    low, high = false_matches.T

    def integral(rate: Vector) -> Doubles:
        """Of the probability over rates from 0 to this one, by parts."""
        area: Doubles = rate * betainc(size - k, k, 1 - rate) + k / size * betainc(k + 1, size - k, rate)
        return area

    means = (integral(high) - integral(low)) / np.where(high > low, high - low, 1)
    hits: Doubles = np.where(high > low, means, betainc(size - k, k, 1 - low))
    return hits


def extrapolate(ranking: Ranking, false_matches: Vector, k: int, size: int, gallery: int) -> Interval:
    """Re-ID@k in a larger gallery, with its interval.

    The binomial model of Grother and Phillips (see `binomial_hits`) gives rates that are too low where many people are
    found, because wrong images are not as independent as it assumes. It is therefore used for the change only: the odds
    of being found, as measured in the gallery, are multiplied by the quotient of the model's odds in both galleries. If
    all queries are found in the gallery, or none is, the rate stays as it is.

    The interval is a percentile bootstrap over queries, for which all three rates are computed from each resample.

    Args:
        ranking: of n queries in the gallery.
        false_matches: (n, 2), see `false_match_rates`.
        k: ranks that count as found, fewer than ``gallery``.
        size: of the larger gallery.
        gallery: number of images in the gallery.
    """
    hits, n = ranking.hits(k), len(ranking.above)
    if (hits == hits[0]).all() and hits[0] in (0, 1):
        return bootstrap(hits)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    weights = np.concatenate([np.ones((1, n)), draws]) / n
    measured, here, there = (
        logit((weights @ found).clip(1e-12, 1 - 1e-12))
        for found in (hits, binomial_hits(false_matches, k, gallery), binomial_hits(false_matches, k, size))
    )
    rates = expit(measured + there - here)
    return percentiles(float(rates[0]), rates[1:], n)


@dataclass(frozen=True)
class _Gallery:
    """A gallery of images or people: its size, and where the queries' originals are in it."""

    size: int
    ranking: Ranking
    false_matches: Doubles

    @classmethod
    def of(cls, similarities: Vector, own: NDArray[np.int64]) -> "_Gallery":
        return cls(similarities.shape[1], rank_similarities(similarities, own), false_match_rates(similarities, own))

    def among(self, size: int, chosen: Mask) -> Figures:
        """Re-ID@1 of some queries in a gallery of another size; no value where it would be a guess."""
        ranking, n = self.ranking.of(chosen), int(chosen.sum())
        if n < 2:
            return {"value": None, "of": n, "reason": "fewer than 2 images"}
        if size <= self.size:
            return asdict(bootstrap(hits_among(ranking, 1, size, self.size))) | {"method": "exact"}
        if size > FARTHEST * self.size:
            return {"value": None, "of": n, "reason": f"more than {FARTHEST} times the gallery of {self.size}"}
        if ranking.hits(1).sum() < FEWEST:
            return {"value": None, "of": n, "reason": f"fewer than {FEWEST} are found in the gallery of {self.size}"}
        found = extrapolate(ranking, self.false_matches[chosen], 1, size, self.size)
        return asdict(found) | {"method": "extrapolated"}


def rates(similarities: Vector, own: Sequence[int], people: NDArray[np.int64], masks: Mapping[str, Mask]) -> Figures:
    """Re-identification by one attacker, of all queries and by group.

    Args:
        similarities: (n, m), of the n anonymized images to the m originals.
        own: column of each image's original.
        people: (m,), the person of each original, see `people.find_people`.
        masks: (n,) by the name of a group, the queries in it; the gallery stays the whole.

    Returns:
        ``all``, and ``groups`` with the same figures by group: Re-ID@1, @5, @10 and mAP@50 in the whole gallery;
        ``among 100`` and ``among 1000``: Re-ID@1 in galleries of this size, with the ``method``, exact or extrapolated,
        or no value and a ``reason``; and ``people``, a gallery of people in place of images (see
        `reidentification.by_person`): ``gallery``, its size, Re-ID@1, ``among 100`` and ``among 1000``. Groups have
        ``own group``, too: Re-ID@1 in a gallery of the group's own originals, as if there were no other people.
    """
    columns = np.asarray(own, np.int64)
    images = _Gallery.of(similarities, columns)
    persons = _Gallery.of(by_person(similarities, people), np.unique(people, return_inverse=True)[1][columns])

    def score(chosen: Mask) -> Figures:
        found: Figures = {name: asdict(interval) for name, interval in figures(images.ranking.of(chosen)).items()}
        person = {"gallery": persons.size, "Re-ID@1": asdict(bootstrap(persons.ranking.of(chosen).hits(1)))}
        for size in SIZES:
            found[f"among {size}"] = images.among(size, chosen)
            person[f"among {size}"] = persons.among(size, chosen)
        return found | {"people": person}

    def score_alone(chosen: Mask) -> Figures:
        alone = rank_similarities(similarities[np.ix_(chosen, columns[chosen])], np.arange(chosen.sum()))
        return asdict(bootstrap(alone.hits(1)))

    return {
        "all": score(np.ones(len(columns), bool)),
        "groups": {name: score(mask) | {"own group": score_alone(mask)} for name, mask in masks.items()},
    }
