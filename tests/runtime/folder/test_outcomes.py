"""The outcomes of photos, above all if a file has the name of a portrait already."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.commands import run_photos
from anon_runtime.errors import PhotoError
from anon_runtime.folder.discovery import Photo, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.outcomes import Outcomes
from anon_runtime.folder.writer import Output
from anon_runtime.types import Portrait
from tests.runtime.runs import QUICK, QUIET, SECRET, entries, images, run, without_a_face


def test_what_no_run_wrote_is_not_replaced(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """Such a file may be a photo in another format beside the photo of this run."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "1.png").write_bytes(b"precious")
    (out / "2.png").write_bytes(b"precious")
    without_a_face(photos / "2.jpg")
    assert run(quick, photos, out) == 3
    assert (out / "1.png").read_bytes() == (out / "2.png").read_bytes() == b"precious"
    failed = {entry["input"]: entry["reason"] for entry in entries(out) if entry["status"] == "error"}
    assert set(failed) == {"1.jpg", "2.jpg"}
    assert "a file that no run wrote" in failed["1.jpg"]
    assert "no face" in failed["2.jpg"]
    assert "stays" in failed["2.jpg"]
    assert run(quick, photos, out, overwrite=True) == 3
    assert images(out)["1.png"] == undisturbed["1.png"]
    assert (out / "2.png").read_bytes() == b"precious", "no portrait can replace it"


def test_a_portrait_without_its_line_is_known_by_its_bytes(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """A run was killed after it wrote the portrait and before it wrote the line."""
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    lines = (out / NAME).read_text().splitlines(keepends=True)
    (out / NAME).write_text("".join(lines[:5]))
    assert run(quick, photos, out) == 0
    assert images(out) == undisturbed
    assert len(entries(out)) == 14


def test_two_photos_of_one_name_in_two_runs(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert run(quick, photos, out) == 0
    other.mkdir()
    (other / "2.jpg").write_bytes((photos / "1.jpg").read_bytes())
    without_a_face(other / "1.jpg")
    assert run(quick, other, out) == 3
    assert images(out) == undisturbed, "they are neither replaced nor removed"
    failed = {entry["input"]: entry["reason"] for entry in entries(out) if entry["status"] == "error"}
    assert all("the portrait of another photo of that name" in reason for reason in failed.values())
    assert len(failed) == 2
    photos.rename(tmp_path / "moved")
    assert run(quick, tmp_path / "moved", out) == 0
    assert len(entries(out)) == 16, "photos that were moved are known by their content"
    assert run(quick, other, out, overwrite=True) == 3
    assert images(out)["2.png"] == undisturbed["1.png"]
    assert "1.png" not in images(out)


def test_a_file_where_a_folder_should_be_is_the_fault_of_some_photos(
    quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_bytes(b"precious")
    assert run(quick, photos, tmp_path / "out") == 3
    assert len(images(tmp_path / "out")) == 10
    assert (tmp_path / "out" / "deep").read_bytes() == b"precious"


@pytest.mark.parametrize("no_face", ["error", "skip"])
@pytest.mark.parametrize("rename", ["none", "hash"])
def test_a_photo_that_lost_its_face_loses_its_portrait(
    quick: Anonymizer, photos: Path, tmp_path: Path, no_face: str, rename: str
) -> None:
    out, options = tmp_path / "out", {"no_face": no_face, "seed": SECRET, "rename": rename}
    assert run(quick, photos, out, **options) == 0
    assert len(images(out)) == 14
    without_a_face(photos / "1.jpg")
    (photos / "2.jpg").write_bytes(b"broken")
    run(quick, photos, out, **options)
    if rename == "none":
        assert len(images(out)) == 12
        assert not {"1.png", "2.png"} & set(images(out))
    run(quick.using(replace(QUICK, min_face=5000)), photos, out, overwrite=True, **options)
    done = {entry["output"] for entry in entries(out) if entry["status"] == "ok"}
    assert not done
    assert len(images(out)) == {"none": 0, "hash": 2}[rename], "portraits of photos that are missing stay"


def test_a_photo_that_cannot_be_read_keeps_its_portrait(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """If a disk fails during a run, the portraits of its photos must stay."""
    out, found = tmp_path / "out", list(find_photos([photos], recursive=True))
    assert run(quick, photos, out) == 0
    shutil.rmtree(photos)
    assert run_photos(quick, found, Output.parse(out), RunOptions(batch_size=4), QUIET) == 3
    assert images(out) == undisturbed
    failures = [entry for entry in entries(out) if entry["status"] == "error"]
    assert len(failures) == 14
    assert all("the file under its portrait's name stays" in entry["reason"] for entry in failures)


def test_done_means_that_the_output_is_this_photos_portrait(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    first, second = ((photos / name).read_bytes() for name in ("1.jpg", "2.jpg"))
    assert run(quick, photos, out) == 0
    (photos / "1.jpg").write_bytes(second)
    assert run(quick, photos, out) == 0
    assert images(out)["1.png"] == undisturbed["2.png"]
    (photos / "1.jpg").write_bytes(first)
    assert run(quick, photos, out) == 0
    assert images(out) == undisturbed
    (out / "1.png").write_bytes((out / "2.png").read_bytes())
    assert run(quick, photos, out) == 0
    assert images(out) == undisturbed, "a file that was changed is generated again"


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_hidden_names(quick: Anonymizer, photos: Path, tmp_path: Path, format: str) -> None:
    out, options = tmp_path / "out", {"rename": "hash", "format": format, "seed": SECRET}
    photo = next(photos.glob("*.jpg"))
    photo.rename(photos / "john_smith.jpg")
    (photos / "jane_doe.jpg").write_bytes(b"broken")
    assert run(quick, photos, out, **options) == 3
    names = list(images(out))
    assert len(names) == 14
    assert all("/" not in name and len(name) >= 36 for name in names)
    assert {entry.get("output") for entry in entries(out)} == {*names, None}
    journal = (out / NAME).read_text()
    for word in ("john", "jane", "deep", '.jpg"' if format == "webp" else "photos", str(SECRET)):
        assert word not in journal
    assert run(quick, photos, out, **options) == 3
    assert len(entries(out)) == 16, "only the photos that failed are tried again"


def test_attributes_are_logged_only_if_asked_for(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path / "without")
    run(quick, photos, tmp_path / "with", log_attributes=True)
    assert "Ethnic" not in (tmp_path / "without" / NAME).read_text()
    assert all(entry["attributes"]["Ethnic"] for entry in entries(tmp_path / "with"))


def test_a_failed_copy_does_not_remove_the_portrait_of_an_identical_photo(tmp_path: Path) -> None:
    """Two identical photos have the same pseudonym, and one of them may fail for another reason."""
    identity, output, options = identify(b"photo", SECRET), Output(tmp_path, rename="hash"), RunOptions(seed=SECRET)
    portrait = Portrait(Image.new("RGB", (8, 8)), "a", "", identity.seed)
    with Journal(tmp_path, {}, b"") as journal:
        outcomes = Outcomes(output, options, journal)
        first, copy = (Photo(Path(name), Path(name)) for name in ("1.jpg", "copy.jpg"))
        name, digest = outcomes.write(first, identity, portrait.image)
        assert outcomes.succeed(first, identity, portrait, name, digest, {"write": 0.1}).status == "ok"
        record = outcomes.fail(copy, identity, PhotoError("out of luck", "try again"))
    assert (tmp_path / name).exists()
    assert record.reason == "copy.jpg: out of luck; try again; the file under its portrait's name stays"


def test_without_its_content_a_photo_has_no_pseudonym_and_nothing_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path, {}, b"") as journal:
        outcomes = Outcomes(Output(tmp_path, rename="hash"), RunOptions(seed=SECRET), journal)
        record = outcomes.fail(Photo(Path("1.jpg"), Path("1.jpg")), None, PhotoError("gone", "check the path"))
    assert (record.status, record.seed, record.reason) == ("error", None, "1.jpg: gone; check the path")
    assert [entry["reason"] for entry in entries(tmp_path)] == ["gone; check the path"]
