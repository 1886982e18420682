"""Linkage through the prompt, on readings that are made by hand or drawn at random."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.guard.anonymity import count_people, say
from anon_runtime.guard.words import coarsen, count_attributes, years_apart
from benchmarks.evaluate.attackers.words import (
    AGE_ERROR,
    RIGHT_ETHNICITY,
    WRONG_WORD,
    as_words,
    combine,
    exact_words,
    within_cells,
    words,
)
from benchmarks.evaluate.k_anonymity import IGNORABLE, as_attributes
from benchmarks.evaluate.predictors import FaceEngines
from benchmarks.evaluate.reidentification import Doubles, Ranking, chance_within, figures, rank_similarities
from tests.benchmarks.evaluate.attackers.guesses import is_guessing

K = len(FaceEngines.columns)
ETHNICITY = slice(len(CELEBA), len(CELEBA) + len(ETHNICITIES))
AGE = FaceEngines.columns.index("Age")


def draw(n: int, seed: int) -> Doubles:
    """Readings of n faces that differ, each in a box of its own."""
    rng = np.random.default_rng(seed)
    ethnicities = np.eye(len(ETHNICITIES))[rng.integers(len(ETHNICITIES), size=n)]
    scores = rng.beta(0.3, 0.7, (n, len(CELEBA))).round(3)
    return np.hstack([scores, ethnicities, rng.integers(2, 70, (n, 1)), rng.uniform(0, 200, (n, 4))])


def share(ranking: Ranking, k: int = 1) -> float:
    return float(ranking.hits(k).mean())


def test_copies_are_found() -> None:
    readings = draw(80, 0)
    assert share(rank_similarities(words(readings, readings), range(80))) > 0.99


def test_strangers_are_found_by_chance() -> None:
    assert is_guessing(words(draw(200, seed), draw(200, 100 + seed)) for seed in range(10))


def test_a_likelihood_by_hand() -> None:
    """Two words of three are clear: the first attribute is there, and the last one is not."""
    portrait, original = np.full((1, K), np.nan), np.zeros((3, K))
    portrait[0, : len(CELEBA)] = 0.5
    portrait[0, [0, len(CELEBA) - 1]] = 1, 0
    portrait[0, ETHNICITY], portrait[0, AGE], portrait[0, AGE + 1 :] = np.eye(6)[2], 30, 7
    original[:, ETHNICITY], original[:, AGE] = np.eye(6)[[2, 2, 0]], [30, 40, 30]
    original[0, 0], original[1, 0], original[1, len(CELEBA) - 1] = 0.51, 0.5, 0.9
    right, wrong, middle = np.log(1 - WRONG_WORD), np.log(WRONG_WORD), (len(CELEBA) - 2) * np.log(0.5)
    likelihood = words(portrait, original) - middle
    assert likelihood.tolist() == [
        pytest.approx(
            [
                2 * right + np.log(RIGHT_ETHNICITY),
                2 * wrong + np.log(RIGHT_ETHNICITY) - (10 / AGE_ERROR) ** 2 / 2,
                wrong + right + np.log((1 - RIGHT_ETHNICITY) / 5),
            ]
        )
    ]


def test_the_box_says_nothing() -> None:
    portraits, originals = draw(20, 3), draw(30, 4)
    elsewhere = originals.copy()
    elsewhere[:, AGE + 1 :] += 50
    np.testing.assert_array_equal(words(portraits, originals), words(portraits, elsewhere))
    assert as_words(originals).shape == (30, AGE + 1)


def test_without_a_face_there_is_no_information() -> None:
    portraits, originals = draw(20, 5), draw(20, 5)
    portraits[3], originals[7] = np.nan, np.nan
    likelihood = words(portraits, originals)
    assert np.isfinite(likelihood).all()
    assert len({*likelihood[3].tolist()}) == 1
    others = np.delete(likelihood, 7, axis=1)
    np.testing.assert_allclose(likelihood[:, 7], others.mean(axis=1))
    ranking = rank_similarities(likelihood, range(20))
    assert ranking.hits(1)[3] == pytest.approx(1 / 20)
    assert not words(draw(3, 0), np.full((4, K), np.nan)).any()


def test_the_attacker_changes_no_reading() -> None:
    portraits, originals = draw(10, 6), draw(10, 7)
    copies = portraits.copy(), originals.copy()
    words(portraits, originals)
    np.testing.assert_array_equal(portraits, copies[0])
    np.testing.assert_array_equal(originals, copies[1])


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30))
def test_exact_words_give_one_over_k(seed: int, n: int) -> None:
    """Few different people, whose scores differ and whose words are the same."""
    rng = np.random.default_rng(seed)
    originals = draw(4, seed)[rng.integers(4, size=n)]
    originals[:, : len(CELEBA)] = (originals[:, : len(CELEBA)] > 0.5) * 0.3 + rng.uniform(0.3, 0.5, (n, 40))
    prompts = [write_prompts(person) for person in as_attributes(originals)]
    sizes, asked = Counter(prompts), rng.permutation(n).tolist()
    ranking = rank_similarities(exact_words(originals, asked, [0] * n), asked)
    assert ranking.hits(1).tolist() == pytest.approx([1 / sizes[prompts[i]] for i in asked])


def test_an_original_without_a_face_has_no_prompt() -> None:
    originals = draw(5, 8)
    originals[1:3] = np.nan
    found = exact_words(originals, [1, 3, 4], [0, 0, 2])
    assert found.tolist() == [[0] * 5, [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.sets(st.sampled_from(IGNORABLE)))
def test_exact_words_fit_as_the_runtime_counts(seed: int, n: int, ignored: set[str]) -> None:
    """The numbers of people whom words fit, and portraits that fit one person only, are those of a run's report."""
    rng = np.random.default_rng(seed)
    originals = draw(2, seed)[rng.integers(2, size=n)]
    few = rng.random((n, len(CELEBA))) < 0.05
    originals[:, : len(CELEBA)] = np.abs(originals[:, : len(CELEBA)] - few)
    originals[:, AGE] = rng.integers(30, 45, n)
    levels, people = rng.integers(6, size=n).tolist(), as_attributes(originals)
    fits = exact_words(originals, range(n), levels, ignored).sum(axis=1)
    frequencies = count_attributes(people)
    ages = [int(person["Age"]) for person in people]
    coarse = [coarsen(person, level, frequencies) for person, level in zip(people, levels, strict=True)]
    told = [say(*one, ignored) for one in zip(coarse, ages, map(years_apart, levels), strict=True)]
    everybody = [say(person, age, ignore=ignored) for person, age in zip(people, ages, strict=True)]
    counted = count_people(told, everybody)
    assert ((fits == 1).sum(), (fits < 5).sum(), np.median(fits)) == (
        counted.alone,
        counted.fewer_than_five,
        counted.median,
    )


def test_coarser_words_fit_more_people() -> None:
    originals = np.repeat(draw(1, 0), 4, axis=0)
    originals[:, AGE] = [30, 34, 38, 52]
    originals[2, 0] = 1 - originals[2, 0]
    assert exact_words(originals, [0] * 3, [0, 1, 2]).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert exact_words(originals, [0] * 3, [0, 1, 2], [CELEBA[0]])[2].tolist() == [1, 1, 1, 0]


def test_words_that_no_prompt_mentions_do_not_count() -> None:
    portraits, originals = draw(30, 10), draw(30, 10)
    hidden = [CELEBA.index(name) for name in IGNORABLE[:20]]
    noisy = portraits.copy()
    noisy[:, hidden] = np.random.default_rng(11).permutation(portraits)[:, hidden]
    np.testing.assert_allclose(words(noisy, originals, IGNORABLE[:20]), words(portraits, originals, IGNORABLE[:20]))
    assert not np.allclose(words(noisy, originals), words(portraits, originals))


def test_face_and_words_are_better_than_either() -> None:
    rng = np.random.default_rng(9)
    n = 300
    face, other = (2 * np.eye(n) + rng.standard_normal((n, n)) for _ in range(2))
    alone = [share(rank_similarities(one, range(n))) for one in (face, 100 * other)]
    assert share(rank_similarities(combine(face, 100 * other), range(n))) > max(alone) + 0.1


def test_both_have_the_same_weight_in_every_row() -> None:
    rng = np.random.default_rng(10)
    face, other = rng.standard_normal((5, 40)), 1000 * rng.standard_normal((5, 40)) - 7
    np.testing.assert_allclose(combine(face, np.zeros((5, 40))).std(axis=1), 1)
    np.testing.assert_allclose(combine(face, other), combine(3 * face + 1, other))
    np.testing.assert_allclose(combine(face, other), combine(other, face))
    assert not combine(np.full((2, 3), 0.1), np.full((2, 3), 5)).any()


def test_ranking_within_cells_ignores_the_others() -> None:
    n = 500
    rng = np.random.default_rng(11)
    cells = [("man", int(i)) if i % 2 else None for i in rng.integers(8, size=n)]
    noise = rng.standard_normal((n, n))
    ranking = rank_similarities(within_cells(noise, range(n), cells), range(n))
    found, expected = figures(ranking), chance_within(cells)
    for name, value in expected.items():
        assert found[name].low <= value <= found[name].high
    sizes = Counter(cells)
    assert (ranking.above < np.array([sizes[cell] for cell in cells])).all()


def test_within_cells_by_hand() -> None:
    similarities = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert within_cells(similarities, [1, 2], ["a", "b", "a"]).tolist() == [[-5, 2, -3], [4, -1, 6]]
    equal = rank_similarities(within_cells(np.zeros((3, 3)), range(3), ["a", "b", "a"]), range(3))
    assert equal.hits(1).tolist() == [0.5, 1, 0.5]
