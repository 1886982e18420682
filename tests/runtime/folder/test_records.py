import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from anon_runtime.folder.records import Person, Record
from anon_runtime.types import Attributes, Description, Portrait, Retouched

PERSON: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}
DESCRIPTION = Description("a man", "hat", PERSON, (1, 2, 3, 4), {"detect": 0.25})


def test_the_record_of_a_portrait_has_the_time_of_all_stages() -> None:
    portrait = Portrait(Image.new("RGB", (8, 8)), "a man", "hat", 7, seconds={"unet": 1.0}).of(DESCRIPTION)
    record = Record.of(portrait, "photo.jpg", Path("out/photo.png"), {"write": 0.5})
    assert record.seconds == {"detect": 0.25, "unet": 1.0, "write": 0.5, "total": 1.75}
    plain = json.loads(json.dumps(record.to_dict()))
    assert (plain["input"], plain["output"], plain["status"], plain["seed"]) == ("photo.jpg", "out/photo.png", "ok", 7)
    assert (plain["attributes"], plain["face"]) == (PERSON, [1, 2, 3, 4])


def test_seconds_are_rounded_to_milliseconds() -> None:
    record = Record("photo.jpg", None, "ok", None, 7, seconds={"detect": 0.12345, "total": 0.0004})
    assert record.to_dict()["seconds"] == {"detect": 0.123, "total": 0.0}


def test_the_record_of_a_description_has_no_output() -> None:
    record = Record.described(DESCRIPTION, "photo.jpg", 7)
    assert (record.output, record.status, record.seconds["total"]) == (None, "ok", 0.25)
    assert Record.described(Description("a man", "hat", PERSON), None, 7).seconds == {}


def test_the_record_of_a_photo_with_other_faces_has_the_worst_of_its_people() -> None:
    image = Image.new("RGB", (8, 8))
    first = replace(Portrait(image, "a man", "hat", 7, attempt=2, similarity=0.1).of(DESCRIPTION), seconds={})
    second = Portrait(image, "a woman", "", 8, coarsening=1, similarity=0.4)
    retouched = Retouched(image, (first, second), ((1, 1, 2, 2),), (), {"unet": 1.0})
    record = Record.retouched(retouched, "photo.jpg", Path("out/photo.png"), 7, {"write": 0.5})
    assert (record.attempt, record.coarsening, record.similarity) == (2, 1, 0.4)
    assert (record.prompt, record.attributes, record.seconds["total"]) == (None, None, 1.5)
    plain = json.loads(json.dumps(record.to_dict()))
    assert [one["prompt"] for one in plain["people"]] == ["a man", "a woman"]
    assert (plain["filled"], plain["kept"]) == ([[1, 1, 2, 2]], [])
    assert [one.attributes for one in record.everybody] == [PERSON, None]


def test_a_portrait_and_a_photo_describe_their_people_alike() -> None:
    portrait = Portrait(Image.new("RGB", (8, 8)), "a man", "hat", 7, attempt=1, similarity=0.25).of(DESCRIPTION)
    (person,) = Record.of(portrait, "photo.jpg", Path("photo.png"), {}).everybody
    assert person == Person.of(portrait)
    assert Record("photo.jpg", None, "error", "no", 7).everybody == ()
