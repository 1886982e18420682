from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from benchmarks.evaluate.labels import Labels
from benchmarks.evaluate.predictors import DeepFaceDemography, FaceEngines, Fer, HSEmotion
from benchmarks.evaluate.types import Mask, Vector
from benchmarks.evaluate.utility import (
    INNER,
    OUTER,
    Truth,
    find_truth,
    from_deepface,
    from_engines,
    from_fer,
    from_hsemotion,
    true_emotions,
    true_valence,
)

N = 60


def readings(seed: int = 0) -> Vector:
    """Random readings of the face engines: scores, one ethnicity for each image, ages."""
    rng = np.random.default_rng(seed)
    found = rng.random((N, len(FaceEngines.columns)))
    first = len(CELEBA)
    found[:, first : first + len(ETHNICITIES)] = np.eye(len(ETHNICITIES))[rng.integers(len(ETHNICITIES), size=N)]
    found[:, FaceEngines.columns.index("Age")] = rng.integers(1, 90, N)
    return found


def everyone() -> Mask:
    return np.ones(N, bool)


def test_the_split_is_21_and_17_attributes() -> None:
    assert (len(INNER), len(OUTER)) == (21, 17)
    assert not {*INNER} & {*OUTER}
    assert {*CELEBA} - {*INNER, *OUTER} == {"Attractive", "Blurry"}


def test_what_is_unchanged_is_read_again() -> None:
    reading = readings()
    truth = find_truth(None, reading)
    found = from_engines(truth, range(N), reading, everyone())
    assert found["inner AUC"] == {"value": 1, "of": 21}
    assert found["outer AUC"] == {"value": 1, "of": 17}
    assert found["ethnicity accuracy"]["value"] == found["gender accuracy"]["value"] == 1
    assert truth.labelled == frozenset()


def test_wrong_pairs_are_worse() -> None:
    reading = readings()
    truth = find_truth(None, reading)
    wrong = from_engines(truth, np.roll(np.arange(N), 1).tolist(), reading, everyone())
    assert wrong["inner AUC"]["value"] < 0.6
    assert wrong["ethnicity accuracy"]["value"] < 0.5


def test_auc_is_scikit_learns() -> None:
    truth, reading = find_truth(None, readings(0)), readings(1)
    mask = np.arange(N) % 3 > 0
    found = from_engines(truth, range(N), reading, mask)["attributes"]
    for column, name in enumerate(CELEBA):
        expected = roc_auc_score(truth.attributes[mask, column] > 0.5, reading[mask, column])
        assert found[name] == pytest.approx(expected)


def test_an_image_without_a_face_counts() -> None:
    reading = readings()
    truth = find_truth(None, reading)
    seen = reading.copy()
    seen[: N // 2] = np.nan
    found = from_engines(truth, range(N), seen, everyone())
    assert found["gender accuracy"]["value"] == found["ethnicity accuracy"]["value"] == 0.5
    assert 0.5 < found["inner AUC"]["value"] < 0.9
    nothing = from_engines(truth, range(N), np.full_like(seen, np.nan), everyone())
    assert nothing["inner AUC"]["value"] == 0.5
    assert nothing["gender accuracy"]["value"] == 0


def test_labels_come_first() -> None:
    rows: Sequence[dict[str, str]] = [{"Male": str(i % 2), "ethnicity": "white", "age": "30"} for i in range(N)]
    truth = find_truth(Labels(rows), readings())
    assert truth.labelled == {"Male", "ethnicity", "age"}
    assert truth.ethnicity == ["white"] * N
    assert truth.sex[:2] == ["woman", "man"]
    np.testing.assert_array_equal(
        truth.attributes[:, CELEBA.index("Smiling")], readings()[:, CELEBA.index("Smiling")] > 0.5
    )


def test_unknown_people_are_not_scored() -> None:
    truth = Truth(np.full((N, 40), np.nan), [""] * N, [""] * N, np.full(N, np.nan), frozenset())
    found = from_engines(truth, range(N), readings(), everyone())
    assert found["inner AUC"] == {"value": None, "of": 0}
    assert found["gender accuracy"]["of"] == 0


def test_emotions_of_deepface() -> None:
    rng = np.random.default_rng(0)
    reading = rng.random((N, len(DeepFaceDemography.columns)))
    emotions = true_emotions(DeepFaceDemography.emotions, None, reading)
    assert (emotions.sum(axis=1) == 1).all()
    truth = find_truth(None, readings())
    same = from_deepface(truth, emotions, range(N), reading, everyone())
    wrong = from_deepface(truth, emotions, np.roll(np.arange(N), 1).tolist(), reading, everyone())
    assert same["emotion AUC"]["value"] > 0.8 > 0.65 > wrong["emotion AUC"]["value"]
    labels = Labels([{"emotion": "Happy"}, {"emotion": ""}, {"emotion": "bored"}])
    found = true_emotions(DeepFaceDemography.emotions, labels, reading[:3])
    assert found[0].argmax() == 3
    assert np.isnan(found[1:]).all()


def test_valence_and_arousal_by_hand() -> None:
    reading = np.zeros((N, len(HSEmotion.columns)))
    reading[:, -2:] = [0.5, -0.5]
    emotions = true_emotions(HSEmotion.emotions, None, reading)
    true = true_valence(None, reading)
    made = reading.copy()
    made[:, -2] = 0.7
    found = from_hsemotion(emotions, true, range(N), made, everyone())
    assert found["VA MSE"]["value"] == pytest.approx(0.02)
    made[:] = np.nan
    assert from_hsemotion(emotions, true, range(N), made, everyone())["VA MSE"]["value"] == pytest.approx(0.25)
    labels = Labels([{"valence": "1", "arousal": "0"}] * N)
    assert true_valence(labels, reading).tolist() == [[1, 0]] * N


def test_fer_is_judged_by_its_own_emotions_and_by_smiles() -> None:
    rng = np.random.default_rng(0)
    truth = find_truth(None, readings())
    smiling = truth.attributes[:, CELEBA.index("Smiling")]
    reading = rng.random((N, len(Fer.columns)))
    reading[:, Fer.emotions.index("happy")] = smiling + 0.5 * rng.random(N)
    emotions = true_emotions(Fer.emotions, None, reading)
    own = rng.permutation(N).tolist()
    found = from_fer(truth, emotions, own, reading[own], everyone())
    assert found["smile AUC"] == {"value": 1, "of": 1}
    assert found["emotion AUC"]["value"] > 0.9
    wrong = from_fer(truth, emotions, own, reading, everyone())
    expected = roc_auc_score(smiling[own] > 0.5, reading[:, Fer.emotions.index("happy")])
    assert wrong["smile AUC"]["value"] == pytest.approx(expected)
    assert wrong["emotion AUC"]["value"] < 0.7
    few = np.arange(N) < 5
    assert from_fer(truth, emotions, own, reading[own], few)["smile AUC"] == {"value": None, "of": 0}
