"""Memorisation, on pictures of chance colours: copies, mirrored copies and near copies against strangers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime.types import Pixels
from benchmarks.evaluate import memorisation, study
from benchmarks.evaluate.encoders import Points
from benchmarks.evaluate.memorisation import evaluate_memorisation
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.reidentification import Metric
from benchmarks.evaluate.study import Study
from benchmarks.evaluate.types import Figures, Vector

TRAINED, OUTSIDERS = 24, 40


class Corner:
    """An encoder that looks at the corner of an image only; distances reach far beyond 2."""

    name, version = "corner", "1"
    metric: Metric = "euclidean"

    def locate(self, image: Pixels) -> Points:
        return np.empty((0, 2))

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        return np.asarray(image[:4, :4].mean(axis=(0, 1)) / 25, float)


@pytest.fixture(autouse=True)
def one_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "ENCODERS", {Corner.name: Corner})


def picture(seed: int) -> Image.Image:
    """A picture of chance colours, 48 x 48; another seed gives another one."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(colours).resize((48, 48), Image.Resampling.BICUBIC)


def save(folder: Path, pictures: Iterable[Image.Image]) -> list[ImageFile]:
    folder.mkdir()
    files = []
    for number, image in enumerate(pictures):
        image.save(folder / f"{number:03}.png")
        files.append(ImageFile(f"{number:03}", folder / f"{number:03}.png"))
    return files


@pytest.fixture
def people(tmp_path: Path) -> Study:
    """The first 24 of 64 originals are the training set. Methods: copies of it, its mirror image, and strangers."""
    originals = save(tmp_path / "originals", map(picture, range(TRAINED + OUTSIDERS)))
    training = save(tmp_path / "training", map(picture, range(TRAINED)))
    numbers = range(len(originals))
    kinds = {
        "copies": [picture(i % TRAINED) for i in numbers],
        "mirrored": [picture(i % TRAINED).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for i in numbers],
        "strangers": [picture(1000 + i) for i in numbers],
    }
    methods = [Method(name, dict(enumerate(save(tmp_path / name, made)))) for name, made in kinds.items()]
    return Study(originals, methods, None, None, tmp_path / "nowhere", tmp_path / "cache", training=training)


def changed(people: Study, **changes: Any) -> Study:
    fields = {name: getattr(people, name) for name in Study.__dataclass_fields__}
    return Study(**(fields | changes))


@pytest.fixture
def figures(people: Study) -> Figures:
    return evaluate_memorisation(people)


def test_copies_of_training_pictures_are_nearer_than_all_outsiders(figures: Figures) -> None:
    for encoder in ("pixels", "corner"):
        row = figures["encoders"][encoder]["methods"]["copies"]
        assert row["all"]["nearer than 95 %"]["share"]["value"] == row["all"]["AUC"]["value"] == 1
        assert row["groups"]["held out"]["nearer than 95 %"]["share"]["value"] == 1
        assert row["all"]["nearer than 99 %"] is None, "40 outsiders are too few"
    assert figures["encoders"]["pixels"]["methods"]["copies"]["all"]["near copies"]["value"] == 1


def test_mirrored_copies_are_copies_by_pixels(figures: Figures) -> None:
    row = figures["encoders"]["pixels"]["methods"]["mirrored"]["all"]
    assert row["nearer than 95 %"]["share"]["value"] == row["near copies"]["value"] == row["AUC"]["value"] == 1
    assert row["quantiles"]["images"] == pytest.approx([1] * 5)


def test_strangers_are_as_near_as_outsiders(figures: Figures) -> None:
    for encoder in ("pixels", "corner"):
        row = figures["encoders"][encoder]["methods"]["strangers"]["all"]
        found = row["nearer than 95 %"]
        assert found["chance"]["low"] <= found["share"]["value"] <= found["chance"]["high"]
        assert row["AUC"]["value"] == pytest.approx(0.5, abs=0.15)
    assert row["quantiles"].keys() == {"images", "outsiders"}
    assert figures["encoders"]["pixels"]["methods"]["strangers"]["all"]["near copies"]["value"] == 0


def test_the_form_of_the_figures(figures: Figures) -> None:
    assert figures["training pictures"] == figures["originals in the training set"] == TRAINED
    assert figures["outsiders"] == OUTSIDERS
    assert list(figures["encoders"]) == ["corner", "the guard's network", "pixels"]
    assert "missing" in figures["encoders"]["the guard's network"]
    corner = figures["encoders"]["corner"]
    assert corner["metric"] == "euclidean"
    assert sum(corner["outsiders"]["histogram"]) == OUTSIDERS
    assert sum(corner["methods"]["copies"]["histogram"]) == TRAINED + OUTSIDERS
    assert "near copies" not in corner["methods"]["copies"]["all"]
    assert {name: group["AUC"]["of"] for name, group in corner["methods"]["copies"]["groups"].items()} == {
        "held out": OUTSIDERS,
        "not held out": TRAINED,
    }
    json.dumps(figures)


def test_the_nearest_are_listed_beside_their_pictures(figures: Figures, people: Study) -> None:
    pixels, corner = figures["encoders"]["pixels"], figures["encoders"]["corner"]
    for method in ("copies", "mirrored"):
        listed = pixels["methods"][method]["nearest"]
        assert len(listed) == memorisation.LISTED
        assert all(int(image) % TRAINED == int(picture) for image, picture, _ in listed)
    for own in (pixels, corner):
        listed = own["outsiders"]["nearest"]
        assert all(int(image) >= TRAINED for image, _, _ in listed)
        found = [score for _, _, score in listed]
        assert found == sorted(found, reverse=True)
        assert found[0] < own["methods"]["copies"]["nearest"][0][2] == pytest.approx(1)
    image, picture, score = corner["outsiders"]["nearest"][0]
    a, b = (
        Corner().embed(files[int(name)].pixels(), None)
        for files, name in ((people.originals, image), (people.training or [], picture))
    )
    assert score == pytest.approx(1 - np.linalg.norm(a - b))


def test_groups_follow_the_own_original_and_not_the_image(people: Study) -> None:
    """Copies of training pictures for the outsiders, strangers for the others; pairs are in any order."""
    copies, _, strangers = (method.pairs for method in people.methods)
    numbers = list(reversed(range(TRAINED + OUTSIDERS)))
    mixed = Method("mixed", {i: (strangers if i < TRAINED else copies)[i] for i in numbers})
    row = evaluate_memorisation(changed(people, methods=[mixed]))["encoders"]["pixels"]["methods"]["mixed"]
    assert row["groups"]["held out"]["near copies"]["value"] == 1
    assert row["groups"]["not held out"]["near copies"]["value"] == 0


def test_a_group_of_fewer_than_ten_is_left_out(people: Study) -> None:
    copies = people.methods[0].pairs
    few = [Method("few", {i: copies[i] for i in range(TRAINED - 9, TRAINED + 10)})]
    row = evaluate_memorisation(changed(people, methods=few))["encoders"]["pixels"]["methods"]["few"]
    assert list(row["groups"]) == ["held out"]
    assert row["all"]["near copies"]["of"] == 19


def test_near_copies_of_training_pictures_are_no_outsiders(people: Study, tmp_path: Path) -> None:
    """Another size, other colours, mirrored, another file, and a near copy of a near copy."""
    light = picture(3).point(lambda level: round(20 + level * 0.9))
    noise = np.random.default_rng(0).normal(0, 28, (2, 48, 48, 3)).cumsum(axis=0)
    chain = [Image.fromarray((np.asarray(picture(4)) + step).clip(0, 255).astype(np.uint8)) for step in noise]
    near = [
        picture(1).resize((96, 96)),
        light,
        picture(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        *chain,
        picture(500),
    ]
    originals = save(tmp_path / "more", [*map(picture, range(100, 130)), *near])
    methods = [Method("same", dict(enumerate(originals)))]
    found = changed(people, originals=originals, methods=methods)
    inside, outsiders = memorisation.find_outsiders(found, pixels_of(found))
    assert np.flatnonzero(inside).tolist() == [30, 31, 32, 33, 34]
    assert (outsiders == ~inside).all()


def pixels_of(people: Study) -> Vector:
    pixels = memorisation.centre(people.embed(memorisation.Thumbnails()))
    return memorisation.nearest(pixels.gallery, pixels).similarity


def test_a_person_is_in_the_training_set_with_one_photo(people: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_people", lambda images: np.where(np.arange(len(images)) == 50, 0, range(64)))
    inside, _ = memorisation.find_outsiders(people, pixels_of(people))
    assert np.flatnonzero(inside).tolist() == [*range(TRAINED), 50]


def test_the_same_file_is_in_the_training_set_whatever_its_pixels_say(people: Study) -> None:
    inside, _ = memorisation.find_outsiders(people, np.full(TRAINED + OUTSIDERS, -1.0))
    assert inside.sum() == TRAINED


def test_held_out_originals_alone_are_outsiders_if_they_are_known(people: Study) -> None:
    held_out = np.arange(TRAINED + OUTSIDERS) % 2 == 0  # half of them are in the training set all the same
    figures = evaluate_memorisation(changed(people, held_out=held_out))
    assert figures["outsiders"] == OUTSIDERS // 2
    assert figures["originals in the training set"] == TRAINED


def test_pixels_are_compared_by_the_correlation_of_near_copies(people: Study) -> None:
    """Computed by hand: the mean picture and its mirror image are subtracted, and the best correlation counts."""
    assert people.training is not None
    small = {
        name: np.array([np.asarray(Image.open(f.path).resize((24, 24), Image.Resampling.BOX), float) for f in files])
        for name, files in (("originals", people.originals), ("training", people.training))
    }
    training = np.concatenate([small["training"], small["training"][:, :, ::-1]])
    a, b = ((own - training.mean(axis=0)).reshape(len(own), -1) for own in (small["originals"], training))
    expected = (a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))).max(axis=1)
    np.testing.assert_allclose(pixels_of(people), expected, atol=1e-6)


def test_blocks_change_nothing(people: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pixels_of(people)
    monkeypatch.setattr(memorisation, "_BLOCK", 7)
    np.testing.assert_allclose(pixels_of(people), whole, atol=1e-12)


def test_nobody_outside_gives_no_comparison(people: Study) -> None:
    """The training set is all originals."""
    figures = evaluate_memorisation(changed(people, training=people.originals))
    assert figures["outsiders"] == 0
    row = figures["encoders"]["pixels"]["methods"]["copies"]
    assert row["all"]["nearer than 95 %"] is row["all"]["AUC"] is None
    assert row["all"]["near copies"]["value"] == 1
    assert list(row["groups"]) == ["not held out"]


def test_without_a_training_set_the_option_is_named(people: Study) -> None:
    figures = evaluate_memorisation(changed(people, training=None))
    assert list(figures) == ["missing"]
    assert "--training-set" in figures["missing"]
