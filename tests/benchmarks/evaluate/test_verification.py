"""Verification, compared with scikit-learn, with resamples that are written out, and with guessing."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from benchmarks.evaluate.reidentification import Doubles, Metric, similarity
from benchmarks.evaluate.verification import FARS, verify

Integers = NDArray[np.int64]
COUNT = 150  # 11175 pairs, so that both false accept rates are there


def vectors(n: int, seed: int, width: int = 8) -> Doubles:
    return np.random.default_rng(seed).standard_normal((n, width))


def found(
    portraits: Doubles,
    originals: Doubles,
    own: Sequence[int] | None = None,
    people: Any = None,
    metric: Metric = "cosine",
    **masks: Any,
) -> Any:
    """`verify` as a reader of JSON sees it."""
    own = range(len(portraits)) if own is None else own
    people = np.arange(len(originals)) if people is None else people
    return json.loads(json.dumps(verify(portraits, originals, own, people, metric, masks), allow_nan=False))


def has(interval: Any, value: float) -> bool:
    return bool(interval["low"] <= value <= interval["high"])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copies_are_accepted(metric: Metric) -> None:
    scored = found(vectors(COUNT, 0), vectors(COUNT, 0), metric=metric)["all"]
    for far in FARS:
        tar = scored[f"TAR at FAR {far:g}"]
        assert (tar["value"], tar["high"], tar["of"]) == (1, 1, COUNT)
        assert 0.96 < tar["low"] < 1
        assert tar["chance"]["value"] == pytest.approx(far, rel=0.05)
    assert scored["EER"]["value"] == scored["EER"]["low"] == 0
    assert 0 < scored["EER"]["high"] < 0.03


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_strangers_are_accepted_by_chance_only(metric: Metric) -> None:
    scored = found(vectors(400, 1), vectors(400, 2), metric=metric)["all"]
    for far in FARS:
        tar = scored[f"TAR at FAR {far:g}"]
        assert has(tar, far)
        assert has(tar["chance"], far)
    assert has(scored["EER"], 0.5)
    assert 0.46 < scored["EER"]["value"] < 0.54


def test_equal_embeddings_are_told_apart_by_nobody() -> None:
    scored = found(np.ones((COUNT, 3)), np.ones((COUNT, 3)))["all"]
    assert scored["EER"]["value"] == scored["EER"]["low"] == scored["EER"]["high"] == 0.5
    for far in FARS:
        tar = scored[f"TAR at FAR {far:g}"]
        assert tar["value"] == tar["chance"]["value"] == 0, "no threshold lets no more than this share pass"


def roc_eer(genuine: Doubles, others: Doubles) -> float:
    labels = np.repeat([1, 0], [len(genuine), len(others)])
    accept, true, _ = roc_curve(labels, np.concatenate([genuine, others]), drop_intermediate=False)
    return float(brentq(lambda far: 1 - far - np.interp(far, accept, true), 0, 1))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans(), st.floats(0, 3))
def test_eer_is_scikit_learns(seed: int, ties: bool, noise: float) -> None:
    rng = np.random.default_rng(seed)
    originals = rng.standard_normal((12, 2))
    own = rng.integers(0, 12, 9)
    portraits = originals[own] + noise * rng.standard_normal((9, 2))
    if ties:
        originals, portraits = originals.round(), portraits.round()
    people = rng.integers(0, 6, 12)
    likeness = similarity(portraits, originals, "euclidean").round(9)
    others = likeness[people[own][:, None] != people]
    if not len(others):
        return
    scored = found(portraits, originals, own.tolist(), people, "euclidean")["all"]["EER"]
    assert scored["value"] == pytest.approx(roc_eer(likeness[np.arange(9), own], others), abs=1e-6)


@pytest.mark.packages
def test_eer_of_legal_eval_is_on_the_convex_hull() -> None:
    eer = pytest.importorskip("legal_eval.metrics.eer")
    originals = vectors(400, 3)
    portraits = originals + vectors(400, 4)
    likeness = similarity(portraits, originals, "cosine")
    hull = eer.rocch_eer(np.diag(likeness), likeness[~np.eye(400, dtype=bool)])
    scored = found(portraits, originals)["all"]["EER"]["value"]
    assert hull <= scored < hull + 0.02


def written_out(
    portraits: Doubles, originals: Doubles, own: Integers, people: Integers, draw: Integers, mask: Any, far: float
) -> list[float]:
    """TAR, chance level and EER of the people who were drawn, every pair as often as it is there."""
    images = np.concatenate([np.flatnonzero(people == person) for person in draw])
    made = np.concatenate([np.flatnonzero((people[own] == person) & mask) for person in draw])
    pairs = similarity(originals[images], originals[images], "cosine").round(9)
    wrong = np.sort(pairs[np.triu(people[images][:, None] != people[images])])[::-1]
    threshold = wrong[int(np.floor(far * len(wrong)))]
    likeness = similarity(portraits[made], originals, "cosine").round(9)
    genuine = likeness[np.arange(len(made)), own[made]]
    others = likeness[:, images][people[own[made]][:, None] != people[images]]
    return [(genuine > threshold).mean(), (others > threshold).mean(), roc_eer(genuine, others)]


def test_figures_and_intervals_are_those_of_resamples_written_out() -> None:
    """60 people, some of them with two originals, some without a portrait."""
    people = np.concatenate([np.arange(60), np.arange(10)])
    own = np.delete(np.arange(70), [3, 20, 66])
    originals = vectors(70, 5, 6)
    portraits = originals[own] + 1.2 * vectors(67, 6, 6)
    mask = np.arange(67) % 3 > 0
    scored = found(portraits, originals, own.tolist(), people * 2, mask=mask)["groups"]["mask"]
    rng = np.random.default_rng(0)
    draws = [np.arange(60)]
    draws += [np.repeat(np.arange(60), rng.multinomial(60, np.full(60, 1 / 60))) for _ in range(500)]
    rows = np.array([written_out(portraits, originals, own, people, draw, mask, 0.01) for draw in draws])
    low, high = np.quantile(rows[1:], [0.025, 0.975], axis=0)
    tar = scored["TAR at FAR 0.01"]
    for column, interval in enumerate((tar, tar["chance"], scored["EER"])):
        expected = [rows[0, column], low[column], high[column]]
        assert [interval[key] for key in ("value", "low", "high")] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("count", [COUNT, 201])  # of 20100 pairs, 201 are exactly one in a hundred
def test_no_more_than_its_share_is_above_a_threshold(count: int) -> None:
    originals = vectors(count, 7)
    pairs = similarity(originals, originals, "cosine")[np.triu_indices(count, 1)]
    for far in FARS:
        threshold = found(originals, originals)["thresholds"][f"FAR {far:g}"]
        assert (pairs > threshold + 1e-8).sum() == int(far * len(pairs))
        assert np.abs(pairs - threshold).min() < 1e-8


def test_near_copies_set_no_threshold() -> None:
    originals = np.concatenate([vectors(COUNT, 8), vectors(COUNT, 8)])
    alone = found(originals[:COUNT], originals[:COUNT])
    known, unknown = (
        found(originals[:COUNT], originals, people=people)
        for people in (np.tile(np.arange(COUNT), 2), np.arange(2 * COUNT))
    )
    assert known["thresholds"] == pytest.approx(alone["thresholds"], abs=0.02)
    assert unknown["thresholds"]["FAR 0.001"] > known["thresholds"]["FAR 0.001"] + 0.05
    assert known["all"]["EER"]["value"] == 0


def test_groups_share_a_threshold() -> None:
    originals, half = vectors(COUNT, 9), np.arange(COUNT) < 40
    portraits = np.where(half[:, None], originals, vectors(COUNT, 10))
    scored = found(portraits, originals, copies=half, strangers=~half, nobody=np.zeros(COUNT, bool))
    copies, strangers, nobody = (scored["groups"][name] for name in ("copies", "strangers", "nobody"))
    assert copies["TAR at FAR 0.001"]["value"] == 1
    assert copies["EER"] == pytest.approx({"value": 0, "low": 0, "high": 1 - 0.025 ** (1 / 40), "of": 40})
    assert strangers["TAR at FAR 0.001"]["value"] < 0.05
    assert 0.4 < strangers["EER"]["value"] < 0.6
    assert scored["all"]["TAR at FAR 0.01"]["value"] == pytest.approx(
        (40 + 110 * strangers["TAR at FAR 0.01"]["value"]) / COUNT
    )
    assert nobody["EER"] == {"value": None, "of": 0, "reason": "no pairs of different people"}


@pytest.mark.parametrize(("count", "there"), [(45, []), (46, [0.01]), (142, [0.01, 0.001])])
def test_too_few_pairs_have_a_reason(count: int, there: list[float]) -> None:
    scored = found(vectors(count, 11), vectors(count, 12))
    assert {*scored["thresholds"]} == {f"FAR {far:g}" for far in there}
    for far in FARS:
        tar = scored["all"][f"TAR at FAR {far:g}"]
        if far in there:
            assert tar["value"] is not None
        else:
            reason = f"fewer than 10 of {count * (count - 1) // 2} pairs of originals are above it"
            assert tar == {"value": None, "of": count, "reason": reason}
    assert scored["all"]["EER"]["value"] > 0.3


def test_one_person_alone_cannot_be_verified() -> None:
    scored = found(vectors(3, 13), vectors(3, 14), people=np.zeros(3, int))
    assert scored["thresholds"] == {}
    assert scored["all"]["EER"] == {"value": None, "of": 3, "reason": "no pairs of different people"}
