"""The face reader with the engines of the demo, and with made-up engines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.errors import BundleError, NoFaceError, PhotoError, UsageError
from anon_runtime.faces import decoding
from anon_runtime.faces.decoding import Decoded
from anon_runtime.faces.detection import Detector
from anon_runtime.faces.geometry import Reals
from anon_runtime.faces.reader import FaceReader, ReadingOptions
from anon_runtime.types import Array, Arrays, Attributes, Description
from tests.runtime.stand_ins import MadeUpEngines

PERSON: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}


def test_each_photos_own_time_is_told(anonymizer: Anonymizer, astronaut: Path, tmp_path: Path) -> None:
    large = Image.open(astronaut).convert("RGB").resize((6000, 6000))
    large.save(tmp_path / "large.png", compress_level=0)
    small, slow = anonymizer.reader.describe_all([astronaut, tmp_path / "large.png"])
    assert isinstance(small, Description)
    assert isinstance(slow, Description)
    assert 0 < small.seconds["decode"] < slow.seconds["decode"]


def test_a_reduced_photo_is_described_in_its_own_pixels(
    anonymizer: Anonymizer, astronaut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(astronaut).convert("RGB").resize((2048, 2048), Image.Resampling.LANCZOS).save(tmp_path / "a.jpg")
    whole = anonymizer.describe(tmp_path / "a.jpg")
    monkeypatch.setattr(decoding, "MAX_DECODED", 1024 * 1024)
    reduced = anonymizer.describe(tmp_path / "a.jpg")
    assert reduced.face is not None
    assert whole.face is not None
    np.testing.assert_allclose(reduced.face, whole.face, atol=8)
    smallest = int(min(whole.face[2:])) - 16
    assert anonymizer.using(Settings(min_face=smallest)).describe(tmp_path / "a.jpg").face == reduced.face


def test_attributes_of_a_description_are_its_own(anonymizer: Anonymizer, astronaut: Path) -> None:
    reader = anonymizer.using(Settings(attributes=PERSON)).reader
    for describe in (reader.describe_attributes, lambda: reader.describe(astronaut)):
        describe().attributes["Age"] = 80
        assert " 34 " in describe().prompt


def test_without_a_photo_there_must_be_attributes(anonymizer: Anonymizer) -> None:
    with pytest.raises(UsageError, match="neither a photo nor attributes"):
        anonymizer.reader.describe_attributes()


def test_errors_have_the_names_of_their_photos(anonymizer: Anonymizer, coffee: Path, tmp_path: Path) -> None:
    missing, no_face, unnamed = anonymizer.reader.describe_all(
        [tmp_path / "a.jpg", coffee, np.zeros((2, 2, 3), np.uint8)]
    )
    assert str(missing).startswith(f"{tmp_path / 'a.jpg'}: there is no such file")
    assert isinstance(no_face, NoFaceError)
    assert str(no_face).startswith(f"{coffee}: no face was found")
    assert str(unnamed).startswith("the given image: 2 x 2 pixels")
    (nameless,) = anonymizer.reader.describe_decoded([Decoded(np.zeros((64, 64, 3), np.uint8))])
    assert str(nameless).startswith("the photo: no face")


def test_conversions_are_told_with_the_photos_name(
    anonymizer: Anonymizer, astronaut: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.open(astronaut).convert("L").save(tmp_path / "gray.png")
    anonymizer.reader.describe(tmp_path / "gray.png")
    assert f"{tmp_path / 'gray.png'}: its L pixels were converted" in caplog.text


def measure_brightness(inputs: Mapping[str, Array], /) -> Arrays:
    return {"brightness": inputs["photo"].max(axis=(1, 2, 3))}


def decode_one_face(outputs: Arrays, height: int, width: int, threshold: float) -> tuple[Reals, Reals, Reals]:
    """Return one face in the middle of a photo, or none if the photo is black."""
    count = int(float(outputs["brightness"]) / 255 > threshold)
    corners = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])[:count]
    return corners, np.ones(count), np.zeros((count, 5, 2))


def made_up(*, intact: bool = True, **options: Any) -> FaceReader:
    """A reader whose only engine is a made-up detector."""
    engines = MadeUpEngines(face_detector=measure_brightness)
    engines.intact = intact
    return FaceReader(engines, Detector("photo", 0.5, 0.5, decode_one_face), ReadingOptions(0.5, **options))


def test_a_reader_works_with_any_engines() -> None:
    bright, dark = np.full((64, 128, 3), 255, np.uint8), np.zeros((64, 128, 3), np.uint8)
    seen, unseen = made_up(attributes=PERSON).describe_all([bright, dark])
    assert isinstance(seen, Description)
    assert seen.face == (32, 16, 64, 32)
    assert seen.prompt.startswith("closeup portrait photo of a white 34 man")
    assert isinstance(unseen, PhotoError)
    small = made_up(attributes=PERSON, min_face=33).describe_all([bright])[0]
    assert "no face in it has 33 pixels or more" in str(small)
    with pytest.raises(BundleError, match="there is no face_"):
        made_up().describe(bright)


def test_no_description_leaves_before_the_engines_are_verified() -> None:
    with pytest.raises(BundleError, match="not the ones that were built"):
        made_up(intact=False, attributes=PERSON).describe(np.full((64, 64, 3), 255, np.uint8))
