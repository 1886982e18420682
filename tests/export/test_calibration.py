"""Calibrations of a face-recognition network, from distributions that are known."""

import json
from dataclasses import asdict
from importlib.resources import files

import numpy as np
import pytest

from anon_export import calibration
from anon_export.calibration import RESAMPLES, calibrate, fit_tail
from anon_runtime.bundle.identity import Calibration, Tail
from anon_runtime.errors import UsageError
from anon_runtime.guard.thresholds import find_threshold, lowest_carried_rate


def people(n: int, dimensions: int = 16, seed: int = 1) -> np.ndarray:
    """Embeddings of people who are as similar as random directions are."""
    vectors = np.random.default_rng(seed).normal(size=(n, dimensions))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def share_above(similarity: float, dimensions: int = 16) -> float:
    """The share of pairs of random directions that are more similar, by integration of the density."""
    x = np.linspace(-1, 1, 200_001)
    density = (1 - x**2) ** ((dimensions - 3) / 2)
    return float(density[x > similarity].sum() / density.sum())


@pytest.fixture(scope="module")
def measured() -> Calibration:
    return calibrate(people(300), np.arange(300), "directions")


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_a_generalized_pareto_distribution_is_found_again(monkeypatch: pytest.MonkeyPatch, shape: float) -> None:
    monkeypatch.setattr(calibration, "TAIL_RATE", 0.5)
    beyond = (np.arange(200_000) + 0.5) / 200_000
    steps = -np.log(beyond)
    excess = 0.1 * (steps if shape == 0 else np.expm1(shape * steps) / shape)
    falling = np.concatenate([0.4 + excess, np.linspace(0.4, 0.1, 200_000)])
    tail = fit_tail(falling, np.ones(400_000))
    assert tail.start == pytest.approx(0.4, abs=1e-5)
    assert tail.rate == 0.5
    assert tail.shape == pytest.approx(shape, abs=3e-3)
    assert tail.scale == pytest.approx(0.1, abs=5e-4)


def test_weights_count_numbers_as_often_as_copies_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "TAIL_RATE", 0.5)
    numbers = np.sort(np.random.default_rng(3).uniform(0, 1, 20_000))[::-1]
    weights = np.random.default_rng(4).integers(0, 4, 20_000)
    copied = np.repeat(numbers, weights)
    weighted, plain = fit_tail(numbers, weights), fit_tail(copied, np.ones(len(copied)))
    assert asdict(weighted) == pytest.approx(asdict(plain), abs=1e-3)


def test_thresholds_are_those_of_the_distribution(measured: Calibration) -> None:
    for rate in measured.rates:
        threshold = find_threshold(measured, rate)
        assert threshold.low - 0.01 < threshold.value < threshold.high + 0.01
        assert share_above(threshold.value) == pytest.approx(rate, rel=0.5)
    extrapolated = find_threshold(measured, 1e-5)
    assert share_above(extrapolated.low) > 1e-5 > share_above(extrapolated.high)


def test_rates_are_measured_where_ten_pairs_reach_them(measured: Calibration) -> None:
    assert measured.pairs == 300 * 299 / 2
    assert measured.rates[0] == 0.5
    assert measured.rates[-1] == 5e-4  # of 44,850 pairs, 9 reach 2e-4
    similar = np.sort((people(300) @ people(300).T)[np.triu_indices(300, 1)])[::-1]
    assert measured.thresholds[-1] == pytest.approx(similar[21], abs=1e-5)


def test_the_histogram_counts_every_pair(measured: Calibration) -> None:
    assert len(measured.histogram) == 80
    assert sum(measured.histogram) == measured.pairs
    assert sum(measured.histogram[40:]) == ((people(300) @ people(300).T)[np.triu_indices(300, 1)] >= 0).sum()


def test_calibrations_are_equal_in_each_run(measured: Calibration) -> None:
    assert calibrate(people(300), np.arange(300), "directions") == measured
    assert len(set(measured.resampled)) == RESAMPLES


def test_faces_of_one_person_are_not_compared() -> None:
    faces = np.repeat(people(150), 2, axis=0)
    measured = calibrate(faces, np.repeat(np.arange(150), 2), "twice")
    assert (measured.people, measured.pairs) == (150, 150 * 149 / 2 * 4)
    assert measured.histogram[-1] == 0
    assert all(tail.start < 0.9 for tail in measured.resampled)


def test_the_bootstrap_draws_people_and_not_pairs() -> None:
    # Ten people resemble everybody. The rate of similar pairs then depends on how often these ten are drawn.
    faces = people(200)
    faces[:10] = faces[:10] * 0.1 + 0.9 * faces.mean(axis=0) / np.linalg.norm(faces.mean(axis=0))
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    measured = calibrate(faces, np.arange(200), "hubs")
    independent = np.random.default_rng(1).poisson(1, (RESAMPLES, measured.pairs))
    falling = np.sort((faces @ faces.T)[np.triu_indices(200, 1)].astype(np.float64))[::-1]
    starts = [fit_tail(falling, weights).start for weights in independent]
    assert np.std([tail.start for tail in measured.resampled]) > 2 * np.std(starts)


def test_too_few_people_are_refused() -> None:
    with pytest.raises(UsageError, match=r"99 people.*at least 100 people"):
        calibrate(people(200), np.arange(200) % 99, "few")


def test_a_network_that_tells_nobody_apart_is_refused() -> None:
    with pytest.raises(UsageError, match="finds all people equally similar"):
        calibrate(np.tile(np.eye(1, 16, dtype=np.float32), (100, 1)), np.arange(100), "made up")


def test_the_calibration_of_sface_is_small_and_complete() -> None:
    text = (files("anon_export") / "calibrations" / "sface.json").read_text(encoding="utf-8")
    data = json.loads(text)
    tails = {"tail": Tail(**data["tail"]), "resampled": tuple(Tail(**tail) for tail in data["resampled"])}
    numbers = {name: tuple(data[name]) for name in ("rates", "thresholds", "histogram")}
    sface = Calibration(**(data | tails | numbers))
    assert len(text) < 20_000
    assert sum(sface.histogram) == sface.pairs
    assert [round(find_threshold(sface, rate).value, 2) for rate in (1e-2, 1e-3)] == [0.54, 0.70]
    assert lowest_carried_rate(sface) < 1e-5
