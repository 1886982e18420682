"""Rates in galleries of other sizes, compared with all galleries one by one, with SciPy and with larger galleries."""

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from benchmarks.evaluate.galleries import (
    FEWEST,
    binomial_hits,
    extrapolate,
    false_match_rates,
    hits_among,
    rates,
)
from benchmarks.evaluate.intervals import bootstrap
from benchmarks.evaluate.reidentification import Doubles, by_person, figures, rank_similarities, similarity


def simulate(n: int, noise: float, seed: int = 0, width: int = 16) -> Doubles:
    """Similarities of n noisy images to the n originals."""
    rng = np.random.default_rng(seed)
    originals = rng.standard_normal((n, width))
    return similarity(originals + noise * rng.standard_normal((n, width)), originals, "euclidean")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.integers(2, 7), st.data())
def test_the_mean_over_all_galleries_one_by_one(seed: int, m: int, data: st.DataObject) -> None:
    """Similarities with few different values have many ties."""
    likeness = np.random.default_rng(seed).integers(0, 3, (m, m)) / 2
    size, k = data.draw(st.integers(1, m)), data.draw(st.integers(1, m))
    ranking = rank_similarities(likeness, range(m))
    for query, found in enumerate(hits_among(ranking, k, size, m)):
        others = [i for i in range(m) if i != query]
        parts = [[query, *some] for some in combinations(others, size - 1)]
        expected = [rank_similarities(likeness[query : query + 1, part], [0]).hits(k)[0] for part in parts]
        assert found == pytest.approx(np.mean(expected))


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 12))
def test_the_whole_gallery_is_a_gallery(seed: int, m: int, k: int) -> None:
    ranking = rank_similarities(np.random.default_rng(seed).integers(0, 9, (m, m)) / 8, range(m))
    np.testing.assert_allclose(hits_among(ranking, k, m, m), ranking.hits(k), atol=1e-12)
    assert (hits_among(ranking, k, 1, m) == 1).all()


@pytest.mark.packages
@pytest.mark.parametrize("size", [1, 2, 30, 100, 150])
def test_linkability_is_that_of_legal_eval(size: int) -> None:
    io = pytest.importorskip("legal_eval.io")
    linkability = pytest.importorskip("legal_eval.metrics.linkability")
    likeness = simulate(150, 2)
    names = [str(i) for i in range(150)]
    matrix = io.ScoreMatrix(scores=likeness.T, enroll_speakers=names, test_speakers=names, metadata={})
    (expected,) = linkability.linkability(matrix, size, estimator="exact")
    found = hits_among(rank_similarities(likeness, range(150)), 1, size, 150).mean()
    assert found == pytest.approx(expected)
    assert 0 < found <= 1


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.integers(1, 100), st.integers(1, 10))
def test_equal_embeddings_give_the_rates_of_guessing(gallery: int, more: int, k: int) -> None:
    alike = np.full((gallery, gallery), 0.3)
    ranking, k, size = rank_similarities(alike, range(gallery)), min(k, gallery - 1), gallery + more
    assert hits_among(ranking, k, gallery - 1, gallery) == pytest.approx(k / (gallery - 1))
    assert extrapolate(ranking, false_match_rates(alike, range(gallery)), k, size, gallery).value == pytest.approx(
        k / size
    )


def test_strangers_have_the_rates_of_guessing() -> None:
    rng = np.random.default_rng(1)
    likeness = similarity(rng.standard_normal((900, 8)), rng.standard_normal((300, 8)), "cosine")
    own = np.arange(900) % 300
    ranking, matches = rank_similarities(likeness, own), false_match_rates(likeness, own)
    for k in (1, 5, 20):
        less, more = bootstrap(hits_among(ranking, k, 100, 300)), extrapolate(ranking, matches, k, 1000, 300)
        assert less.low <= k / 100 <= less.high
        assert more.low <= k / 1000 <= more.high


def test_copies_are_found_in_every_gallery() -> None:
    likeness = simulate(120, 0)
    ranking = rank_similarities(likeness, range(120))
    assert (hits_among(ranking, 1, 50, 120) == 1).all()
    found = extrapolate(ranking, false_match_rates(likeness, range(120)), 1, 1000, 120)
    assert (found.value, found.high) == (1, 1)
    assert 0.96 < found.low < 1


@given(st.integers(0, 1000))
def test_false_match_rates_do_not_depend_on_the_scale_of_a_query(seed: int) -> None:
    rng = np.random.default_rng(seed)
    likeness, own = rng.standard_normal((6, 9)), rng.integers(0, 9, 6)
    scaled = likeness * rng.uniform(0.1, 10, (6, 1)) + rng.standard_normal((6, 1))
    np.testing.assert_allclose(false_match_rates(scaled, own), false_match_rates(likeness, own), atol=0.02)


def test_false_match_rates_by_hand() -> None:
    """The wrong images lie at -1 and 1 deviations from their mean for both queries; the originals at 3 and 1."""
    likeness = np.array([[5.0, 0.0, 2.0], [10.0, 30.0, 30.0]])
    assert false_match_rates(likeness, [0, 1]).tolist() == [[0, 0], [0, 0.5]]


@given(st.floats(0, 1), st.integers(2, 400), st.integers(1, 10))
def test_the_model_is_scipys_binomial(rate: float, size: int, k: int) -> None:
    k = min(k, size - 1)
    found = binomial_hits(np.array([[rate, rate]]), k, size)
    assert found == pytest.approx(binom.cdf(k - 1, size - 1, rate), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0.001, 1), st.integers(2, 60), st.integers(1, 5))
def test_between_two_rates_the_model_takes_the_mean(low: float, width: float, size: int, k: int) -> None:
    k, high = min(k, size - 1), min(1, low + width)
    low = high - width
    expected = quad(lambda rate: binom.cdf(k - 1, size - 1, rate), max(low, 0), high)[0] / (high - max(low, 0))
    assert binomial_hits(np.array([[max(low, 0), high]]), k, size) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("noise", "k", "error"), [(0.7, 1, 0.04), (1, 1, 0.04), (2, 1, 0.03), (2, 5, 0.04), (4, 5, 0.02)]
)
def test_a_larger_gallery_is_predicted_from_parts_of_it(noise: float, k: int, error: float) -> None:
    """From 100 people to 900: the mean error, and how often the interval has the rate that is measured."""
    rng, likeness, n = np.random.default_rng(2), simulate(900, noise), 900
    measured = rank_similarities(likeness, range(n)).hits(k).mean()
    found, small = [], []
    for _ in range(12):
        some = rng.choice(n, 100, replace=False)
        part = likeness[np.ix_(some, some)]
        ranking = rank_similarities(part, range(100))
        small.append(ranking.hits(k).mean())
        found.append(extrapolate(ranking, false_match_rates(part, range(100)), k, n, 100))
    mean = np.mean([interval.value for interval in found])
    assert abs(mean - measured) < error
    assert abs(mean - measured) < abs(np.mean(small) - measured) / 2
    assert sum(interval.low <= measured <= interval.high for interval in found) >= 9


def test_the_odds_are_measured_and_only_their_change_is_modelled() -> None:
    likeness = simulate(200, 1.5)
    ranking, matches = rank_similarities(likeness, range(200)), false_match_rates(likeness, range(200))
    odds = [
        rate / (1 - rate)
        for rate in (
            extrapolate(ranking, matches, 1, 500, 200).value,
            ranking.hits(1).mean(),
            binomial_hits(matches, 1, 500).mean(),
            binomial_hits(matches, 1, 200).mean(),
        )
    ]
    assert odds[0] == pytest.approx(odds[1] * odds[2] / odds[3])


KEYS = {"Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50", "among 100", "among 1000", "people"}


def found(likeness: Doubles, people: Any = None, **masks: Any) -> Any:
    """`rates` as a reader of JSON sees them."""
    n, m = likeness.shape
    everyone = np.arange(m) if people is None else people
    return json.loads(json.dumps(rates(likeness, range(n), everyone, masks), allow_nan=False))


def test_rates_of_all_and_of_groups() -> None:
    likeness, mask = simulate(150, 1), np.arange(150) % 5 > 1
    ranking = rank_similarities(likeness, range(150))
    scored = found(likeness, some=mask, nobody=np.arange(150) == 3)
    assert {*scored["all"]} == KEYS
    assert {*scored["groups"]["some"]} == KEYS | {"own group"}
    assert scored["all"]["mAP@50"]["value"] == figures(ranking)["mAP@50"].value
    some, one = scored["groups"]["some"], scored["groups"]["nobody"]
    assert some["Re-ID@1"]["value"] == ranking.hits(1)[mask].mean()
    assert some["among 100"]["method"] == "exact"
    assert some["among 100"]["value"] == pytest.approx(hits_among(ranking, 1, 100, 150)[mask].mean())
    assert some["among 1000"]["method"] == "extrapolated"
    assert some["among 1000"]["of"] == 90
    expected = extrapolate(ranking.of(mask), false_match_rates(likeness, range(150))[mask], 1, 1000, 150)
    assert some["among 1000"]["value"] == pytest.approx(expected.value)
    assert some["among 100"]["value"] > some["Re-ID@1"]["value"] > some["among 1000"]["value"]
    assert one["among 100"] == one["people"]["among 1000"] == {"value": None, "of": 1, "reason": "fewer than 2 images"}


def test_people_with_several_images_are_one_answer() -> None:
    likeness = np.repeat(np.repeat(simulate(110, 0), 2, axis=1), 2, axis=0)
    scored = found(likeness, np.repeat(np.arange(110), 2) * 3)["all"]
    assert scored["Re-ID@1"]["value"] == 0.5, "an image and its copy are equally similar"
    assert scored["people"]["gallery"] == 110
    assert [scored["people"][key]["value"] for key in ("Re-ID@1", "among 100", "among 1000")] == [1, 1, 1]
    assert scored["people"]["among 100"]["method"] == "exact"


def test_people_are_ranked_as_a_gallery_of_people_is() -> None:
    people, mask = np.arange(220) // 2, np.arange(220) % 3 == 0
    rng = np.random.default_rng(3)
    originals = rng.standard_normal((110, 16))[people] + 0.3 * rng.standard_normal((220, 16))
    likeness = similarity(originals + rng.standard_normal((220, 16)), originals, "euclidean")
    scored = found(likeness, people, mask=mask)
    direct = rates(by_person(likeness, people), people.tolist(), np.arange(110), {"mask": mask})
    for one, other in ((scored["all"], direct["all"]), (scored["groups"]["mask"], direct["groups"]["mask"])):
        for key in ("Re-ID@1", "among 100", "among 1000"):
            assert one["people"][key] == other[key]
            assert one[key] != other[key]


def test_similarities_that_differ_in_the_last_digit_are_equal() -> None:
    alike = 0.3 + 1e-15 * np.random.default_rng(0).standard_normal((50, 50))
    assert false_match_rates(alike, range(50)).tolist() == [[0, 1]] * 50


def test_what_would_be_a_guess_has_a_reason() -> None:
    whole = found(simulate(100, 1))["all"]
    assert whole["among 100"] == {**whole["Re-ID@1"], "method": "exact"}
    few = found(simulate(99, 0))["all"]
    assert few["among 100"]["method"] == "extrapolated"
    assert few["among 1000"]["reason"] == "more than 10 times the gallery of 99"
    enough = simulate(100, 1) + np.diag(np.repeat([9, -9], [FEWEST, 100 - FEWEST]))
    assert found(enough)["all"]["among 1000"]["value"] is not None
    one_less = simulate(100, 1) + np.diag(np.repeat([9, -9], [FEWEST - 1, 101 - FEWEST]))
    assert found(one_less)["all"]["among 1000"]["reason"] == "fewer than 5 are found in the gallery of 100"


def test_a_group_is_also_ranked_among_its_own_originals() -> None:
    """Two queries of the group are nearest to an original outside it, and find their own once that one is gone."""
    similarities = np.array([[0.5, 0.1, 0.9, 0.0], [0.1, 0.5, 0.9, 0.0], [0.9, 0.8, 0.5, 0.1]])
    found = rates(similarities, [0, 1, 2], np.arange(4), {"own": np.array([True, True, False])})
    group = found["groups"]["own"]
    assert group["Re-ID@1"]["value"] == 0
    assert group["own group"]["value"] == 1
    assert group["own group"]["of"] == 2
    assert "own group" not in found["all"]
