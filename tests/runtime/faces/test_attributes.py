import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anon_runtime import Anonymizer
from anon_runtime.errors import UsageError
from anon_runtime.faces.attributes import (
    CELEBA,
    ETHNICITIES,
    deepface_crop,
    farl_crop,
    load_attributes,
    read_attributes,
)
from anon_runtime.faces.detection import Face
from anon_runtime.types import Arrays
from tests.conftest import pixels
from tests.runtime.strategies import JSON, ODD_JSON

LANDMARKS = np.array([[203, 98], [245, 100], [222, 122], [205, 140], [240, 142]], np.float32)
FACE = Face((180.4, 58.2, 90.6, 118.0), 0.9, LANDMARKS)


def test_labels_are_celebas() -> None:
    assert len(CELEBA) == 40
    assert list(CELEBA) == sorted(CELEBA)
    assert {"Male", "Young"} < set(CELEBA)
    assert len(ETHNICITIES) == 6


def test_reads_everything(anonymizer: Anonymizer, astronaut: Path) -> None:
    found = anonymizer.describe(pixels(astronaut)).attributes
    assert list(found) == ["Ethnic", "Age", *CELEBA]
    assert found["Ethnic"] in ETHNICITIES
    assert isinstance(found["Age"], int)
    assert 0 <= found["Age"] <= 100
    assert all(isinstance(found[k], float) and 0 <= float(found[k]) <= 1 for k in CELEBA)


def test_a_batch_gives_what_each_photo_gives(anonymizer: Anonymizer, astronaut: Path) -> None:
    photo = pixels(astronaut)
    photos = [photo, np.ascontiguousarray(photo[:, ::-1]), photo // 2]
    engines = {role: anonymizer.engines[role] for role in ("face_attributes", "face_age", "face_race")}
    together = read_attributes(engines, photos, [FACE] * 3)
    for one, photo in zip(together, photos, strict=True):
        alone = read_attributes(engines, [photo], [FACE])[0]
        assert (one["Ethnic"], one["Age"]) == (alone["Ethnic"], alone["Age"])
        np.testing.assert_allclose([float(one[k]) for k in CELEBA], [float(alone[k]) for k in CELEBA], atol=1e-6)


def test_expected_age_and_most_likely_ethnicity() -> None:
    ages, races = np.zeros((1, 101), np.float32), np.zeros((1, 6), np.float32)
    ages[0, 30], ages[0, 41], races[0, 4] = 0.5, 0.5, 1
    answers: dict[str, Arrays] = {
        "face_attributes": {"probabilities": np.linspace(0, 1, 40, dtype=np.float32)[None]},
        "face_age": {"age_probabilities": ages},
        "face_race": {"race_probabilities": races},
    }
    engines = {role: partial(lambda arrays, _: arrays, arrays) for role, arrays in answers.items()}
    found = read_attributes(engines, [np.zeros((300, 300, 3), np.uint8)], [FACE])[0]
    assert found["Ethnic"] == "middle eastern"
    assert found["Age"] == 35, "the expected age is 35.5, and DeepFace's int() cuts it"
    assert (found["5_o_Clock_Shadow"], found["Young"]) == (0.0, 1.0)


def test_crops_have_the_networks_layout(astronaut: Path) -> None:
    photo = pixels(astronaut)
    aligned, boxed = farl_crop(photo, FACE), deepface_crop(photo, FACE)
    assert aligned.shape == (3, 224, 224)
    assert aligned.dtype == np.float32
    assert aligned.min() > -1.8
    assert aligned.max() < 2.7
    assert aligned.std() > 0.3
    assert boxed.shape == (224, 224, 3)
    assert boxed.dtype == np.float32
    assert 0 <= boxed.min() <= boxed.max() <= 1
    red_face = photo.copy()
    red_face[..., 1:] = 0
    assert deepface_crop(red_face, FACE)[..., :2].max() == 0  # BGR: red comes last
    assert (boxed[:, :20] == 0).all()  # the crop of a tall box has black bars at the sides


def test_a_box_on_the_border_or_of_no_size_still_gives_a_crop(astronaut: Path) -> None:
    photo = pixels(astronaut)
    for box in ((0.0, 0.0, 0.2, 0.2), (511.5, 511.5, 0.4, 0.4), (0.0, 0.0, 512.0, 512.0)):
        assert deepface_crop(photo, Face(box, 1, LANDMARKS)).shape == (224, 224, 3)


GOOD = {"Ethnic": "white", "Age": 34, "Male": 0.2, "Smiling": 1, "Bald": 0.0}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"Nose": 0.5}, "unknown: Nose"), ({"Smiling": 1.01}, "Smiling is 1.01"), ({"Smiling": -0.1}, "Smiling"),
        ({"Smiling": "yes"}, "Smiling"), ({"Smiling": True}, "Smiling"), ({"Smiling": float("nan")}, "Smiling"),
        ({"Age": 34.5}, "Age"), ({"Age": -1}, "Age"), ({"Age": "34"}, "Age"), ({"Ethnic": ""}, "Ethnic"),
        ({"Ethnic": 3}, "Ethnic"), ({"Male": None}, "Male"),
    ],
)  # fmt: skip
def test_attributes_without_meaning_are_refused(tmp_path: Path, change: dict[str, object], word: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UsageError, match=word):
        load_attributes(path)


def test_files_that_are_no_attributes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, word in {"{": "not JSON", "[]": "not an object", '{"Age": 3}': "missing: Ethnic, Male"}.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=word):
            load_attributes(path)
    for absent in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(UsageError, match="check the path"):
            load_attributes(absent)


def test_attributes_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dict(reversed(GOOD.items()))))
    assert list(load_attributes(path)) == ["Bald", "Smiling", "Male", "Age", "Ethnic"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        JSON.map(lambda v: json.dumps(v).encode()),
        st.binary(max_size=50),
        st.fixed_dictionaries({"Ethnic": JSON, "Age": JSON, "Male": JSON}).map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_attribute_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    refused = None
    try:
        found = load_attributes(tmp_path / "a.json")
    except UsageError as error:
        refused = error
    if refused is None:
        assert isinstance(found["Age"], int)
        assert 0 <= float(found["Male"]) <= 1
    else:
        assert str(tmp_path) in refused.what


@pytest.mark.parametrize("text", ODD_JSON)
def test_json_that_breaks_parsers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError):
        load_attributes(tmp_path / "a.json")
