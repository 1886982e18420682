"""The inspector, with networks that read what a test has painted, and once with the demo's own networks.

A made-up portrait is grey, and has a square for each face; the colour of the square is the person.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, IdentitySpec
from anon_runtime.errors import BundleError, GenerationError
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.detection import DETECTORS, Detector
from anon_runtime.faces.geometry import Reals
from anon_runtime.faces.identity import round_embedding
from anon_runtime.guard.inspector import SIDE, Case, Inspector
from anon_runtime.guard.options import GuardOptions
from anon_runtime.guard.reference import Reference, make_reference
from anon_runtime.guard.trial import Attempt
from anon_runtime.guard.words import Frequencies
from anon_runtime.types import Array, Arrays, Attributes, Floats, Pixels, Portrait
from tests.conftest import pixels
from tests.runtime.guard.calibrations import calibration
from tests.runtime.stand_ins import MadeUpEngines

SPEC = IdentitySpec("colours", 112, ARCFACE_TEMPLATE, calibration())
PORTRAIT = Portrait(Image.new("RGB", (8, 8)), "", "", 0)
GREY = 128
CELL = 80  # pixels of a portrait; there is room for four faces
MARKS = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]])
RED, GREEN, BLUE, PINK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 60, 60)
Colour = tuple[int, int, int]
GREY_CELL = (GREY, GREY, GREY)  # no face


def paint(*faces: Colour) -> Pixels:
    photo = np.full((CELL, 4 * CELL, 3), GREY, np.uint8)
    for i, colour in enumerate(faces):
        photo[:, i * CELL : (i + 1) * CELL] = colour
    return photo


def find_squares(inputs: Mapping[str, Array]) -> Arrays:
    """Find the squares that are not grey: 1 for each of the four places that holds a face."""
    image = np.asarray(inputs["image"], np.float32)
    side = image.shape[-1] // 4
    middles = image[:, :, image.shape[2] // 4, side // 2 :: side]
    return {"found": np.abs(middles - GREY).max(axis=1) > 1}


def decode(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    places = np.flatnonzero(outputs["found"])
    side = width / 4
    corners = np.array([[i * side, 0, (i + 1) * side, side] for i in places]).reshape(-1, 4)
    landmarks = np.array([(MARKS + np.array([i, 0])) * side for i in places]).reshape(-1, 5, 2)
    return corners, np.full(len(places), 0.9), landmarks


def decode_points(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    """Faces whose landmarks lie in one place."""
    corners, scores, landmarks = decode(outputs, height, width, threshold)
    return corners, scores, np.repeat(landmarks[:, :1], 5, axis=1)


def colours(inputs: Mapping[str, Array]) -> Arrays:
    """The colour in the middle of each face, around grey."""
    return {"embedding": np.asarray(inputs["image"], np.float32)[:, :, 56, 56] - GREY}


def embedding(colour: Colour) -> Floats:
    return round_embedding(np.asarray(colour, np.float64) - GREY)


def people(*colours: Colour) -> Reference:
    return make_reference(np.stack([embedding(colour) for colour in colours]))


def make_engines() -> MadeUpEngines:
    return MadeUpEngines(face_detector=find_squares, face_identity=colours)


SQUARES = Detector("image", 0.5, 0.5, decode)


def inspector(engines: MadeUpEngines | None = None, detector: Detector = SQUARES, *, best_of: int = 1) -> Inspector:
    return Inspector(engines or make_engines(), detector, 0.5, SPEC, GuardOptions(best_of=best_of))


def case(portrait: Pixels, original: Colour, words: Attributes | None = None) -> Case:
    return Case(Attempt(0, 0), PORTRAIT, portrait, words or {}, embedding(original))


def test_a_portrait_with_one_face_is_embedded() -> None:
    look = inspector().look(paint(RED))
    assert look.faces == 1
    assert look.face is not None
    assert look.face.box == (0, 0, CELL, CELL)
    assert look.embedding is not None
    np.testing.assert_array_equal(look.embedding, embedding(RED))


@pytest.mark.parametrize(("faces", "cause"), [([], "no face"), ([RED, GREEN], "several faces")])
def test_a_portrait_without_its_one_face_is_refused(faces: list[Colour], cause: str) -> None:
    guard = inspector()
    crowd = guard.gather(people(BLUE))
    judged = guard.examine([case(paint(*faces), BLUE)], crowd)[0]
    assert (judged.finding.cause, judged.finding.resemblance, judged.embedding) == (cause, None, None)
    assert guard.look(paint(*faces)).faces == len(faces)


def test_a_face_that_cannot_be_aligned_is_no_face() -> None:
    guard = inspector(detector=Detector("image", 0.5, 0.5, decode_points))
    judged = guard.examine([case(paint(RED), BLUE)], guard.gather(people(BLUE)))[0]
    assert (judged.finding.cause, judged.embedding) == ("no face", None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["face_detector", "face_identity"])
def test_a_network_that_returns_no_numbers_ends_the_run(role: str, value: float) -> None:
    engines = make_engines()
    outputs = {
        "face_detector": {"found": np.full((1, 4), value)},
        "face_identity": {"embedding": np.full((1, 3), value)},
    }
    engines[role] = lambda inputs: outputs[role]
    with pytest.raises(GenerationError, match=f"the {role} engine .*NaN or infinity"):
        inspector(engines).look(paint(RED))


def test_a_network_that_is_not_calibrated_is_refused() -> None:
    spec = IdentitySpec("colours", 112, ARCFACE_TEMPLATE)
    with pytest.raises(BundleError, match="similar different people are to colours; run `anon-export calibrate-guard`"):
        Inspector(make_engines(), SQUARES, 0.5, spec, GuardOptions())


@pytest.mark.parametrize(
    ("role", "best_of"), [("face_detector", 1), ("face_identity", 1), ("face_attributes", 2), ("face_age", 2)]
)
def test_missing_engines_are_told_before_the_run(role: str, best_of: int) -> None:
    engines = make_engines() | dict.fromkeys(("face_attributes", "face_age", "face_race"), colours)
    inspector(MadeUpEngines(**engines), best_of=best_of).check()
    del engines[role]
    with pytest.raises(BundleError, match=role):
        inspector(MadeUpEngines(**engines), best_of=best_of).check()


def test_attributes_are_not_needed_to_keep_the_first_portrait() -> None:
    inspector(best_of=1).check()


def test_a_portrait_is_looked_at_in_half_the_size_of_a_photo() -> None:
    engines, sides = make_engines(), []

    def watch(inputs: Mapping[str, Array]) -> Arrays:
        sides.append(inputs["image"].shape[-1])
        return find_squares(inputs)

    engines["face_detector"] = watch
    inspector(engines).look(paint(RED))
    assert [face.box[0] for face in inspector(engines).find(paint(RED, BLUE))] == [0, CELL]
    assert sides == [SIDE, 2 * SIDE]


@pytest.mark.parametrize(("shown", "faces"), [((RED, BLUE), 1), ((GREY_CELL, BLUE), 0)])
def test_in_place_only_the_region_is_looked_at(shown: tuple[Colour, ...], faces: int) -> None:
    region = np.zeros((CELL, 4 * CELL), bool)
    region[:, :CELL] = True
    look = inspector().look(paint(*shown), region)
    assert look.faces == faces
    assert (look.face is not None) == bool(faces)
    judged = inspector().examine([replace(case(paint(*shown), BLUE), region=region)], inspector().gather(people(BLUE)))
    assert judged[0].finding.cause == (None if faces else "no face")


def test_a_second_detector_sees_what_the_first_one_misses() -> None:
    """Its threshold is its own, and a face that both find may be there twice."""
    engines = make_engines()

    def blind(inputs: Mapping[str, Array]) -> Arrays:
        found = find_squares(inputs)["found"].copy()
        found[:, 1] = False
        return {"found": found}

    engines["second_face_detector"], engines["face_detector"] = engines["face_detector"], blind
    photo = paint(RED, BLUE)
    alone = Inspector(engines, SQUARES, 0.5, SPEC, GuardOptions())
    both = Inspector(engines, SQUARES, 0.5, SPEC, GuardOptions(), Detector("image", 0.7, 0.7, decode))
    assert [seen.face.box[0] for seen in alone.see(photo)] == [0]
    assert sorted(seen.face.box[0] for seen in both.see(photo)) == [0, 0, CELL]
    for face, vector in both.see(photo):
        assert vector is not None
        np.testing.assert_array_equal(vector, embedding(RED if face.box[0] == 0 else BLUE))


def test_the_photo_itself_never_passes() -> None:
    guard = inspector()
    crowd = guard.gather(people(RED, GREEN, BLUE))
    for person in (RED, GREEN, BLUE):
        finding = guard.examine([case(paint(person), person)], crowd)[0].finding
        assert finding.cause == "own original"
        assert finding.resemblance is not None
        assert finding.resemblance.own == pytest.approx(1, abs=1e-3)


def test_people_of_the_gallery_are_found() -> None:
    guard = inspector()
    crowd = guard.gather(people(BLUE, RED, RED), Frequencies(1, {"Bald": 1}))
    assert crowd.reference.people == 2
    assert crowd.limits.others.rate == guard.options.fmr / 2
    assert crowd.frequencies == Frequencies(1, {"Bald": 1})
    assert guard.examine([case(paint(PINK), BLUE)], crowd)[0].finding.cause == "another person"
    assert guard.examine([case(paint(PINK), BLUE)], guard.gather(people(BLUE)))[0].finding.cause is None


portraits = st.lists(st.sampled_from([RED, GREEN, BLUE, PINK]), max_size=2)


@given(batch=st.lists(st.tuples(portraits, st.sampled_from([RED, GREEN, BLUE])), min_size=1, max_size=5))
def test_portraits_of_a_batch_are_judged_as_if_they_were_alone(batch: list[tuple[list[Colour], Colour]]) -> None:
    """Portraits without their one face do not shift the originals of the others."""
    guard = inspector()
    crowd = guard.gather(people(RED, GREEN, BLUE, PINK))
    cases = [case(paint(*faces), original) for faces, original in batch]
    together = [judged.finding for judged in guard.examine(cases, crowd)]
    assert together == [guard.examine([one], crowd)[0].finding for one in cases]
    for finding, (faces, original) in zip(together, batch, strict=True):
        if len(faces) == 1:
            assert finding.resemblance is not None
            assert finding.resemblance.own == float(embedding(faces[0]) @ embedding(original))


def reads(score: float, calls: list[str]) -> MadeUpEngines:
    """Engines that read the same score for every attribute, and note their calls."""

    def read(role: str, outputs: Arrays) -> Arrays:
        calls.append(role)
        return outputs

    classes: Arrays = {"age_probabilities": np.eye(101)[:1], "race_probabilities": np.eye(6)[:1]}
    engines = make_engines()
    engines["face_attributes"] = lambda _: read("attributes", {"probabilities": np.full((1, len(CELEBA)), score)})
    engines["face_age"] = engines["face_race"] = lambda _: read("age and race", classes)
    return engines


def test_portraits_that_pass_are_compared_with_their_words() -> None:
    calls: list[str] = []
    guard = inspector(reads(0.75, calls), best_of=2)
    crowd = guard.gather(people(BLUE, GREEN))
    words: Attributes = {"Ethnic": "white", "Age": 30, "Male": 1.0, "Bald": 0.0}
    assert guard.examine([case(paint(RED), BLUE, words)], crowd)[0].agreement == 0.5
    assert guard.examine([case(paint(RED), BLUE, {"Male": 1.0})], crowd)[0].agreement == 0.75
    assert calls == ["attributes", "age and race"] * 2


@pytest.mark.parametrize(("portrait", "best_of"), [(paint(BLUE), 2), (paint(), 2), (paint(RED), 1)])
def test_other_portraits_are_not_read_again(portrait: Pixels, best_of: int) -> None:
    calls: list[str] = []
    guard = inspector(reads(0.75, calls), best_of=best_of)
    crowd = guard.gather(people(BLUE, GREEN))
    assert guard.examine([case(portrait, BLUE, {"Male": 1.0})], crowd)[0].agreement == 0
    assert calls == []


def test_the_demos_networks_recognize_a_photo_and_see_no_face_in_a_cup(
    anonymizer: Anonymizer, astronaut: Path, coffee: Path
) -> None:
    engines = anonymizer.engines
    spec = engines.bundle.manifest.identity
    assert spec is not None
    guard = Inspector(engines, DETECTORS["centerface"], 0.5, spec, GuardOptions())
    guard.check()
    face = Image.open(astronaut).convert("RGB").crop((130, 20, 320, 220))
    original = guard.encoder.embed(pixels(astronaut), guard.find(pixels(astronaut))[0])
    crowd = guard.gather(make_reference(original[None]))
    portraits = [np.asarray(face.resize((96, 96))), np.asarray(face.rotate(5).resize((512, 512))), pixels(coffee)]
    cases = [Case(Attempt(0, 0), PORTRAIT, portrait, {}, original) for portrait in portraits]
    judged = guard.examine(cases, crowd)
    assert [one.finding.cause for one in judged] == ["own original", "own original", "no face"]
