"""The line-up: copies are found by every attacker, shuffled portraits by chance, and what is missing has its reason."""

from pathlib import Path

import numpy as np
import pytest

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.guard.trial import Attempt
from benchmarks.evaluate.attackers import line_up
from benchmarks.evaluate.attackers.comparison import Attack
from benchmarks.evaluate.attackers.line_up import BAND, JUDGE, evaluate_attackers
from benchmarks.evaluate.attackers.repaint import ANOTHER_SEED, SEED_KNOWN, Repainted
from benchmarks.evaluate.encoders import Embedded
from benchmarks.evaluate.k_anonymity import IGNORABLE
from benchmarks.evaluate.pairs import Method
from benchmarks.evaluate.runs import Run
from benchmarks.evaluate.study import Faces, Study
from benchmarks.evaluate.types import Figures, Vector
from tests.benchmarks.evaluate.studies import make_study, save_all

N = 40
TRAINED = f"trained on pairs, a network: {JUDGE}"


def readings(rng: np.random.Generator) -> Vector:
    """Certain scores, one ethnicity, an age and a box for each of N people."""
    scores = np.where(rng.random((N, len(CELEBA))) < 0.5, 0.02, 0.98)
    ethnicity = np.eye(len(ETHNICITIES))[rng.integers(len(ETHNICITIES), size=N)]
    return np.column_stack([scores, ethnicity, rng.integers(20, 80, N), np.zeros((N, 4))])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Copies, and the same images in another order; the images have no journal."""
    rng = np.random.default_rng(3)
    images = save_all(
        tmp_path_factory.mktemp("line-up") / "photos", list(rng.integers(0, 256, (N, 24, 24, 3), np.uint8))
    )
    read, vectors = readings(rng), rng.standard_normal((N, 16))
    order = np.roll(np.arange(N), 7)
    methods = [Method("copies", dict(enumerate(images))), Method("shuffled", {i: images[order[i]] for i in range(N)})]
    methods.append(Method("noisy", dict(enumerate(images))))
    wrong = read.copy()
    wrong[:, : len(CELEBA)] = np.abs(read[:, : len(CELEBA)] - (rng.random((N, len(CELEBA))) < 0.36))
    given = {"originals": read, "copies": read, "shuffled": read[order], "noisy": wrong}
    held_out = np.arange(N) < N // 2
    made = make_study(tmp_path_factory.mktemp("study"), images, methods, None, given, held_out)
    faces = {name: Embedded(vectors[rows], np.zeros(N, bool)) for name, rows in (("copies", ...), ("shuffled", order))}
    faces["noisy"] = Embedded(vectors + 1.4 * rng.standard_normal((N, 16)), np.zeros(N, bool))
    made.__dict__["faces"] = {
        JUDGE: Faces("cosine", Embedded(vectors, np.zeros(N, bool)), faces),
        "another": {"missing": "another: missing: weights"},
    }
    return made


@pytest.fixture(scope="module")
def found(study: Study) -> Figures:
    return evaluate_attackers(study)


def rate(found: Figures, attacker: str, method: str, group: str | None = None) -> float:
    row = found[attacker]["methods"][method]
    return float((row["all"] if group is None else row["groups"][group])["Re-ID@1"]["value"])


def test_copies_are_found_by_everybody_who_looks(found: Figures) -> None:
    looking = [name for name, row in found.items() if row["kind"] == "attacker" and "paints" not in name]
    assert len(looking) == 9
    assert f"looks at faces: {JUDGE}" in looking
    for name in looking:
        assert rate(found, name, "copies") > 0.9, name
        assert rate(found, name, "copies", "held out") > 0.9, name


def test_shuffled_portraits_are_found_by_nobody(found: Figures) -> None:
    for name, row in found.items():
        if row["kind"] == "attacker" and "paints" not in name and BAND not in name:
            assert rate(found, name, "shuffled") < 0.15, name


def test_baselines_look_at_no_image(found: Figures) -> None:
    baselines = [name for name, row in found.items() if row["kind"] == "baseline"]
    assert baselines == ["guessing", f"guessing, {BAND} known", "knows the exact words"]
    for name in baselines:
        assert rate(found, name, "copies") == rate(found, name, "shuffled")
    assert rate(found, "guessing", "copies") == pytest.approx(1 / N)
    assert rate(found, "guessing", "copies") < rate(found, baselines[1], "copies") < 1
    assert rate(found, "knows the exact words", "copies") == 1, "everybody has other words here"


def test_a_band_leaves_fewer_people_to_choose_from(found: Figures) -> None:
    alone, known = f"looks at faces: {JUDGE}", f"face, {BAND} known"
    assert rate(found, known, "shuffled") > rate(found, alone, "shuffled")


def test_all_portraits_together_say_more_than_each_alone(found: Figures) -> None:
    alone, together = "reads the words", "reads the words of all portraits at once"
    assert rate(found, together, "noisy") > rate(found, alone, "noisy")


def test_face_and_words_together_say_more_than_each_alone(found: Figures) -> None:
    each = [rate(found, name, "noisy") for name in (f"looks at faces: {JUDGE}", "reads the words")]
    assert rate(found, "face and words", "noisy") > max(each) + 0.05


def test_an_encoder_that_is_missing_is_no_attacker(found: Figures) -> None:
    assert not any("another" in name and "seed" not in name for name in found)


def test_without_a_journal_nobody_paints(found: Figures) -> None:
    row = found["paints all suspects, another seed"]["methods"]["copies"]
    assert "missing" in row
    assert "paints all suspects, the run's seed" not in found


def test_who_paints_with_the_seed_tells_how_it_is_known(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    likeness, exact = np.eye(N), np.arange(N) < N // 4
    attacks = (Attack(ANOTHER_SEED, likeness, exact), Attack(SEED_KNOWN, likeness, exact))
    repainted = {method.name: Repainted("given", attacks) for method in study.methods}
    monkeypatch.setattr(line_up, "evaluate_repaint", lambda _: repainted)
    found = evaluate_attackers(study)
    row = found["paints all suspects, the run's seed"]
    assert row["kind"] == "with the seed"
    assert (row["methods"]["copies"]["seed"], row["methods"]["copies"]["painted again exactly"]) == ("given", 0.25)
    assert row["methods"]["copies"]["all"]["Re-ID@1"]["value"] == 1
    assert "seed" not in found["paints all suspects, another seed"]["methods"]["copies"]


def test_who_knows_the_words_knows_what_the_run_left_out(study: Study, tmp_path: Path) -> None:
    images, hidden = dict(enumerate(study.originals)), [CELEBA.index(name) for name in IGNORABLE]
    run = Run({"ignore": list(IGNORABLE)}, {}, {image.name: Attempt(2, 2) for image in study.originals})
    noise = study.reading.copy()
    noise[:, hidden] = np.random.default_rng(0).permutation(noise)[:, hidden]
    given = {"originals": study.reading, "all": noise, "few": noise}
    methods = [Method("all", images), Method("few", images, run=run)]
    made = make_study(tmp_path, study.originals, methods, None, given)
    made.__dict__["faces"] = {}
    found = evaluate_attackers(made)
    assert rate(found, "knows the exact words", "few") < 0.9 < rate(found, "knows the exact words", "all")
    assert rate(found, "reads the words", "all") < 0.2 < rate(found, "reads the words", "few")


def test_too_few_people_to_learn_from(study: Study, tmp_path: Path) -> None:
    few = list(study.originals)[:6]
    made = make_study(tmp_path, few, [Method("copies", dict(enumerate(few)))], None, {})
    vectors = Embedded(np.eye(6), np.zeros(6, bool))
    made.__dict__["faces"] = {JUDGE: Faces("cosine", vectors, {"copies": vectors})}
    assert "it takes" in evaluate_attackers(made)[TRAINED]["methods"]["copies"]["missing"]
