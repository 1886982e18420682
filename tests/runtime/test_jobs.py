"""The job for one photo: seeds, attempts, what the guard sees, and what speaks against the finished photo."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.casting import Cast, face_of
from anon_runtime.errors import BundleError, RefusedError, UsageError
from anon_runtime.faces.detection import Face
from anon_runtime.guard.decision import Finding
from anon_runtime.guard.inspector import Seen
from anon_runtime.guard.options import GuardOptions
from anon_runtime.guard.reference import Resemblance
from anon_runtime.guard.trial import Judged
from anon_runtime.jobs import Job, SceneJob, Sitter, face_seed, object_to
from anon_runtime.scene.places import find_place
from anon_runtime.types import MAX_SEED, Box, Description, Engine, Floats, Pixels, Portrait
from tests.runtime.runs import QUICK
from tests.runtime.stand_ins import StandInEngines

PHOTO, PICTURE, BLOCK = (90, 160), (48, 48), 4
PORTRAIT = Portrait(Image.new("RGB", PICTURE, "red"), "", "", 0, seconds={"unet": 0.5})


def embedding(number: int) -> Floats:
    return np.asarray(np.eye(4)[number], np.float32)


def person(x: float, number: int, side: float = 24) -> Description:
    """A person whose face is a square at a height of 30 pixels."""
    landmarks = np.array([[x + 6, 38], [x + 18, 38], [x + 12, 42], [x + 8, 48], [x + 16, 48]], np.float32)
    attributes: dict[str, Any] = {"Ethnic": "white", "Age": 30, "Male": 1.0}
    return Description("", "", attributes, (x, 30.0, side, side), {"detect": 0.25}, embedding(number), landmarks)


def noise(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*PHOTO, 3), np.uint8)


CAST = Cast((person(20, 0), person(60, 1)), (face_of(person(100, 2, 8)),), (face_of(person(130, 3)),))


def scene(guard: GuardOptions | None = None, cast: Cast = CAST) -> SceneJob:
    return SceneJob(noise(0), cast, PICTURE, BLOCK, 7, guard or GuardOptions())


def judge(sitter: Sitter, cause: Any = None, similarity: float = 0.25) -> None:
    """Let the guard find something out about the next attempt."""
    assert sitter.trial.attempt is not None
    finding = Finding(Resemblance(similarity, similarity, 9, None), cause, "it is so" if cause else "")
    sitter.trial.add(Judged(sitter.trial.attempt, PORTRAIT, finding, embedding(0)))


def test_each_face_has_a_seed_of_its_own_and_the_first_one_that_of_the_photo() -> None:
    seeds = [face_seed(7, number) for number in range(50)]
    assert seeds[0] == 7
    assert len({*seeds, *(face_seed(8, number) for number in range(50))}) == 100
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert [sitter.seed for sitter in scene().sitters] == seeds[:2]


def test_people_wait_until_their_trials_are_over_or_somebody_is_refused() -> None:
    job = Job(CAST.people, 7, GuardOptions(attempts=2))
    first, second = job.sitters
    judge(first)
    assert job.waiting == [second]
    judge(second, "own original")
    assert job.waiting == [second]
    judge(second, "own original")
    assert (job.waiting, job.refused) == ([], second)
    with pytest.raises(RefusedError, match="all of its 2 portraits: it is so"):
        job.results()
    early = Job(CAST.people, 7, GuardOptions(attempts=1))
    judge(early.sitters[1], "nearest")
    assert early.waiting == []  # nobody is painted for a picture that will not be released


def test_without_a_guard_the_first_attempt_is_taken() -> None:
    job = Job(CAST.people[:1], 7, GuardOptions("off"))
    job.accept(job.sitters[0], PORTRAIT)
    (judged,) = job.results()
    assert not job.waiting
    assert (judged.portrait.attributes, judged.portrait.face) == (CAST.people[0].attributes, CAST.people[0].face)
    assert judged.portrait.seconds == {"detect": 0.25, "unet": 0.5}


def test_a_finished_photo_has_new_pixels_in_the_regions_and_its_own_elsewhere() -> None:
    job = scene()
    for sitter in job.sitters:
        judge(sitter)
    retouched = job.finish()
    everything = slice(0, PHOTO[0]), slice(0, PHOTO[1])
    faces = [*map(face_of, CAST.people), *CAST.filled]
    inside = np.any([find_place(face, PICTURE).region(everything) for face in faces], axis=0)
    pixels = np.asarray(retouched.image)
    np.testing.assert_array_equal(pixels[~inside], noise(0)[~inside])
    assert (pixels[inside] != noise(0)[inside]).any(axis=-1).mean() > 0.95
    assert retouched.filled == ((100.0, 30.0, 8.0, 8.0),)
    assert retouched.kept == ((130.0, 30.0, 24.0, 24.0),)
    assert [one.similarity for one in retouched.people] == [0.25, 0.25]
    assert retouched.seconds == {"unet": 1.0}


def test_the_guard_sees_a_face_where_it_will_be(anonymizer: Anonymizer) -> None:
    """It sees the photo around the face, turned upright, after the file's format has changed it."""
    job = scene()
    sitter, shown = job.sitters[0], []

    def show(image: Image.Image) -> Pixels:
        shown.append(np.asarray(image))
        return np.full((*PICTURE, 3), 9, np.uint8)

    request, words = job.request(sitter, anonymizer.reader)
    assert request.canvas is not None
    case = job.case(sitter, PORTRAIT, words, show)
    assert (case.pixels == 9).all()
    assert case.region is not None
    (seen,) = shown
    middle = PICTURE[0] // 2
    assert tuple(seen[middle, middle]) == (255, 0, 0)
    outside = ~case.region & ~request.canvas.mask
    np.testing.assert_array_equal(seen[outside], request.canvas.pixels[outside])


def look(box: Box, number: int | None) -> Seen:
    return Seen(Face(box, 0.9, np.zeros((5, 2), np.float32)), None if number is None else embedding(number))


OBJECTIONS = [
    (look((20, 30, 24, 24), 3), []),  # another face in the place of the first one
    (look((20, 30, 24, 24), 0), [(0, "own original")]),
    (look((62, 32, 20, 20), 0), [(1, "own original")]),  # the first person in the place of the second one
    (look((20, 30, 24, 24), None), []),  # it cannot be recognized
    (look((130, 30, 24, 24), 3), []),  # who agreed
    (look((100, 30, 8, 8), 2), []),
    (look((2, 2, 9, 9), 3), [(None, "face left")]),
    (look((2, 2, 9, 9), None), [(None, "face left")]),
]


@pytest.mark.parametrize(("seen", "expected"), OBJECTIONS)
def test_what_speaks_against_a_finished_photo(seen: Seen, expected: Any) -> None:
    places = [find_place(face, PICTURE) for face in [*map(face_of, CAST.people), *CAST.filled]]
    assert [(number, finding.cause) for number, finding in object_to(CAST, places, [seen], 0.9)] == expected


def test_an_original_in_the_finished_photo_takes_another_attempt() -> None:
    job = scene(GuardOptions(attempts=2))
    for sitter in job.sitters:
        judge(sitter)
    twice = [OBJECTIONS[1][0], OBJECTIONS[1][0]]  # a second detector may have seen it too
    job.examine(twice, 0.9)
    assert job.waiting == job.sitters[:1]
    attempt = job.sitters[0].trial.attempt
    assert attempt is not None
    assert (attempt.number, attempt.coarsening) == (1, 1)
    judge(job.sitters[0])
    job.examine([], 0.9)
    assert [judged.attempt.number for judged in job.results()] == [1, 0]
    job.examine([OBJECTIONS[1][0]], 0.9)
    with pytest.raises(RefusedError, match="all of its 2 portraits: a face in it resembles one of the photo"):
        job.finish()


def test_a_face_that_stays_refuses_the_photo_unless_the_guard_only_reports() -> None:
    strict, report = scene(), scene(GuardOptions("report"))
    for job in (strict, report):
        for sitter in job.sitters:
            judge(sitter)
    with pytest.raises(RefusedError, match="a face of the photo"):
        strict.examine([OBJECTIONS[-1][0]], 0.9)
    report.examine([OBJECTIONS[-1][0], OBJECTIONS[1][0]], 0.9)
    assert not report.waiting


def test_a_photo_in_which_nothing_is_painted_is_filled() -> None:
    job = scene(cast=replace(CAST, people=()))
    assert not job.waiting
    retouched = job.finish()
    assert (retouched.people, len(retouched.filled)) == ((), 1)
    assert (np.asarray(retouched.image)[32:36, 102:106] != noise(0)[32:36, 102:106]).any()


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_photos_that_differ_in_the_regions_only_give_the_same_bytes(seed: int, other: int) -> None:
    everything = slice(0, PHOTO[0]), slice(0, PHOTO[1])
    faces = [*map(face_of, CAST.people), *CAST.filled]
    inside = np.any([find_place(face, PICTURE).region(everything) for face in faces], axis=0)
    first, second = noise(seed), noise(seed)
    second[inside] = noise(other)[inside]
    results = list[Pixels]()
    for photo in (first, second):
        job = SceneJob(photo, CAST, PICTURE, BLOCK, 7, GuardOptions("off"))
        for sitter in job.sitters:
            job.accept(sitter, PORTRAIT)
        results.append(np.asarray(job.finish().image))
    np.testing.assert_array_equal(results[0], results[1])


def test_the_whole_way_gives_the_same_bytes_whoever_was_there(
    quick: Anonymizer, astronaut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the demo's engines: the same words and the same places, and other people."""
    photo = np.asarray(Image.open(astronaut).convert("RGB"))
    (face,) = quick.reader.detect([photo])[0]
    described = quick.reader.describe(photo)
    cast = Cast((described,))
    spec = quick.engines.bundle.manifest.generator
    everything = slice(0, photo.shape[0]), slice(0, photo.shape[1])
    inside = find_place(face, (spec.height, spec.width)).region(everything)
    other = photo.copy()
    other[inside] = np.random.default_rng(0).integers(0, 256, (int(inside.sum()), 3))
    monkeypatch.setattr(quick, "cast", lambda *arguments: cast)
    one, another = (np.asarray(quick.replace_faces(pixels, seed=3).image) for pixels in (photo, other))
    np.testing.assert_array_equal(one, another)
    np.testing.assert_array_equal(one[~inside], photo[~inside])
    assert (np.asarray(quick.replace_faces(photo, seed=4).image) != one).any()


def test_nobody_can_be_kept_without_the_guard(quick: Anonymizer, astronaut: Any) -> None:
    with pytest.raises(UsageError, match="guard is off"):
        quick.replace_faces(astronaut, keep=[astronaut])


def test_people_who_agreed_stay_as_they_are(own_engines: Any, astronaut: Any, coffee: Any) -> None:
    anonymizer = Anonymizer.of(own_engines, replace(QUICK, guard="strict"))
    retouched = anonymizer.replace_faces(astronaut, keep=[astronaut])
    np.testing.assert_array_equal(np.asarray(retouched.image), np.asarray(Image.open(astronaut).convert("RGB")))
    assert (retouched.people, len(retouched.kept)) == ((), 1)
    with pytest.raises(UsageError, match="no photo of it shows a face"):
        anonymizer.replace_faces(astronaut, keep=[coffee])


def test_a_bundle_without_an_encoder_replaces_nothing(
    anonymizer: Anonymizer, engines: dict[str, Engine], astronaut: Any
) -> None:
    bundle = anonymizer.engines.bundle
    left = {role: spec for role, spec in bundle.manifest.engines.items() if role != "vae_encoder"}
    older = replace(bundle, manifest=replace(bundle.manifest, engines=left))
    others = {role: engine for role, engine in engines.items() if role != "vae_encoder"}
    with pytest.raises(BundleError, match="vae_encoder"):
        Anonymizer.of(StandInEngines(older, others), QUICK).replace_faces(astronaut)


def test_settings_of_reading_hold_here_too(quick: Anonymizer, astronaut: Any) -> None:
    """A face that is smaller than `min_face` is filled, and not left."""
    filled = quick.using(replace(QUICK, min_face=400)).replace_faces(astronaut)
    assert (filled.people, len(filled.filled)) == ((), 1)
    x, y, width, height = map(int, filled.filled[0])
    changed = np.asarray(filled.image) != np.asarray(Image.open(astronaut).convert("RGB"))
    assert changed[y : y + height, x : x + width].mean() > 0.9


def test_a_finished_photo_is_looked_at(own_engines: Any, astronaut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A face that nobody has cast would stay in it."""
    anonymizer = Anonymizer.of(own_engines, replace(QUICK, guard="strict"))
    monkeypatch.setattr(anonymizer, "cast", lambda *arguments: Cast(()))
    with pytest.raises(RefusedError, match="a face of the photo"):
        anonymizer.replace_faces(astronaut)
