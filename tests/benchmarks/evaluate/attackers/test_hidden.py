from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts
from benchmarks.evaluate.attackers.hidden import BEYOND, LEARNED, READ, WORDS, as_words, evaluate_hidden, guess
from benchmarks.evaluate.cross_fitting import as_interval, fold_auc, number_folds, resample
from benchmarks.evaluate.k_anonymity import as_attributes
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.predictors import FaceEngines
from benchmarks.evaluate.runs import Run
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Figures, Vector
from tests.benchmarks.evaluate.studies import make_study, save_all

N = 160
COLUMN = {name: i for i, name in enumerate(FaceEngines.columns)}
HIDDEN = ["Bald", "Smiling"]


def random_readings(rng: np.random.Generator, n: int = N) -> Vector:
    """Readings of people whose attributes have nothing to do with each other."""
    found = rng.random((n, len(COLUMN)))
    first = len(CELEBA)
    found[:, first : first + len(ETHNICITIES)] = np.eye(len(ETHNICITIES))[rng.integers(len(ETHNICITIES), size=n)]
    found[:, COLUMN["Age"]] = rng.integers(20, 80, n)
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImageFile]:
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (N, 24, 24, 3), np.uint8))
    return save_all(tmp_path_factory.mktemp("hidden") / "photos", pictures)


def method(name: str, images: list[ImageFile], ignore: list[str] | None) -> Method:
    return Method(name, dict(enumerate(images)), run=None if ignore is None else Run({"ignore": ignore}, {}, {}))


@pytest.fixture(scope="module")
def originals() -> Vector:
    """Readings of the originals; bald people are mostly men."""
    found = random_readings(np.random.default_rng(1))
    follows = np.random.default_rng(2).random(N) < 0.85
    found[:, COLUMN["Bald"]] = np.where(follows, found[:, COLUMN["Male"]], found[:, COLUMN["Bald"]])
    return found


@pytest.fixture(scope="module")
def figures(images: list[ImageFile], originals: Vector, tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """``hides`` and ``leaks`` were made without the two words, ``says`` with them, and ``other`` has no journal."""
    rng = np.random.default_rng(3)
    hides = originals.copy()
    hides[:, [COLUMN[name] for name in HIDDEN]] = rng.random((N, 2))
    readings = {"originals": originals, "hides": hides, "leaks": originals, "other": originals}
    readings["says"] = originals[2:]
    methods = [
        *(method("hides", images, HIDDEN), method("leaks", images, HIDDEN)),
        Method("says", {i: images[i] for i in range(2, N)}, run=Run({"ignore": []}, {}, {})),
        method("other", images, None),
    ]
    study = make_study(tmp_path_factory.mktemp("study"), images, methods, None, readings, np.arange(N) < N // 2)
    assert len(np.unique(study.people)) == N, "nobody is a near copy"
    return evaluate_hidden(study)


def values(figures: Figures, name: str, attribute: str) -> dict[str, float]:
    return {kind: own["value"] for kind, own in figures["methods"][name]["all"]["attributes"][attribute].items()}


def test_what_is_hidden_is_chance(figures: Figures) -> None:
    assert figures["hidden"] == ["Bald", "Smiling"]
    assert figures["chance"] == 0.5
    found = figures["methods"]["hides"]
    assert found["ignored"] == HIDDEN
    assert found["no face"] == 0
    for kind in (READ, LEARNED, WORDS):
        own = found["all"]["attributes"]["Smiling"][kind]
        assert own["value"] == pytest.approx(0.5, abs=0.12)
        assert own["low"] < own["value"] < own["high"]
        assert own["of"] == N
    beyond = found["all"]["attributes"]["Smiling"][BEYOND]
    assert beyond["low"] < 0 < beyond["high"]


def test_what_follows_from_the_words_is_not_beyond_them(figures: Figures) -> None:
    found = figures["methods"]["hides"]["all"]["attributes"]["Bald"]
    assert found[READ]["low"] < 0.5 < found[READ]["high"]
    assert found[WORDS]["low"] > 0.7
    assert found[LEARNED]["low"] > 0.7, "the portrait shows a man"
    assert found[BEYOND]["value"] == pytest.approx(found[LEARNED]["value"] - found[WORDS]["value"])
    assert found[BEYOND]["low"] < 0.1


def test_what_leaks_is_read_and_beyond_the_words(figures: Figures) -> None:
    found = figures["methods"]["leaks"]["all"]["attributes"]
    assert values(figures, "leaks", "Smiling")[READ] == values(figures, "leaks", "Bald")[READ] == 1
    for name in HIDDEN:
        assert found[name][LEARNED]["value"] > 0.9
        assert found[name][BEYOND]["value"] > 0.02
    assert found["Smiling"][BEYOND]["low"] > 0.2
    mean = figures["methods"]["leaks"]["all"]["mean"]
    assert mean[WORDS]["value"] == pytest.approx(np.mean([found[name][WORDS]["value"] for name in HIDDEN]))
    assert mean[READ]["of"] == 2


def test_what_prompts_say_is_known_from_the_words(figures: Figures) -> None:
    assert figures["methods"]["says"]["ignored"] == []
    for name in HIDDEN:
        own = values(figures, "says", name)
        assert own[WORDS] > 0.95
        assert own[BEYOND] < 0.05
        assert own[READ] == 1


def test_a_method_without_a_journal_has_no_words(figures: Figures) -> None:
    found = figures["methods"]["other"]["all"]
    assert found["attributes"]["Bald"].keys() == found["mean"].keys() == {READ, LEARNED}
    assert values(figures, "other", "Bald")[LEARNED] == values(figures, "leaks", "Bald")[LEARNED]


def test_groups_are_of_the_same_attacker(figures: Figures) -> None:
    groups = figures["methods"]["leaks"]["groups"]
    assert groups["held out"]["attributes"]["Smiling"][READ] == {"value": 1, "low": 1, "high": 1, "of": N // 2}
    assert groups["sex: man"]["attributes"]["Smiling"][LEARNED]["value"] > 0.8


def test_words_are_those_of_the_prompts() -> None:
    """Two people have the same words where they have the same prompts."""
    rng = np.random.default_rng(0)
    readings = np.repeat(random_readings(rng, 1), 60, axis=0)
    some = [COLUMN[name] for name in ("Bald", "Smiling", "Male")]
    readings[:, some] = rng.random((60, 3))
    readings[:, COLUMN["Age"]] = rng.integers(20, 22, 60)
    readings[:, -4:] = rng.random((60, 4))  # the box is not in the prompt
    prompts = [write_prompts(person, ignore=["Bald"]) for person in as_attributes(readings)]
    words = as_words(readings, ["Bald"])
    assert words.shape == (60, 46)
    same = np.array([[a == b for a in prompts] for b in prompts])
    np.testing.assert_array_equal((words[:, None] == words[None]).all(axis=2), same)
    assert len(np.unique(words, axis=0)) == 8
    assert np.isnan(as_words(np.full((1, len(COLUMN)), np.nan), [])).all()


def aucs(name: str, truth: Vector, readings: Vector, people: Any, words: Vector | None = None) -> Mapping[str, float]:
    labels, fold = truth[:, COLUMN[name]], number_folds(people)
    found = guess(name, truth, readings, words, fold)
    return {kind: fold_auc(labels, score, fold, np.ones((1, len(labels))))[0] for kind, score in found.items()}


def test_an_attacker_has_not_seen_the_person(images: list[ImageFile], tmp_path: Path) -> None:
    """The two photos of a person have the same readings, which have nothing to do with the attribute."""
    rng = np.random.default_rng(0)
    twice = [image for image in images[:50] for _ in range(2)]
    readings = {name: np.repeat(random_readings(rng, 50), 2, axis=0) for name in ("originals", "a")}
    rows = [{name: str(0.7 * rng.integers(2)) for name in CELEBA[:8]} for _ in range(50)]
    labels = [row for row in rows for _ in range(2)]
    study = make_study(tmp_path, twice, [method("a", twice, list(CELEBA[:8]))], labels, readings)
    assert len(np.unique(study.people)) == 50
    figures = evaluate_hidden(study)["methods"]["a"]["all"]
    found = figures["mean"]
    assert found[LEARNED]["value"] == pytest.approx(0.5, abs=0.1)
    assert found[WORDS]["value"] == pytest.approx(0.5, abs=0.1)
    truth, strangers = study.truth.attributes, np.arange(100)
    fold, weights, bald = number_folds(study.people), resample(study.people), truth[:, COLUMN["Bald"]] > 0.5
    words = as_words(readings["originals"], CELEBA[:8])
    guesses = guess("Bald", truth, readings["a"][:, :47], words, fold)
    expected = {
        kind: as_interval(fold_auc(bald.astype(float), score, fold * (kind != READ), weights), 100)
        for kind, score in guesses.items()
    }
    assert {kind: figures["attributes"]["Bald"][kind] for kind in expected} == expected
    together = [aucs(name, truth, readings["a"][:, :47], strangers)[LEARNED] for name in CELEBA[:8]]
    assert np.mean(together) > 0.7, "the other photo of the person is in another fold"


def test_a_face_that_is_not_found_counts_one_half() -> None:
    rng = np.random.default_rng(0)
    readings = random_readings(rng)[:, :47]
    truth = (readings[:, :40] > 0.5).astype(float)
    seen = readings.copy()
    seen[::2] = np.nan
    half, whole = aucs("Smiling", truth, seen, np.arange(N)), aucs("Smiling", truth, readings, np.arange(N))
    assert 0.55 < half[LEARNED] < whole[LEARNED]
    assert 0.55 < half[READ] < whole[READ] == 1
    nothing = aucs("Smiling", truth, np.full_like(seen, np.nan), np.arange(N))
    assert nothing == {READ: 0.5, LEARNED: 0.5}


def test_what_is_missing_is_said(images: list[ImageFile], originals: Vector, tmp_path: Path) -> None:
    nothing = make_study(tmp_path, images, [method("a", images, []), method("b", images, None)], None)
    assert evaluate_hidden(nothing) == {"missing": "no attribute was left out with --ignore"}
    one = [method("a", images, HIDDEN)]
    assert "missing" in evaluate_hidden(Study(images, one, None, None, tmp_path / "nowhere", tmp_path / "cache"))
    rare = originals.copy()
    rare[:, COLUMN["Bald"]] = np.arange(N) < 9
    found = evaluate_hidden(make_study(tmp_path, images, one, None, {"originals": rare, "a": rare}))
    assert found["methods"]["a"]["all"]["attributes"].keys() == {"Smiling"}, "nine people are bald"
    none = evaluate_hidden(make_study(tmp_path, images, one, [{"Bald": "0", "Smiling": "0"}] * N, {"a": rare}))
    assert none["methods"]["a"]["all"] == {"mean": {}, "attributes": {}}
