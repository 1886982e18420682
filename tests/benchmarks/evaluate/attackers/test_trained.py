"""Trained attackers, on embeddings that are drawn at random: what there is to learn, and what must not be learned."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.evaluate.attackers.trained import (
    SETS,
    Attack,
    Learn,
    cross_fit,
    everything,
    learn_layer,
    learn_rotation,
    network,
    procrustes,
)
from benchmarks.evaluate.people import Numbers
from benchmarks.evaluate.predictors import FaceEngines
from benchmarks.evaluate.reidentification import Doubles, rank_similarities, similarity
from benchmarks.evaluate.requirements import MissingError
from tests.benchmarks.evaluate.attackers.guesses import is_guessing

Attacker = Callable[..., Doubles]
N, WIDTH = 300, 16
ATTACKERS = pytest.mark.parametrize("attacker", [procrustes, network])


def vectors(seed: int, n: int = N, width: int = WIDTH) -> Doubles:
    return np.random.default_rng(seed).standard_normal((n, width))


def alone(n: int = N) -> Numbers:
    """Everybody is one person."""
    return np.arange(n)


def share(similarities: Doubles, k: int = 1) -> float:
    return float(rank_similarities(similarities, range(len(similarities))).hits(k).mean())


@ATTACKERS
@pytest.mark.parametrize("width", [WIDTH, 100])
def test_copies_are_found(attacker: Attacker, width: int) -> None:
    """Also where the pairs, two thirds of 60, leave most directions open."""
    faces = vectors(0, 60, width)
    assert share(attacker(faces, faces, range(60), alone(60))) > 0.98


def turned(noise: float) -> tuple[Doubles, Doubles]:
    """Portraits that are an unknown rotation of their originals, elsewhere in space, and their originals."""
    originals = vectors(1)
    rotation = np.linalg.qr(vectors(2, WIDTH))[0]
    return originals @ rotation + 3 + noise * vectors(3), originals


def test_a_rotation_is_learned_from_other_people() -> None:
    portraits, originals = turned(0.1)
    assert share(similarity(portraits, originals, "cosine"), k=10) < 20 / N
    assert share(procrustes(portraits, originals, range(N), alone())) > 0.98


@ATTACKERS
def test_more_than_a_rotation_is_learned_from_other_people(attacker: Attacker) -> None:
    """Any linear map, which the original shines through, with noise."""
    originals = vectors(4, N, 32)
    portraits = originals + 2 * originals @ vectors(9, 32, 32) / np.sqrt(32) + vectors(5, N, 32)
    assert share(similarity(portraits, originals, "cosine")) < 0.4
    assert share(attacker(portraits, originals, range(N), alone())) > 0.7


@ATTACKERS
@pytest.mark.parametrize("width", [WIDTH, 80])
def test_noise_is_found_by_chance(attacker: Attacker, width: int) -> None:
    """With as many columns as portraits, all training pairs could be learned by heart."""
    assert is_guessing(
        attacker(vectors(seed, 80, width), vectors(50 + seed, 80, width), range(80), alone(80)) for seed in range(12)
    )


@pytest.mark.parametrize("learn", [learn_rotation, learn_layer])
def test_those_who_trained_on_the_noise_know_it(learn: Learn) -> None:
    """The test above would fail if people were on both sides."""
    portraits, originals = vectors(6, 200, 256), vectors(7, 200, 256)
    assert share(learn(portraits, originals)(portraits, originals)) > 0.9


@ATTACKERS
def test_shuffled_portraits_are_found_by_chance(attacker: Attacker) -> None:
    def attack(seed: int) -> Doubles:
        originals = vectors(seed, 80)
        portraits = originals[np.random.default_rng(seed).permutation(80)]
        return attacker(portraits, originals, range(80), alone(80))

    assert is_guessing(attack(seed) for seed in range(12))


def test_nobody_is_tested_by_what_was_learned_from_them() -> None:
    """Originals have several portraits or none, and there are groups of near copies; each row says whose it is."""
    rng = np.random.default_rng(10)
    people = rng.integers(40, size=100)
    own = rng.integers(100, size=150).tolist()
    portraits = np.stack([np.arange(150), people[own]], axis=1).astype(np.float64)
    originals = np.stack([np.arange(100), people], axis=1).astype(np.float64)
    trained: list[int] = []

    def learn(read: Doubles, known: Doubles) -> Attack:
        np.testing.assert_array_equal(read[:, 1], known[:, 1])
        np.testing.assert_array_equal(np.array(own)[read[:, 0].astype(int)], known[:, 0])
        seen = {*read[:, 1].tolist()}
        trained.append(len(seen))

        def attack(asked: Doubles, gallery: Doubles) -> Doubles:
            assert not seen & {*asked[:, 1].tolist(), *gallery[:, 1].tolist()}, "neither a person nor a near copy"
            return asked[:, :1] + 1000 * gallery[:, 0]

        return attack

    found = cross_fit(learn, portraits, originals, own, people)
    np.testing.assert_array_equal(found, np.arange(150)[:, None] + 1000 * np.arange(100))
    assert len(trained) == 15
    assert min(trained) > 20, "of 40"


def test_nothing_learned_is_nothing_changed() -> None:
    """The folds alone neither help nor harm."""
    portraits, originals = vectors(18), vectors(19) + vectors(18)

    def learn(read: Doubles, known: Doubles) -> Attack:
        return lambda asked, gallery: similarity(asked, gallery, "cosine")

    found = cross_fit(learn, portraits, originals, range(N), alone())
    np.testing.assert_allclose(found, similarity(portraits, originals, "cosine"), atol=1e-12)


@ATTACKERS
def test_results_depend_on_the_arguments_only(attacker: Attacker) -> None:
    portraits, originals = turned(0.5)
    first, again, other = (attacker(portraits, originals, range(N), alone(), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_attacker_learns_in_its_own_way() -> None:
    portraits, originals = turned(0.5)
    for attacker, learn in ((procrustes, learn_rotation), (network, learn_layer)):
        found = attacker(portraits, originals, range(N), alone(), 2)
        np.testing.assert_array_equal(found, cross_fit(learn, portraits, originals, range(N), alone(), 2))


@pytest.mark.parametrize("learn", [learn_rotation, learn_layer])
def test_a_portrait_is_compared_by_itself(learn: Learn) -> None:
    """The others that are asked, and the rest of the gallery, have no influence."""
    portraits, originals = turned(0.5)
    attack = learn(portraits[50:], originals[50:])
    np.testing.assert_allclose(attack(portraits[:1], originals[:2]), attack(portraits, originals)[:1, :2])


def test_too_few_people_to_learn_from() -> None:
    people, faces = np.arange(48) // 4, vectors(11, 48)
    assert procrustes(faces, faces, range(48), people).shape == (48, 48)
    with pytest.raises(MissingError, match="11 people, and it takes 12"):
        procrustes(faces[4:], faces, range(4, 48), people)
    assert SETS == 6


def test_everything_weighs_sources_alike() -> None:
    rng = np.random.default_rng(12)
    width = len(FaceEngines.columns)
    narrow, wide = (5 + rng.standard_normal((30, 4)), vectors(13, 50, 4)), (vectors(14, 30, 64), vectors(15, 50, 64))
    readings = rng.uniform(0, 1, (30, width)), rng.uniform(0, 1, (50, width))
    readings[0][2], readings[1][:3] = np.nan, np.nan
    readings[0][:, 5] = 0.1
    portraits, originals = everything([narrow, wide], readings)
    assert not portraits[:, 68 + 5].any(), "a column that is the same everywhere says nothing"
    assert portraits.shape == (30, 4 + 64 + 2 * 47)
    assert originals.shape == (50, 4 + 64 + 2 * 47)
    for features in (portraits, originals):
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-12)
        for first, last in ((0, 4), (4, 68)):
            assert (features[:, first:last] ** 2).sum(axis=1).mean() == pytest.approx(1)
    assert not portraits[2, 68:].any(), "without a face, the readings are the mean"
    assert len(np.unique(originals[3:, 68 + 47])) == 2, "the words of originals are yes or no"
    assert len(np.unique(portraits[:, 68 + 47])) == 30


def test_everything_without_any_face() -> None:
    nothing = np.full((12, len(FaceEngines.columns)), np.nan)
    portraits, originals = everything([(vectors(16, 12), vectors(17, 12))], (nothing, nothing))
    assert not portraits[:, WIDTH:].any()
    assert np.isfinite(originals).all()
