"""The attacker who paints every suspect again, against runs of the demo with one step."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.generator import Generator
from anon_runtime.faces.reader import FaceReader
from anon_runtime.folder.decisions import Decision, File
from anon_runtime.folder.journal_file import NAME
from benchmarks.evaluate.attackers import comparison, repaint
from benchmarks.evaluate.attackers.comparison import NO_PAINTING, Attack
from benchmarks.evaluate.attackers.repaint import ANOTHER_SEED, BY_FACE, SEED_KNOWN, Repainted
from benchmarks.evaluate.pairs import Method, find_images, pair
from benchmarks.evaluate.requirements import MissingError
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Figures
from tests.runtime.runs import QUICK, entries, run

FACES, SECRET = 5, 123_456_789

Attacking = Callable[..., Repainted | Figures]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, astronaut: Path, coffee: Path) -> Path:
    """Five images of a face, and ``coffee``, a photo without one."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(astronaut) as photo:
        face = photo.convert("RGB").crop((150, 30, 300, 250))
    for i in range(FACES):
        ImageEnhance.Color(face.rotate(6 * i - 12)).enhance(0.5 * i).save(folder / f"{i}.jpg")
    Image.open(coffee).convert("RGB").save(folder / "coffee.png")
    return folder


@pytest.fixture(scope="module")
def quick(anonymizer: Anonymizer) -> Anonymizer:
    return anonymizer.using(QUICK)


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory, photos: Path, quick: Anonymizer) -> Path:
    """A run with the default seed and batches of one; no test may change it."""
    out = tmp_path_factory.mktemp("off")
    assert run(quick, photos, out, batch_size=1) == 3, "coffee has no face"
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation") / "cache"


@pytest.fixture
def attack(photos: Path, demo_bundle: Path, cache: Path) -> Attacking:
    """Attacks the run in a folder, of which the user has given a seed."""

    def evaluate(out: Path, seed: int | None = None, folder: Path = cache) -> Repainted | Figures:
        originals, _ = find_images(photos)
        study = Study(originals, [pair("ours", originals, out, seed)], None, None, demo_bundle, folder)
        return repaint.evaluate_repaint(study)["ours"]

    return evaluate


def by_name(found: Repainted | Figures) -> dict[str, Attack]:
    assert isinstance(found, Repainted)
    return {one.name: one for one in found.attacks}


def check_found(found: Repainted | Figures, portraits: int = FACES) -> None:
    """Every portrait was painted again with the seed, and none with another one."""
    attacks = by_name(found)
    known, other = attacks[SEED_KNOWN], attacks[ANOTHER_SEED]
    assert known.similarities.shape == other.similarities.shape == (portraits, FACES + 1)
    assert known.exact.tolist() == [True] * portraits
    assert other.exact.tolist() == [False] * portraits
    own = known.similarities[np.arange(portraits), np.arange(portraits)]
    assert (own == 1).all()
    assert (known.similarities == 1).sum() == portraits
    assert (other.similarities < 1).all()
    for one in attacks.values():
        assert (one.similarities[:, FACES] == NO_PAINTING).all(), "the photo without a face has no painting"
        assert (one.similarities[:, :FACES] > NO_PAINTING).all()


def test_everybody_is_found_if_the_seed_is_public(attack: Attacking, off: Path) -> None:
    found = attack(off)
    check_found(found)
    assert isinstance(found, Repainted)
    assert found.seed == "public (the default)"


def test_a_second_evaluation_paints_nothing(attack: Attacking, off: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("it is in the cache")

    first, described, describe = attack(off), list[Path](), FaceReader.describe_all

    def describe_all(self: FaceReader, photos: Sequence[Path]) -> list[Any]:
        described.extend(photos)
        return list(describe(self, photos))

    monkeypatch.setattr(FaceReader, "describe_all", describe_all)
    monkeypatch.setattr(Generator, "generate", refuse)
    again = attack(off)
    assert isinstance(first, Repainted)
    assert isinstance(again, Repainted)
    for one, other in zip(first.attacks, again.attacks, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.similarities, other.similarities)
    assert {path.name for path in described} == {"coffee.png"}, "nothing is kept of it"


def test_the_cache_is_private(attack: Attacking, off: Path, tmp_path: Path) -> None:
    attack(off, folder=tmp_path / "cache")
    assert (tmp_path / "cache" / "paintings").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("options", [{"batch_size": 4}, {"batch_size": 2, "format": "jpeg"}, {"format": "webp"}])
def test_batches_and_formats(
    attack: Attacking, quick: Anonymizer, photos: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    run(quick, photos, tmp_path, **options)
    check_found(attack(tmp_path))


def test_hidden_names_and_a_given_seed(attack: Attacking, quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path, batch_size=1, seed=SECRET, rename="hash")
    found = attack(tmp_path, SECRET)
    check_found(found)
    assert isinstance(found, Repainted)
    assert found.seed == "given"


def test_a_secret_seed_is_not_found(attack: Attacking, quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path, batch_size=1, seed=SECRET)
    found = attack(tmp_path, SECRET + 1)
    assert isinstance(found, Repainted)
    assert found.seed == "not known"
    assert SEED_KNOWN not in by_name(found)
    other = by_name(found)[ANOTHER_SEED]
    assert not other.exact.any()
    assert (other.similarities < 1).all()


def test_settings_of_the_run_are_used(attack: Attacking, anonymizer: Anonymizer, photos: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, prompt_style="natural", ignore=("Smiling", "Young"), steps=2, sampler="dpmpp_2m_sde")
    run(anonymizer.using(settings), photos, tmp_path, batch_size=1)
    check_found(attack(tmp_path))


def test_later_attempts_and_coarser_words(
    attack: Attacking, anonymizer: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    """A person has wanted other portraits, so that the run paints the next attempts."""
    reporting = anonymizer.using(Settings(steps=1, guard="report"))  # guidance uses all words
    run(reporting, photos, tmp_path, batch_size=1)
    by_name = {line["input"]: line for line in entries(tmp_path) if line["status"] == "ok"}
    wanted = {"0.jpg": (0, 0), "1.jpg": (2, 3), "2.jpg": (4, 4)}
    with (tmp_path / NAME).open("a") as file:
        for name, (number, coarsening) in wanted.items():
            line = by_name[name]
            files = (File(line["output"], name),)
            decided = Decision("repaint", line["id"], files, line["sha256"], number, coarsening, "Ada", "", "blurred")
            file.write(json.dumps({"decision": decided.to_dict()}) + "\n")
    run(reporting, photos, tmp_path, batch_size=1)
    originals, _ = find_images(photos)
    found = pair("ours", originals, tmp_path).run
    assert found is not None
    attempts = {name: (one.number, one.coarsening) for name, one in found.attempts.items()}
    assert attempts == {"0": (1, 0), "1": (3, 3), "2": (5, 4), "3": (0, 0), "4": (0, 0)}
    check_found(attack(tmp_path))


def test_runs_with_the_same_settings_share_paintings(
    attack: Attacking, off: Path, anonymizer: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack(off)
    run(anonymizer.using(replace(QUICK, guard="report")), photos, tmp_path, batch_size=1)
    monkeypatch.setattr(Generator, "generate", None)
    check_found(attack(tmp_path))


def test_a_portrait_that_is_missing_has_no_row(
    attack: Attacking, quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    run(quick, photos, tmp_path, batch_size=1)
    (tmp_path / f"{FACES - 1}.png").unlink()
    check_found(attack(tmp_path), FACES - 1)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("engines", "0123456789abcdef", "engines was 0123456789abcdef and is "),
        ("anon-run", "0.0.1", "anon-run was 0.0.1 and is "),
        ("mode", "in-place", "has the mode in-place"),
        ("steps", 9999, "its settings cannot be used"),
        ("acceleration", None, "its settings cannot be used"),
        ("prompt_style", ..., "its settings cannot be used"),
    ],
)
def test_another_bundle_or_other_settings(
    attack: Attacking, off: Path, tmp_path: Path, name: str, value: object, why: str
) -> None:
    header, *lines = (off / NAME).read_text().splitlines()
    data = json.loads(header)
    data["run"] = {key: one for key, one in (data["run"] | {name: value}).items() if one is not ...}
    for path in off.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / NAME).write_text("\n".join([json.dumps(data), *lines, ""]))
    found = attack(tmp_path)
    assert isinstance(found, dict)
    assert why in found["missing"]
    assert "repainting ours" in found["missing"]


def test_without_a_bundle_or_a_journal(photos: Path, off: Path, tmp_path: Path) -> None:
    originals, _ = find_images(photos)
    copies = Method("copies", dict(enumerate(originals)))
    study = Study(originals, [pair("ours", originals, off), copies], None, None, tmp_path, tmp_path / "cache")
    found = repaint.evaluate_repaint(study)
    assert isinstance(found["ours"], dict)
    assert isinstance(found["copies"], dict)
    assert "--engines" in found["ours"]["missing"]
    assert "journal" in found["copies"]["missing"]


def test_without_dlib_faces_are_not_compared(attack: Attacking, off: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> NoReturn:
        raise MissingError("dlib", "missing", "install it")

    monkeypatch.setattr(comparison, "Dlib", missing)
    assert set(by_name(attack(off))) == {ANOTHER_SEED, SEED_KNOWN}


@pytest.mark.packages
def test_with_dlib_faces_are_compared(attack: Attacking, off: Path) -> None:
    pytest.importorskip("dlib")
    attacks = by_name(attack(off))
    assert list(attacks) == [ANOTHER_SEED, BY_FACE, SEED_KNOWN]
    assert attacks[BY_FACE].similarities.shape == (FACES, FACES + 1)
    assert not np.isclose(attacks[BY_FACE].similarities, attacks[ANOTHER_SEED].similarities)[:, :FACES].any()
