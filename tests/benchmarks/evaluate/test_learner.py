from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from benchmarks.evaluate.cross_fitting import fold_auc, number_folds
from benchmarks.evaluate.learner import (
    AGE_ERROR,
    AGE_PENALTY,
    CLASSES,
    INVERSE_PENALTY,
    MEANS,
    as_columns,
    evaluate_learner,
    measure,
    score,
)
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Figures
from benchmarks.evaluate.utility import Truth
from tests.benchmarks.evaluate.studies import make_study, save_all

N, HELD = 80, 30
MALE, SMILING = CELEBA.index("Male"), CELEBA.index("Smiling")


def shows(rng: np.random.Generator, facts: Mapping[str, float]) -> np.ndarray:
    """An image that shows what is true: bars for Smiling, the colour for Male and ethnicity, darkness for the age."""
    picture = rng.normal(128, 40, (32, 32, 3))
    picture[:16, :, 0] += 50 * facts["Male"]
    picture[16:, :, 1] += 50 * facts["asian"]
    picture[::2] += 40 * facts["Smiling"]
    return (picture - facts["age"]).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ImageFile], list[dict[str, str]]]:
    rng = np.random.default_rng(0)
    facts = [
        {name: int(rng.integers(2)) for name in ("Male", "Smiling", "asian")} | {"age": int(rng.integers(20, 80))}
        for _ in range(N)
    ]
    images = save_all(tmp_path_factory.mktemp("people") / "photos", [shows(rng, one) for one in facts])
    rows = [
        {"Male": str(f["Male"]), "Smiling": str(f["Smiling"]), "age": str(f["age"])}
        | {"ethnicity": "black" if i >= N - 4 else "asian" if f["asian"] else "white", "Bald": "0"}
        for i, f in enumerate(facts)
    ]
    return images, rows


@pytest.fixture(scope="module")
def figures(people: tuple[list[ImageFile], list[dict[str, str]]], tmp_path_factory: pytest.TempPathFactory) -> Figures:
    images, rows = people
    order = np.random.default_rng(2).permutation(N)
    methods = [
        Method("copies", {i: image for i, image in enumerate(images) if i % 20}),
        Method("shuffled", {i: images[order[i]] for i in range(N) if i != 1}),
    ]
    study = make_study(tmp_path_factory.mktemp("study"), images, methods, rows, held_out=np.arange(N) < HELD)
    assert len(np.unique(study.people)) == N, "nobody is a near copy"
    return evaluate_learner(study)


def test_only_people_of_whom_every_method_has_an_image_are_learned_from(figures: Figures) -> None:
    assert figures["trained on"] == figures["people"] == N - 5
    assert figures["held out"]["trained on"] == N - 5 - (HELD - 3)
    assert figures["held out"]["tested on"] == HELD


def test_originals_are_learned_from(figures: Figures) -> None:
    for table in (figures, figures["held out"]):
        found = table["methods"]["originals"]["all"]
        assert found["sex AUC"]["value"] > 0.8
        assert found["sex AUC"]["low"] > 0.6
        assert found["ethnicity AUC"]["value"] > 0.8
        assert found["attributes"].keys() == {"Male", "Smiling"}, "nobody is bald"
        assert found["attributes"]["Smiling"] > 0.8
        assert found["inner AUC"]["value"] == pytest.approx(np.mean([*found["attributes"].values()]))
        assert found["inner AUC"]["of"] == 2
        assert found["ethnicity AUC"]["of"] == 2
        assert found["outer AUC"] == {"value": None, "of": 0}
        assert found[AGE_ERROR]["value"] < table["guessing"][AGE_ERROR] - 2
    assert figures["methods"]["originals"]["all"][AGE_ERROR]["of"] == N
    assert figures["held out"]["methods"]["originals"]["all"][AGE_ERROR]["of"] == HELD


def test_copies_cost_nothing(figures: Figures) -> None:
    for table in (figures, figures["held out"]):
        copies, originals = table["methods"]["copies"], table["methods"]["originals"]
        assert copies == originals
        for name in (*MEANS, AGE_ERROR):
            if copies["all"][name]["value"] is not None:
                found = copies["all"]["difference"][name]
                assert (found["value"], found["low"], found["high"]) == (0, 0, 0)
    assert figures["methods"]["copies"]["groups"].keys() == {
        "held out", "not held out", "ethnicity: asian", "ethnicity: white", "sex: woman", "sex: man",
        "age: 20 to 39", "age: 40 to 59", "age: 60 and over",
    }  # fmt: skip
    assert figures["methods"]["copies"]["groups"]["held out"][AGE_ERROR]["of"] == HELD


def test_shuffled_images_teach_nothing(figures: Figures) -> None:
    found, originals = (figures["methods"][name]["all"] for name in ("shuffled", "originals"))
    for name in ("inner AUC", "sex AUC", "ethnicity AUC"):
        assert found[name]["value"] == pytest.approx(0.5, abs=0.2)  # three times the error of one AUC of 80 people
        assert found["difference"][name]["high"] < 0
        assert found["difference"][name]["value"] == pytest.approx(found[name]["value"] - originals[name]["value"])
    assert found["difference"][AGE_ERROR]["low"] > 0


def test_guessing_knows_the_mean_age(people: tuple[list[ImageFile], list[dict[str, str]]], figures: Figures) -> None:
    ages = np.array([float(row["age"]) for row in people[1]])
    trained = [i for i in range(N) if i % 20 and i != 1]
    expected = np.abs(ages - ages[trained].mean())
    assert figures["guessing"] == {"AUC": 0.5, AGE_ERROR: pytest.approx(expected.mean())}
    assert figures["held out"]["guessing"][AGE_ERROR] == pytest.approx(expected[:HELD].mean(), abs=2)


def test_the_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, scores = random_truth(rng, 60), random_truth(rng, 60) + rng.normal(size=(60, 47))
    truth[:9, -1] = truth[:5, MALE] = np.nan
    truth[:51, SMILING] = 0
    weights = np.ones((1, 60))
    found = measure(truth, scores, np.zeros(60, np.int64), weights)
    assert found.keys() == {*CLASSES, AGE_ERROR} - {"Smiling"}, "nine smile"
    assert found["Male"] == pytest.approx([roc_auc_score(truth[5:, MALE], scores[5:, MALE])])
    assert found[AGE_ERROR] == pytest.approx([mean_absolute_error(truth[9:, -1], scores[9:, -1])])
    halves = np.arange(60) % 2
    male = fold_auc(truth[:, MALE], scores[:, MALE], halves, weights)
    assert measure(truth, scores, halves, weights)["Male"] == male != found["Male"]
    resamples = np.zeros((3, 60))
    resamples[0, [20, 30]] = 3, 1
    resamples[1, 40] = 1
    errors = np.abs(truth - scores)[:, -1]
    expected = [(3 * errors[20] + errors[30]) / 4, errors[40], errors[9:].mean()]
    assert measure(truth, scores, halves, resamples)[AGE_ERROR] == pytest.approx(expected)


def random_truth(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.column_stack([rng.integers(2, size=(n, len(CLASSES))), rng.integers(80, size=n)]).astype(float)


def test_the_models_are_scikit_learns_on_standardised_features() -> None:
    """With more features than images, where principal components save the most."""
    rng = np.random.default_rng(0)
    features, truth = 5 * rng.normal(size=(60, 200)) + 3, random_truth(rng, 60)
    truth[:9, SMILING] = truth[:4, -1] = np.nan
    fold = np.where(np.arange(60) < 20, 0, -1)
    found = score(features[10:], np.arange(10, 60), features, truth, np.arange(60), fold)
    assert np.isnan(found[20:]).all()
    scale = StandardScaler().fit(features[20:])
    train, test = scale.transform(features[20:]), scale.transform(features[:20])
    smile = LogisticRegression(C=INVERSE_PENALTY, tol=1e-8).fit(train, truth[20:, SMILING]).decision_function(test)
    assert found[:20, SMILING] == pytest.approx(smile, abs=2e-3)
    age = make_pipeline(Ridge(AGE_PENALTY)).fit(train, truth[20:, -1]).predict(test)
    assert found[:20, -1] == pytest.approx(age)


def test_nobody_is_scored_by_a_learner_that_saw_the_person() -> None:
    """Each person has two photos and a feature of their own, by which a learner that saw one knows the other."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 2)
    features, truth = np.eye(40)[people], np.repeat(random_truth(rng, 40), 2, axis=0)
    weights = np.ones((1, 80))

    def aucs(fold: np.ndarray, who: np.ndarray) -> Any:
        scores = score(features, np.arange(80), features, truth, who, fold).round(9)  # what is equal is equal now
        return [fold_auc(truth[:, i], scores[:, i], fold, weights)[0] for i in range(len(CLASSES))]

    assert aucs(number_folds(people), people) == pytest.approx([0.5] * len(CLASSES))
    strangers = np.arange(80)
    assert min(aucs(number_folds(strangers), strangers)) > 0.6, "the photos of a person are in different folds"


def test_near_copies_of_tested_photos_are_not_learned_from() -> None:
    people = np.repeat(np.arange(40), 2)
    features, truth = np.eye(40)[people], np.repeat(random_truth(np.random.default_rng(0), 40), 2, axis=0)
    fold = np.where(np.arange(80) % 2 * (people < 20) == 1, 0, -1)
    scores = score(features, np.arange(80), features, truth, people, fold)[fold == 0]
    assert scores == pytest.approx(np.tile(scores[:1], (20, 1))), "all are unknown to the learner"


def test_a_learner_without_people_or_with_one_class_says_nothing() -> None:
    truth = random_truth(np.random.default_rng(0), 20)
    truth[:, MALE] = 1
    truth[:, -1] = np.nan
    features = np.random.default_rng(1).normal(size=(20, 5))
    fold = np.arange(20) // 10
    found = score(features, np.arange(20), features, truth, np.arange(20), fold)
    assert (found[:, [MALE, -1]] == 0).all()
    assert (found[:, SMILING] != 0).all()
    nobody = score(features[:10], np.arange(10), features, truth, np.arange(20), fold)
    assert (nobody[:10] == 0).all()
    assert (nobody[10:, SMILING] != 0).all()


def test_the_columns_that_are_learned() -> None:
    attributes = np.full((3, 40), np.nan)
    attributes[:2, SMILING] = 0.4, 0.6
    found = as_columns(Truth(attributes, ["black", "", "asian"], [""] * 3, np.array([30, np.nan, 50]), frozenset()))
    assert found.shape == (3, 47)
    np.testing.assert_array_equal(found[:, SMILING], [0, 1, np.nan])
    first = len(CELEBA)
    np.testing.assert_array_equal(found[:, first + ETHNICITIES.index("black")], [1, np.nan, 0])
    np.testing.assert_array_equal(found[:, -1], [30, np.nan, 50])


def test_what_is_missing_is_said(people: tuple[list[ImageFile], list[dict[str, str]]], tmp_path: Path) -> None:
    images, rows = people
    halves = [Method("a", {i: images[i] for i in range(40)}), Method("b", {i: images[i] for i in range(31, N)})]
    assert "fewer than 10 people" in evaluate_learner(make_study(tmp_path, images, halves, rows))["missing"]
    no_engines = Study(images, halves, None, None, tmp_path / "nowhere", tmp_path / "cache")
    assert "missing" in evaluate_learner(no_engines)


def test_unknown_ages_are_no_error(people: tuple[list[ImageFile], list[dict[str, str]]], tmp_path: Path) -> None:
    images, rows = people
    nameless = [{"Smiling": row["Smiling"]} for row in rows]
    method = Method("copies", dict(enumerate(images)))
    found = evaluate_learner(make_study(tmp_path, images, [method], nameless))
    assert found["guessing"] == {"AUC": 0.5, AGE_ERROR: None}
    assert found["methods"]["copies"]["all"][AGE_ERROR] == {"value": None, "of": 0}
    assert found["methods"]["copies"]["all"]["inner AUC"]["of"] == 1
    assert "held out" not in found
