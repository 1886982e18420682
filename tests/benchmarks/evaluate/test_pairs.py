"""Pairing, also with folders that ``anon-run`` wrote."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_runtime.cli import main
from anon_runtime.errors import UsageError
from anon_runtime.folder.journal_file import NAME
from anon_runtime.guard.trial import FIRST, Attempt
from benchmarks.evaluate.pairs import SIDE, ImageFile, Method, find_images, pair
from benchmarks.evaluate.runs import Run


def save(path: Path, colour: int, side: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (colour, 0, 0)).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three originals, one of them in a subfolder, and anonymized images of two, with other extensions."""
    for i, name in enumerate(("a.jpg", "b.png", "inner/a.png")):
        save(tmp_path / "originals" / name, 40 * i)
    for i, name in enumerate(("a.png", "inner/a.webp", "unknown.png")):
        save(tmp_path / "made" / name, 200 + i)
    return tmp_path / "originals", tmp_path / "made"


def test_by_name_without_the_extension(folders: tuple[Path, Path]) -> None:
    originals, _ = find_images(folders[0])
    assert [image.name for image in originals] == ["a", "b", "inner/a"]
    method = pair("m", originals, folders[1])
    assert {i: image.path.name for i, image in method.pairs.items()} == {0: "a.png", 2: "a.webp"}
    assert method.missing == {"b": "there is no image of it"}
    assert method.extra == 1
    assert method.reasons == {"there is no image of it": 1}
    assert method.run is None


def test_an_image_that_cannot_be_read_is_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "b.png").write_bytes(b"not an image")
    (folders[0] / "c.png").write_bytes(b"neither")
    originals, broken = find_images(folders[0])
    assert len(originals) == 3
    assert list(broken) == ["c"]
    method = pair("m", originals, folders[1])
    assert "cannot be read" in method.missing["b"]
    assert 1 not in method.pairs


def test_two_images_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    save(folders[1] / "a.jpg", 9)
    with pytest.raises(UsageError, match="have the same name"):
        pair("m", find_images(folders[0])[0], folders[1])


def test_folders_that_have_nothing_in_common_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    save(tmp_path / "other" / "z.png", 1)
    with pytest.raises(UsageError, match="belongs to an original"):
        pair("m", find_images(folders[0])[0], tmp_path / "other")
    with pytest.raises(UsageError, match="no such folder"):
        find_images(tmp_path / "nowhere")


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    Image.new("RGB", (2 * SIDE, SIDE)).save(tmp_path / "large.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    large, small = find_images(tmp_path)[0]
    assert large.pixels().shape == (SIDE // 2, SIDE, 3)
    assert small.pixels().shape == (20, 30, 3)
    assert large.digest != small.digest
    assert len(large.digest) == 32


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(str(caught.value.code))


@pytest.mark.parametrize("naming", [["--rename", "hash"], ["--suffix", "_anon"]])
def test_by_the_journal_of_a_run(
    tmp_path: Path, demo_bundle: Path, astronaut: Path, coffee: Path, naming: list[str]
) -> None:
    """Pseudonyms are matched by the content of photos; a photo without a face has a reason."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    shutil.copy(astronaut, photos / "astronaut.png")
    with Image.open(astronaut) as image:
        image.crop((64, 0, 448, 384)).save(photos / "cut.png")
    shutil.copy(coffee, photos / "coffee.png")
    quick = ["--steps", "1", "--guidance-scale", "1", "--seed", "7", "--quiet", "--engines", str(demo_bundle)]
    quick += ["--guard", "off", "--ignore", "Bald,Smiling"]  # one step gives no face, which the guard would refuse
    assert run([str(photos), "-o", str(out), *naming, *quick]) == 3
    originals, _ = find_images(photos)
    if naming[0] == "--rename":
        with pytest.raises(UsageError, match=r"hides the names of photos.*--seed-file"):
            pair("ours", originals, out)
    method = pair("ours", originals, out, 7)
    assert method.run is not None
    assert method.run.facts["ignore"] == ["Bald", "Smiling"]
    assert {originals[i].name for i in method.pairs} == {"astronaut", "cut"}
    assert method.extra == 0
    assert "no face was found" in method.missing["coffee"]
    journal = (out / NAME).read_text().splitlines()
    by_output = {line["output"]: line["seed"] for line in map(json.loads, journal[1:]) if line.get("status") == "ok"}
    assert len({by_output[image.path.name] for image in method.pairs.values()}) == 2
    if naming[0] == "--rename":  # the pair follows the photo's content, not its name
        first, _, last = originals
        swapped = [ImageFile(first.name, last.path), originals[1], ImageFile(last.name, first.path)]
        again = pair("ours", swapped, out, 7)
        assert again.pairs[0].path == method.pairs[2].path
        assert again.pairs[2].path == method.pairs[0].path


def test_an_incomplete_last_line_is_ignored(folders: tuple[Path, Path]) -> None:
    lines = [{"run": {}}, {"id": "1", "status": "ok", "input": "a.jpg", "output": "unknown.png"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folders[1] / NAME).write_text(text + '{"id": "2", "status": "ok", "inp')
    method = pair("m", find_images(folders[0])[0], folders[1])
    assert method.pairs[0].path.name == "unknown.png"
    assert len(method.pairs) == 1
    assert method.extra == 2


def test_a_reviewed_run_and_the_seed_of_another_run(folders: tuple[Path, Path]) -> None:
    """A decision is no photo; a photo whose pseudonym is unknown is found by its name."""
    portrait = {"id": "1", "status": "ok", "input": "a.jpg", "output": "a.png", "attempt": 2, "coarsening": 1}
    header = {"run": {"steps": 15}, "secret": {"salt": "00"}}
    other = {"id": "2", "status": "ok", "input": "inner/a.png", "output": "inner/a.webp"}
    lines = [header, portrait, {"decision": {"verdict": "accept", "id": "1"}}, other]
    (folders[1] / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for seed in (None, 8):
        method = pair("m", find_images(folders[0])[0], folders[1], seed)
        assert {i: image.path.name for i, image in method.pairs.items()} == {0: "a.png", 2: "a.webp"}
        assert method.run is not None
        assert method.run.facts == {"steps": 15}
        assert method.run.attempts == {"a": Attempt(2, 1), "inner/a": FIRST}
        assert (method.run.mark, method.run.given) == ({"salt": "00"}, seed)
    (folders[1] / NAME).unlink()
    assert pair("m", find_images(folders[0])[0], folders[1]).run is None


@pytest.mark.parametrize("text", ["[]\n", "{}\n", "no json\n", '{"run": {}}\n{"status": "ok"}\n'])
def test_another_file_in_place_of_a_journal_is_refused(folders: tuple[Path, Path], text: str) -> None:
    (folders[1] / NAME).write_text(text)
    with pytest.raises(UsageError, match="not a journal"):
        pair("m", find_images(folders[0])[0], folders[1])


def test_pixels_are_upright(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert find_images(tmp_path)[0][0].pixels().shape == (30, 20, 3)


def test_a_run_tells_what_its_words_left_out() -> None:
    images = {4: ImageFile("a", Path("a.png")), 1: ImageFile("b", Path("b.png")), 2: ImageFile("c", Path("c.png"))}
    run = Run({"ignore": ["Bangs"]}, {}, {"b": Attempt(3, 2), "a": Attempt(1, 1)})
    assert (Method("ours", images, run=run).ignored, Method("ours", images, run=run).coarsening) == (
        ("Bangs",),
        [1, 2, 0],
    )
    assert (Method("other", images).ignored, Method("other", images).coarsening) == ((), [0, 0, 0])
