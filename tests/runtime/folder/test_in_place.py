"""Folder runs whose photos keep everything but the faces, and runs with a portrait of each face.

Each photo shows two made-up people, a large and a small one. A stub paints the faces: portraits of other people.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.casting import face_of
from anon_runtime.diffusion.generator import TokenizedRequest
from anon_runtime.errors import AnonError, GenerationError, UsageError
from anon_runtime.faces.decoding import Decoded
from anon_runtime.folder import intake
from anon_runtime.folder.discovery import PRIVATE, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import Summary, run_folder
from anon_runtime.folder.writer import Output
from anon_runtime.guard.inspector import Inspector
from anon_runtime.guard.trial import Attempt
from anon_runtime.jobs import face_seed
from anon_runtime.scene.places import find_place
from anon_runtime.types import Pixels, Portrait
from tests.conftest import pixels
from tests.runtime.runs import QUICK, QUIET, decide_about, entries, images
from tests.runtime.stand_ins import StandInEngines

PHOTOS = {"a.png": ("00.png", "09.png"), "b.png": ("18.png", "03.png")}
STRANGERS = (1, 4, 5, 7, 13, 6)  # resemble nobody in the photos
GUARDED = Settings(steps=1, guidance_scale=1, guard="strict", min_face=0)
Paint = Callable[[str, int, int], Image.Image]  # the name of a photo, the number of the face and of the attempt
Calls = list[tuple[str, int, int]]
People = Callable[[int], Image.Image]


@pytest.fixture
def groups(people: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (large, small) in PHOTOS.items():
        rng = np.random.default_rng(len(name))
        ground = Image.fromarray(rng.integers(90, 140, (300, 480, 3), np.uint8))
        ground.paste(Image.open(people / large), (40, 60))
        ground.paste(Image.open(people / small).resize((96, 96)), (320, 150))
        ground.save(folder / name)
    return folder


@pytest.fixture
def guarded(own_engines: StandInEngines) -> Anonymizer:
    return Anonymizer.of(own_engines, GUARDED)


@pytest.fixture
def other(people: Path) -> People:
    """A made-up person, in the size of what the demo paints."""
    return lambda number: Image.open(people / f"{number % 24:02}.png").convert("RGB").resize((96, 96))


def stranger(name: str, face: int, attempt: int) -> int:
    """The number of the person whom the stub paints."""
    return STRANGERS[(2 * face + (name == "b.png") + attempt) % len(STRANGERS)]


@pytest.fixture
def paints(monkeypatch: pytest.MonkeyPatch, groups: Path, other: People) -> Callable[..., Calls]:
    """Let a function paint the faces; the list of its calls is returned. Without a function, others are painted."""
    seeds = {
        Attempt(attempt, 0).seed(face_seed(identify((groups / name).read_bytes(), 0).seed, face)): (name, face, attempt)
        for name in PHOTOS
        for face in range(3)
        for attempt in range(9)
    }

    def anyone(name: str, face: int, attempt: int) -> Image.Image:
        return other(stranger(name, face, attempt))

    def install(anonymizer: Anonymizer, paint: Paint = anyone) -> Calls:
        calls: Calls = []

        def generate(requests: Sequence[TokenizedRequest], progress: object = None) -> list[Portrait]:
            known = [(seeds[one.request.seed], one.request) for one in requests]
            calls.extend(call for call, _ in known)
            return [Portrait(paint(*call), one.prompt, one.negative_prompt, one.seed) for call, one in known]

        monkeypatch.setattr(anonymizer.generator, "generate", generate)
        return calls

    return install


def run(anonymizer: Anonymizer, photos: Path, out: Path, **options: Any) -> Summary:
    keep = list(find_photos([options.pop("keep")])) if "keep" in options else []
    naming = {key: options.pop(key) for key in ("format", "rename") if key in options}
    stop = options.pop("stop", threading.Event())
    defaults: dict[str, Any] = {"batch_size": 3, "mode": "in-place"}
    chosen = RunOptions(**defaults | options)
    found, output = list(find_photos([photos])), Output.parse(out, **naming)
    return run_folder(anonymizer, found, output, chosen, QUIET, stopping=nullcontext(stop), keep=keep)


def regions(anonymizer: Anonymizer, photo: Pixels) -> Any:
    """Which pixels of a photo are replaced."""
    everything = slice(0, photo.shape[0]), slice(0, photo.shape[1])
    people = anonymizer.cast(Decoded(photo)).people
    assert len(people) == 2
    return np.any([find_place(face_of(one), (96, 96)).region(everything) for one in people], axis=0)


def test_every_face_is_replaced_and_the_rest_stays(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path
) -> None:
    paints(guarded)
    assert run(guarded, groups, tmp_path / "out").counts == {"ok": 2}
    for name in PHOTOS:
        before, after = pixels(groups / name), pixels(tmp_path / "out" / name)
        inside = regions(guarded, before)
        np.testing.assert_array_equal(after[~inside], before[~inside])
        assert (after[inside] != before[inside]).any(axis=-1).mean() > 0.95
    for line in entries(tmp_path / "out"):
        assert (line["replaced"], line["filled"], line["kept"], line["attempt"]) == (2, 0, 0, 0)
        assert -1 <= line["similarity"] <= 1
    assert not (tmp_path / "out" / PRIVATE).exists()


def test_the_journal_says_what_was_done(guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path) -> None:
    paints(guarded)
    run(guarded, groups, tmp_path / "out", log_attributes=True)
    head = json.loads((tmp_path / "out" / NAME).read_text().splitlines()[0])["run"]
    assert (head["mode"], head["keep"], head["only_box"]) == ("in-place", None, None)
    for line in entries(tmp_path / "out"):
        assert len(line["described"]) == 2
        assert all("Ethnic" in one["attributes"] and one["prompt"] for one in line["described"])


def test_an_original_that_is_painted_again_is_never_released(
    guarded: Anonymizer, groups: Path, people: Path, paints: Any, other: People, tmp_path: Path
) -> None:
    def paint(name: str, face: int, attempt: int) -> Image.Image:
        return other(int(PHOTOS[name][face][:2]) if face == 1 else stranger(name, face, attempt))

    calls = paints(guarded, paint)
    assert run(guarded, groups, tmp_path / "out", batch_size=1).counts == {"refused": 2}
    assert images(tmp_path / "out") == {}
    assert {(face, attempt) for _, face, attempt in calls if face == 1} == {(1, attempt) for attempt in range(6)}
    for line in entries(tmp_path / "out"):
        assert (line["status"], line["cause"], line["attempt"]) == ("refused", "own original", 5)


def test_one_face_is_painted_again_and_the_other_is_not(
    guarded: Anonymizer, groups: Path, paints: Any, other: People, tmp_path: Path
) -> None:
    def paint(name: str, face: int, attempt: int) -> Image.Image:
        again = face == 1 and attempt == 0
        return other(int(PHOTOS[name][1][:2]) if again else stranger(name, face, attempt))

    calls = paints(guarded, paint)
    assert run(guarded, groups, tmp_path / "out").counts == {"ok": 2}
    assert sorted(set(calls)) == [(name, *rest) for name in PHOTOS for rest in ((0, 0), (1, 0), (1, 1))]
    assert {(line["attempt"], line["coarsening"]) for line in entries(tmp_path / "out")} == {(1, 1)}


@pytest.mark.parametrize("guard", ["strict", "off"])
def test_a_later_run_finds_what_is_done(
    own_engines: StandInEngines, groups: Path, paints: Any, tmp_path: Path, guard: Any
) -> None:
    anonymizer = Anonymizer.of(own_engines, Settings(steps=1, guidance_scale=1, guard=guard))
    calls, out = paints(anonymizer), tmp_path / "out"
    run(anonymizer, groups, out)
    before = images(out)
    calls.clear()
    assert run(anonymizer, groups, out).counts == {"done": 2}
    (out / "a.png").unlink()
    assert run(anonymizer, groups, out).counts == {"ok": 1, "done": 1}
    assert {name for name, _, _ in calls} == {"a.png"}
    assert images(out) == before


def test_a_picture_that_does_not_pass_any_more_is_painted_again(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path
) -> None:
    """A face of the photo is in the picture, as if the run before had left it there."""
    calls, out = paints(guarded), tmp_path / "out"
    run(guarded, groups, out)
    lines = (out / NAME).read_text()
    old = hashlib.sha256((out / "a.png").read_bytes()).hexdigest()
    (out / "a.png").write_bytes((groups / "a.png").read_bytes())
    new = hashlib.sha256((out / "a.png").read_bytes()).hexdigest()
    (out / NAME).write_text(lines.replace(old, new))
    calls.clear()
    assert run(guarded, groups, out).counts == {"ok": 1, "done": 1}
    assert {name for name, _, _ in calls} == {"a.png"}
    assert hashlib.sha256((out / "a.png").read_bytes()).hexdigest() == old


def test_the_finished_picture_is_looked_at(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face that is found only at the end would stay: nothing is written."""
    paints(guarded)
    cast = guarded.cast
    monkeypatch.setattr(guarded, "cast", lambda *arguments: _without_the_last(cast(*arguments)))
    assert run(guarded, groups, tmp_path / "out").counts == {"refused": 2}
    assert images(tmp_path / "out") == {}
    assert {line["cause"] for line in entries(tmp_path / "out")} == {"face left"}


def _without_the_last(cast: Any) -> Any:
    return type(cast)(cast.people[:1])


@pytest.mark.parametrize("stage", ["generate", "look", "see", "open", "write"])
def test_whatever_fails_nothing_of_the_photo_is_written(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    paints(guarded)
    error: Exception = GenerationError("an engine", "it is broken", "mend it")
    if stage == "open":
        error = MemoryError()

    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    match stage:
        case "generate":
            monkeypatch.setattr(guarded.generator, "generate", fail)
        case "look" | "see":
            monkeypatch.setattr(guarded.inspector, stage, fail)
        case "open":
            monkeypatch.setattr(intake, "read_metadata", fail)
        case "write":
            monkeypatch.setattr(Output, "write", fail)
    try:
        assert run(guarded, groups, tmp_path / "out").counts == {"error": 2}
    except AnonError:
        assert stage == "write"
    assert images(tmp_path / "out") == {}


def test_a_photo_that_changes_during_the_run_fails(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its faces may be in other places now."""
    paints(guarded)
    gather = Inspector.gather

    def change(*arguments: Any) -> Any:
        Image.open(groups / "b.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(groups / "a.png")
        return gather(*arguments)

    monkeypatch.setattr(Inspector, "gather", change)
    assert run(guarded, groups, tmp_path / "out").counts == {"error": 1, "ok": 1}
    assert list(images(tmp_path / "out")) == ["b.png"]
    (reason,) = [line["reason"] for line in entries(tmp_path / "out") if line["status"] == "error"]
    assert "changed since" in reason


def test_people_who_agreed_are_kept_and_withdrawing_is_noticed(
    guarded: Anonymizer, groups: Path, people: Path, paints: Any, tmp_path: Path
) -> None:
    agreed, out = tmp_path / "agreed", tmp_path / "out"
    agreed.mkdir()
    for number in (0, 18):
        (agreed / f"{number:02}.png").write_bytes((people / f"{number:02}.png").read_bytes())
    calls = paints(guarded)
    assert run(guarded, groups, out, keep=agreed).counts == {"ok": 2}
    assert {(line["replaced"], line["kept"]) for line in entries(out)} == {(1, 1)}
    for name in PHOTOS:
        before, after = pixels(groups / name), pixels(out / name)
        np.testing.assert_array_equal(after[60:252, 40:232], before[60:252, 40:232])
        assert (after[170:220, 340:380] != before[170:220, 340:380]).mean() > 0.9
    assert len(set(calls)) == 2
    assert run(guarded, groups, out, keep=agreed).counts == {"done": 2}
    (agreed / "18.png").unlink()
    with pytest.raises(UsageError, match="keep"):
        run(guarded, groups, out, keep=agreed)
    assert b"18.png" not in (out / NAME).read_bytes()


@pytest.mark.parametrize(("mode", "word"), [("portrait", "replaced in place"), ("faces", "replaced in place")])
def test_nobody_is_kept_in_portraits(
    guarded: Anonymizer, groups: Path, people: Path, tmp_path: Path, mode: Any, word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        run(guarded, groups, tmp_path / "out", keep=people, mode=mode)
    with pytest.raises(UsageError, match=word):
        RunOptions(mode=mode, boxes=((0, 0, 5, 5),))
    with pytest.raises(UsageError, match="has none"):
        RunOptions(mode=mode, keep_metadata=("icc",))


def test_a_photo_of_people_who_agreed_has_to_be_read(guarded: Anonymizer, groups: Path, tmp_path: Path) -> None:
    (tmp_path / "agreed").mkdir()
    (tmp_path / "agreed" / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="cannot be read"):
        run(guarded, groups, tmp_path / "out", keep=tmp_path / "agreed")
    assert not (tmp_path / "out").exists()


def test_only_given_boxes_are_replaced(guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path) -> None:
    paints(guarded)
    (groups / "b.png").unlink()
    assert run(guarded, groups, tmp_path / "out", boxes=[(330, 160, 76, 80), (440, 10, 20, 20)]).counts == {"ok": 1}
    before, after = pixels(groups / "a.png"), pixels(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(after[60:252, 40:232], before[60:252, 40:232])
    assert (after[170:220, 340:380] != before[170:220, 340:380]).mean() > 0.9
    assert (after[12:28, 442:458] != before[12:28, 442:458]).mean() > 0.9
    (line,) = entries(tmp_path / "out")
    assert (line["replaced"], line["filled"], line["kept"]) == (1, 1, 1)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, float("nan"), 5), (0, 0, 1e9, 5)])
def test_a_box_lies_in_a_photo(box: Any) -> None:
    with pytest.raises(UsageError, match="no box inside"):
        RunOptions(mode="in-place", boxes=(box,))


def test_metadata_stays_if_it_is_named(own_engines: StandInEngines, groups: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274], exif[306], exif[271] = 6, "2026:01:02 03:04:05", "the maker"
    Image.open(groups / "a.png").transpose(Image.Transpose.ROTATE_90).save(groups / "a.png", exif=exif)
    height, width = pixels(groups / "b.png").shape[:2]
    anonymizer = Anonymizer.of(own_engines, QUICK)
    run(anonymizer, groups, tmp_path / "all", keep_metadata=["orientation", "datetime"])
    run(anonymizer, groups, tmp_path / "none")
    found = []
    for name in ("all", "none"):
        with Image.open(tmp_path / name / "a.png") as image:
            found.append((dict(image.getexif()), image.size))
    assert found == [({274: 6, 306: "2026:01:02 03:04:05"}, (height, width)), ({}, (width, height))]


def test_a_jpeg_is_encoded_once(guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path) -> None:
    paints(guarded)
    assert run(guarded, groups, tmp_path / "out", format="jpeg").counts == {"ok": 2}
    before, after = pixels(groups / "a.png"), pixels(tmp_path / "out" / "a.jpg")
    outside = ~regions(guarded, before)
    assert np.abs(after[outside].astype(int) - before[outside]).mean() < 12


def test_photos_in_which_nothing_is_painted_are_released_too(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path
) -> None:
    """All faces are smaller than `min_face`, and are filled."""
    filling = guarded.using(replace(GUARDED, min_face=290))
    calls = paints(filling)
    assert run(filling, groups, tmp_path / "out").counts == {"ok": 2}
    assert {(line["replaced"], line["filled"]) for line in entries(tmp_path / "out")} == {(0, 2)}
    assert run(filling, groups, tmp_path / "out").counts == {"done": 2}
    assert not calls


def test_each_face_gets_a_portrait(
    guarded: Anonymizer, groups: Path, paints: Any, other: People, tmp_path: Path
) -> None:
    calls, out = paints(guarded), tmp_path / "out"
    assert run(guarded, groups, out, mode="faces").counts == {"ok": 4}
    assert sorted(images(out)) == ["a-1.png", "a-2.png", "b-1.png", "b-2.png"]
    lines = entries(out)
    assert sorted((line["input"], line["face"]) for line in lines) == [(n, f) for n in PHOTOS for f in (1, 2)]
    assert len({line["id"] for line in lines}) == 4
    np.testing.assert_array_equal(pixels(out / "a-2.png"), np.asarray(other(stranger("a.png", 1, 0))))
    calls.clear()
    assert run(guarded, groups, out, mode="faces").counts == {"done": 4}
    decide_about(out, "a-2.png", "refuse")
    assert run(guarded, groups, out, mode="faces").counts == {"done": 3, "refused": 1}
    assert sorted(images(out)) == ["a-1.png", "b-1.png", "b-2.png"]
    assert not calls


def test_without_a_guard_each_face_gets_a_portrait_too(
    own_engines: StandInEngines, groups: Path, paints: Any, tmp_path: Path
) -> None:
    anonymizer = Anonymizer.of(own_engines, Settings(steps=1, guidance_scale=1, guard="off"))
    paints(anonymizer)
    assert run(anonymizer, groups, tmp_path / "out", mode="faces").counts == {"ok": 4}
    assert run(anonymizer, groups, tmp_path / "out", mode="faces").counts == {"done": 4}
    (tmp_path / "out" / "a-2.png").unlink()
    assert run(anonymizer, groups, tmp_path / "out", mode="faces").counts == {"ok": 1, "done": 3}


def test_a_photo_without_a_face_gives_no_picture(
    guarded: Anonymizer, groups: Path, coffee: Path, paints: Any, tmp_path: Path
) -> None:
    paints(guarded)
    for name in PHOTOS:
        (groups / name).write_bytes(coffee.read_bytes())
    for mode in ("in-place", "faces"):
        assert run(guarded, groups, tmp_path / mode, mode=mode).counts == {"error": 2}
        assert images(tmp_path / mode) == {}


def test_a_decision_about_a_picture_holds_in_later_runs(
    guarded: Anonymizer, groups: Path, paints: Any, tmp_path: Path
) -> None:
    calls, out = paints(guarded), tmp_path / "out"
    run(guarded, groups, out)
    first = images(out)["a.png"]
    decide_about(out, "a.png", "repaint")
    calls.clear()
    assert run(guarded, groups, out).counts == {"ok": 1, "done": 1}
    assert sorted(set(calls)) == [("a.png", 0, 1), ("a.png", 1, 1)]
    assert images(out)["a.png"] != first
    decide_about(out, "b.png", "refuse")
    assert run(guarded, groups, out).counts == {"done": 1, "refused": 1}
    assert list(images(out)) == ["a.png"]
