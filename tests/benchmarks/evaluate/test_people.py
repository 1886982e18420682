"""The people of photos, and splits that keep each person on one side."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from benchmarks.evaluate.pairs import ImageFile
from benchmarks.evaluate.people import Numbers, find_people, folds


def people_of(n: int, seed: int) -> Numbers:
    return np.random.default_rng(seed).integers(0, 30, n)


def test_near_copies_show_one_person(tmp_path: Path) -> None:
    def picture(seed: int) -> Image.Image:
        colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        return Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC)

    pictures = [
        picture(0),
        picture(1),
        picture(0).resize((60, 60)),
        picture(2),
        ImageEnhance.Color(picture(1)).enhance(0.7),
    ]
    for i, one in enumerate(pictures):
        one.save(tmp_path / f"{i}.png")
    found = find_people([ImageFile(str(i), tmp_path / f"{i}.png") for i in range(5)])
    assert found.tolist() == [0, 1, 0, 3, 1]


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 100))
def test_every_image_is_tested_once_and_no_person_is_on_both_sides(n: int, count: int, seed: int) -> None:
    people = people_of(n, seed)
    masks = list(folds(people, count, seed))
    assert len(masks) == count
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not {*people[mask]} & {*people[~mask]}


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 100))
def test_sets_have_about_the_same_number_of_people(n: int, count: int, seed: int) -> None:
    people = people_of(n, seed)
    sizes = [len({*people[mask]}) for mask in folds(people, count, seed)]
    assert max(sizes) - min(sizes) <= 1


def test_the_split_depends_on_the_seed_only() -> None:
    people = np.arange(40)
    first, again, other = (np.stack([*folds(people, 5, seed)]) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (first[0].nonzero()[0] != np.arange(8)).any(), "people are not taken in their order"
