"""Runs over many photos: nothing lost, nothing done twice, nothing leaked, whatever breaks."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.base import physical_cores
from anon_runtime.commands import describe_photos, run_photos
from anon_runtime.console import Reporter
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.diffusion.generator import TokenizedRequest
from anon_runtime.errors import AnonError, BackendError, BundleError, GenerationError, OutputError, UsageError
from anon_runtime.faces.decoding import decode_photo
from anon_runtime.folder import pipeline
from anon_runtime.folder.discovery import PRIVATE, find_photos
from anon_runtime.folder.journal import NAME, Journal
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.pipeline import MAX_ENGINE_FAILURES, FolderRun
from anon_runtime.folder.run import describe_run
from anon_runtime.folder.writer import Output
from anon_runtime.types import Array, Arrays, Attributes, Engine, Portrait
from tests.conftest import edit_manifest, pixels
from tests.runtime.faces.test_decoding import bomb, jpeg, jpeg_header, webp_header
from tests.runtime.stand_ins import StandInEngines

QUICK = Settings(steps=1, guidance_scale=1)
QUIET = Reporter(as_json=False, quiet=True, flags={})
SECRET = 9_876_543_210_123


class Remembering:
    """An engine that repeats its answer to inputs that it had before."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._answers = engine, dict[Any, Arrays]()

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        key = tuple(
            (name, a.shape, hashlib.sha256(np.ascontiguousarray(a).tobytes()).digest()) for name, a in inputs.items()
        )
        if key not in self._answers:
            self._answers[key] = self._engine(inputs)
        return {name: array.copy() for name, array in self._answers[key].items()}


@pytest.fixture(scope="session")
def engines(anonymizer: Anonymizer) -> dict[str, Engine]:
    """By role. Most of the time of these tests would be networks at work on the same photos."""
    engines, bundle = anonymizer.engines, anonymizer.engines.bundle
    by_path = {bundle.engine_path(role): Remembering(engines[role]) for role in bundle.manifest.engines}
    return {role: by_path[bundle.engine_path(role)] for role in bundle.manifest.engines}


@pytest.fixture
def own_engines(anonymizer: Anonymizer, engines: dict[str, Engine]) -> StandInEngines:
    """Engines that a test may break."""
    return StandInEngines(anonymizer.engines.bundle, engines)


@pytest.fixture
def quick(own_engines: StandInEngines) -> Anonymizer:
    """One step without guidance."""
    return Anonymizer.of(own_engines, QUICK)


@pytest.fixture
def photos(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals, tmp_path / "photos"))


def run(anonymizer: Anonymizer, photos: Path, out: Path, **options: Any) -> int:
    naming = {key: options.pop(key) for key in ("format", "suffix", "rename") if key in options}
    found = list(find_photos([photos], recursive=True, avoid=out))
    output = Output.parse(out, **naming)
    output.check(found)
    return run_photos(anonymizer, found, output, RunOptions(**{"batch_size": 4} | options), QUIET)


def images(out: Path) -> dict[str, str]:
    """Digests of all portraits by name."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != NAME]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def entries(out: Path) -> list[dict[str, Any]]:
    """Of the journal, since it was last begun anew."""
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    begun = max(number for number, line in enumerate(lines) if "run" in line)
    return lines[begun + 1 :]


@pytest.fixture(scope="session")
def undisturbed(anonymizer: Anonymizer, originals: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert run(anonymizer.using(QUICK), originals, out) == 0
    return images(out)


def test_a_folder(quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    expected = {str(p.relative_to(photos).with_suffix(".png")) for p in photos.rglob("*.jpg")}
    assert len(expected) == 14
    assert set(undisturbed) == expected, "the tree is mirrored"
    assert len(set(undisturbed.values())) == 14, "every photo has a seed of its own"
    assert images(out) == undisturbed
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 14}
    assert not (out / PRIVATE).exists()
    for entry in entries(out):
        assert set(entry) == {"id", "status", "input", "output", "sha256", "source", "seed", "seconds"}, "no attributes"
        assert entry["sha256"] == undisturbed[entry["output"]]


def test_order_batch_and_split_change_no_byte(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    found = list(find_photos([photos], recursive=True))
    random.Random(1).shuffle(found)
    output = Output.parse(tmp_path / "out")
    for size, part in ((2, found[:3]), (3, found[3:4]), (5, found[4:])):
        assert run_photos(quick, part, output, RunOptions(batch_size=size), QUIET) == 0
    assert images(tmp_path / "out") == undisturbed


def test_batches_of_one_are_told_apart(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    with pytest.raises(UsageError, match="batched was True and is False"):
        run(quick, photos, out, batch_size=1)
    assert run(quick, photos, tmp_path / "single", batch_size=1) == 0
    for name in undisturbed:
        a, b = (pixels(folder / name).astype(int) for folder in (out, tmp_path / "single"))
        assert np.abs(a - b).max() <= 1


def test_the_same_photo_under_another_name_gives_the_same_portrait(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    shutil.copy(photos / "1.jpg", photos / "copy.jpeg")
    run(quick, photos, tmp_path / "out")
    assert images(tmp_path / "out")["copy.png"] == undisturbed["1.png"]


def test_what_is_done_is_not_done_again(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    (out / "deep" / "0.png").unlink()
    Image.new("RGB", (64, 64)).save(photos / "1.jpg")  # another photo now
    generated: list[str] = []
    generate = quick.generator.generate

    def note(requests: Sequence[TokenizedRequest], **options: Any) -> list[Portrait]:
        generated.extend(tokenized.request.prompt for tokenized in requests)
        return generate(requests, **options)

    monkeypatch.setattr(quick.generator, "generate", note)
    assert run(quick, photos, out) == 3
    assert len(set(generated)) == 1, "the one whose portrait was gone"
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 15, "error": 1}
    assert images(out) == {name: digest for name, digest in undisturbed.items() if name != "1.png"}
    assert run(quick, photos, out, overwrite=True) == 3
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 13, "error": 1}


def test_other_settings_are_told_and_change_nothing(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path / "out")
    before = images(tmp_path)
    with pytest.raises(UsageError, match="the seed or `attributes` are others"):
        run(quick, photos, tmp_path / "out", seed=1)
    with pytest.raises(UsageError, match="format was png and is webp"):
        run(quick, photos, tmp_path / "out", format="webp", batch_size=2)
    assert images(tmp_path) == before


def test_other_settings_are_fine_where_there_is_no_image(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """A run that cannot work leaves nothing that would stop the next one."""
    out, level = tmp_path / "out", next(level for level in FAST_LEVELS if level.cache_interval > 1)
    with pytest.raises(BundleError, match="no unet_cached engine"):
        run(quick.using(replace(QUICK, acceleration=level, steps=3)), photos, out)
    assert not out.exists()
    assert run(quick.using(replace(QUICK, min_face=5000)), photos, out) == 3
    assert images(out) == {}
    assert run(quick, photos, out) == 0


def test_a_bundle_without_face_engines_is_told_before_anything_is_made(
    own_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    manifest = json.loads((own_bundle / "bundle.json").read_text())
    edit_manifest(own_bundle, engines={k: v for k, v in manifest["engines"].items() if not k.startswith("face")})
    with pytest.raises(BundleError, match="no face_detector engine"):
        run(Anonymizer.load(own_bundle, QUICK, checksum=False), photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_told_before_anything_is_made(
    demo_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("there is one")
    with pytest.raises(BackendError, match="CUDAExecutionProvider"):
        run(Anonymizer.load(demo_bundle, QUICK, checksum=False, device="cuda"), photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_no_run_wrote_is_not_replaced(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """A photo of another format beside the photo of this run, for instance."""
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
    assert (out / "2.png").read_bytes() == b"precious", "there is nothing to put in its place"


def test_a_portrait_without_its_line_is_known_by_its_bytes(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """The run was killed between the two."""
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
    assert images(out) == undisturbed, "neither replaced nor removed"
    failed = {entry["input"]: entry["reason"] for entry in entries(out) if entry["status"] == "error"}
    assert all("the portrait of another photo of that name" in reason for reason in failed.values())
    assert len(failed) == 2
    photos.rename(tmp_path / "moved")
    assert run(quick, tmp_path / "moved", out) == 0
    assert len(entries(out)) == 16, "photos that were moved are known by their content"
    assert run(quick, other, out, overwrite=True) == 3
    assert images(out)["2.png"] == undisturbed["1.png"]
    assert "1.png" not in images(out)


def test_the_order_of_hidden_names_is_not_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    orders = []
    for turn in range(2):
        assert run(quick, photos, tmp_path / str(turn), rename="hash", seed=SECRET) == 0
        orders.append([entry["id"] for entry in entries(tmp_path / str(turn))])
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1], "once in 10 billion times they are equal"


def test_given_attributes_are_not_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """A quick hash of ethnicity, age and sex is found by trying."""
    person: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}
    assert run(quick.using(replace(QUICK, attributes=person)), photos, tmp_path / "out") == 0
    digest = hashlib.sha256(json.dumps(person, sort_keys=True).encode()).hexdigest()
    text = (tmp_path / "out" / NAME).read_text()
    assert not any(told in text for told in (digest[:16], "Ethnic", "white", "attributes"))
    older = quick.using(replace(QUICK, attributes=person | {"Age": 35}))
    with pytest.raises(UsageError, match="the seed or `attributes` are others"):
        run(older, photos, tmp_path / "out")


def test_a_folder_on_another_disk(quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=shm) as other:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "deep").symlink_to(other)
        assert run(quick, photos, tmp_path / "out") == 0
        deep = {name.removeprefix("deep/"): digest for name, digest in undisturbed.items() if name.startswith("deep/")}
        assert images(Path(other)) == deep


def test_a_file_where_a_folder_should_be_is_the_fault_of_some_photos(
    quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_bytes(b"precious")
    assert run(quick, photos, tmp_path / "out") == 3
    assert len(images(tmp_path / "out")) == 10
    assert (tmp_path / "out" / "deep").read_bytes() == b"precious"


def test_a_single_file_is_replaced_only_with_overwrite(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(photos / "1.jpg", tmp_path / "one")
    out = tmp_path / "a.png"
    out.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"such a file already.*`overwrite`"):
        run(quick, tmp_path / "one", out)
    assert out.read_bytes() == b"precious"
    assert run(quick, tmp_path / "one", out, overwrite=True) == 0
    assert out.read_bytes() != b"precious"
    without_a_face(tmp_path / "one" / "1.jpg")
    assert run(quick, tmp_path / "one", out, overwrite=True) == 3
    assert not out.exists(), "no stale portrait"


def without_a_face(path: Path) -> None:
    Image.new("RGB", (64, 64), "gray").save(path)


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
    assert len(images(out)) == {"none": 0, "hash": 2}[rename], "those of photos that are gone stay"


def test_a_photo_that_cannot_be_read_keeps_its_portrait(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails in the night must not take portraits with it."""
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
    assert images(out) == undisturbed, "whoever changed it"


def test_names_are_not_hidden_by_a_seed_that_everybody_knows(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seed 0, which everybody knows.*`seed_file`"):
        run(quick, photos, tmp_path / "out", rename="hash")
    assert not (tmp_path / "out").exists()


def test_device_and_threads_are_those_of_the_engines(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def common(device: str | None, threads: int | None = None, **settings: Any) -> dict[str, Any]:
        anonymizer = Anonymizer.load(demo_bundle, Settings(**settings), device=device, threads=threads)
        return describe_run(anonymizer, Output.parse(Path("out")), RunOptions())

    assert common(None)["device"] == "cpu"
    assert common("cpu") == common(None)
    assert common(None)["threads"] == physical_cores()
    assert common(None, threads=3)["threads"] == 3
    assert common("cuda")["device"] == "cuda"
    assert common("cuda")["threads"] is None
    assert common("cuda", threads=3) == common("cuda"), "they do not matter there"
    monkeypatch.setattr("anon_runtime.backends.onnxruntime.default_device", lambda: "cuda")
    assert common(None) == common("cuda"), "a machine whose default is another one"
    json.dumps([common(None, acceleration=level) for level in FAST_LEVELS], allow_nan=False)


def test_seconds_of_every_stage_are_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """Decoding is slow here, and told for each photo."""
    decode = decode_photo

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return decode(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "decode_photo", slowly)
        found = list(find_photos([photos]))
        (tmp_path / "out").mkdir()
        for records in (
            FolderRun(quick, Output.parse(tmp_path / "out"), RunOptions(batch_size=4)).records,
            FolderRun(quick, Output(tmp_path), RunOptions(batch_size=4)).descriptions,
        ):
            assert all(record.seconds["decode"] >= 0.05 for record in records(found))


def test_prompt_only_removes_no_photo(
    quick: Anonymizer, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo in the current folder is called as its portrait would be, and so may be any other file there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("coffee.png", "deep/other.png"):
        shutil.copy(coffee, name)
    (tmp_path / "other.png").write_text("of somebody else")
    (tmp_path / "torn.png").write_bytes(coffee.read_bytes()[:1000])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    photos = list(find_photos([Path("coffee.png"), Path("deep/other.png"), Path("torn.png")]))
    assert describe_photos(quick, photos, RunOptions(), Reporter(as_json=True, quiet=True, flags={})) == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


class Panic(BaseException):
    """What a native extension raises when it panics."""


def test_a_panic_ends_the_run(quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise Panic("slice index starts at 7 but ends at 3")

    monkeypatch.setattr(quick.generator, "tokenize", panic)
    with pytest.raises(Panic):
        run(quick, photos, tmp_path / "out")


@pytest.mark.parametrize("role", ["face_detector", "face_attributes", "face_race"])
def test_a_face_network_that_breaks_gives_no_portrait(
    own_engines: StandInEngines, quick: Anonymizer, photos: Path, tmp_path: Path, role: str
) -> None:
    engine = own_engines[role]
    own_engines.interfere(role, lambda _, inputs: {k: np.full_like(v, np.nan) for k, v in engine(inputs).items()})
    with pytest.raises(GenerationError, match=f"the {role} engine on a photo"):
        run(quick, photos, tmp_path / "out")
    assert images(tmp_path / "out") == {}
    assert all("NaN" in entry["reason"] for entry in entries(tmp_path / "out"))


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
    assert len(entries(out)) == 16, "only what failed is tried again"


def test_attributes_are_logged_only_if_asked_for(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path / "without")
    run(quick, photos, tmp_path / "with", log_attributes=True)
    assert "Ethnic" not in (tmp_path / "without" / NAME).read_text()
    assert all(entry["attributes"]["Ethnic"] for entry in entries(tmp_path / "with"))


def corrupt_files() -> dict[str, bytes]:
    """Twelve kinds of files that are no photos."""
    good = jpeg()
    return {
        "empty.jpg": b"", "text.jpg": b"no image", "zeros.png": bytes(5000), "truncated.jpg": good[:900],
        "header.jpg": good[:20], "bomb.png": bomb(50_000, 50_000), "wide.jpg": jpeg_header(50_000),
        "huge.webp": webp_header(16_383), "html.png": b"<html>404</html>", "half.webp": webp_header(300),
        "noise.jpg": good[:300] + random.Random(0).randbytes(2000), "film.gif": b"GIF89a" + bytes(50),
    }  # fmt: skip


def test_corrupt_files_among_the_photos(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    corrupt = corrupt_files()
    for name, content in corrupt.items():
        (photos / name).write_bytes(content)
    assert run(quick, photos, tmp_path / "out") == 3
    assert images(tmp_path / "out") == undisturbed
    failed = {entry["input"]: entry["reason"] for entry in entries(tmp_path / "out") if entry["status"] == "error"}
    assert set(failed) == set(corrupt)
    assert not any(str(tmp_path) in reason for reason in failed.values())
    with pytest.raises(AnonError, match="`max_failures` is 3") as caught:
        run(quick, photos, tmp_path / "strict", max_failures=3)
    assert caught.value.exit_code == 1


def test_the_first_ctrl_c_is_the_first_also_after_too_many_failures(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a second one ends the process at once."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(Reporter, "summary", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    (photos / "0.jpg").write_bytes(b"broken")
    with pytest.raises(AnonError, match="`max_failures` is 0"):
        run(quick, photos, tmp_path / "out", max_failures=0)
    assert ended == []


def test_an_interrupted_run_that_began_anew_says_how_it_goes_on(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = Reporter.record

    def interrupt(reporter: Reporter, what: Any) -> None:
        record(reporter, what)
        if not caplog.records:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Reporter, "record", interrupt)
    assert run(quick, photos, tmp_path / "out", overwrite=True) == 130
    assert "the same command without `overwrite` goes on" in caplog.text
    done = len(images(tmp_path / "out"))
    assert run(quick, photos, tmp_path / "out") == 0
    assert 0 < done < 14 == len(entries(tmp_path / "out"))


def test_no_portrait_holds_its_photo(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """Over the whole fault corpus: no output is its input, nor near it, nor has a piece of it."""
    for name, content in corrupt_files().items():
        (photos / name).write_bytes(content)
    run(quick, photos, tmp_path / "out")
    found = images(tmp_path / "out")
    assert len(found) == 14
    for name in found:
        original = photos / Path(name).with_suffix(".jpg")
        portrait = tmp_path / "out" / name
        assert original.read_bytes()[200:300] not in portrait.read_bytes()
        with Image.open(portrait) as new, Image.open(original) as old:
            assert new.info == {}
            assert new.size == (96, 96)
            small = np.asarray(old.convert("L").resize((96, 96)), float).ravel()
            alike = np.corrcoef(small, np.asarray(new.convert("L"), float).ravel())[0, 1]
            assert alike < 0.8, "one face generated from words looks like another, not like a copy"


def test_a_photo_that_vanishes_or_turns_unreadable(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    found = list(find_photos([photos], recursive=True))

    def disturbed() -> Iterator[Any]:
        for i, photo in enumerate(found):
            if i == 3:
                Path(str(photo.path)).unlink()
            if i == 5:
                Path(str(photo.path)).unlink()
                Path(str(photo.path)).mkdir()
            yield photo

    with Journal(tmp_path / "out", {}, b"") as journal:
        records = list(
            FolderRun(quick, Output.parse(tmp_path / "out"), RunOptions(batch_size=4), journal).records(disturbed())
        )
    assert Counter(record.status for record in records) == {"ok": 12, "error": 2}
    assert images(tmp_path / "out").items() <= undisturbed.items()


def failing_writes(after: int, error: OSError) -> Callable[[int], None]:
    left = [after]

    def fsync(_handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error

    return fsync


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EACCES", "EIO"])
def test_a_folder_that_fails_ends_the_run_and_keeps_what_is_done(
    quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str], code: str
) -> None:
    number = getattr(errno, code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", failing_writes(10, OSError(number, os.strerror(number))))
        with pytest.raises(OutputError, match=f"{os.strerror(number)}.*what is done is kept"):
            run(quick, photos, tmp_path / "out")
    done = images(tmp_path / "out")
    assert 0 < len(done) < 14
    assert done.items() <= undisturbed.items()
    assert run(quick, photos, tmp_path / "out") == 0
    assert images(tmp_path / "out") == undisturbed
    assert Counter(entry["output"] for entry in entries(tmp_path / "out")).most_common(1)[0][1] == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
def test_a_disk_that_is_really_full(demo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    """A limit on the size of files is what a quota is to a process: writes fail in the middle of an image."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); from anon_runtime.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments(demo_bundle, photos, tmp_path / "out")],
                            capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert images(tmp_path / "out") == {}, "no half image"


@pytest.mark.parametrize("role", ["unet", "vae_decoder", "text_encoder", "face_detector", "face_attributes"])
def test_an_engine_that_raises_once_costs_nothing(
    own_engines: StandInEngines,
    quick: Anonymizer,
    photos: Path,
    tmp_path: Path,
    undisturbed: dict[str, str],
    role: str,
) -> None:
    """A batch that fails is done again, one by one."""

    def raise_once(call: int, _inputs: Mapping[str, Array]) -> None:
        if call == 1:
            raise BackendError("engine", "out of memory", "use a smaller batch")

    own_engines.interfere(role, raise_once)
    assert run(quick, photos, tmp_path / "out") == 0
    assert images(tmp_path / "out") == undisturbed


def test_nan_of_one_photo_is_one_failure(
    own_engines: StandInEngines, quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    first: list[np.ndarray] = []

    def nan_for_one(_call: int, inputs: Mapping[str, Array]) -> Any:
        first.append(inputs["sample"][:1])
        if any(np.array_equal(sample, first[0][0]) for sample in inputs["sample"]):
            return {"out_sample": np.full_like(inputs["sample"], np.nan)}
        return None

    own_engines.interfere("unet", nan_for_one)
    assert run(quick, photos, tmp_path / "out") == 3
    assert len(images(tmp_path / "out")) == 13
    assert images(tmp_path / "out").items() <= undisturbed.items()
    (failure,) = [entry for entry in entries(tmp_path / "out") if entry["status"] == "error"]
    assert "NaN" in failure["reason"]


def test_an_engine_that_always_raises_ends_the_run(
    own_engines: StandInEngines, quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    calls = []

    def always(call: int, _inputs: Mapping[str, Array]) -> None:
        calls.append(call)
        raise BackendError("engine", "the GPU has fallen off the bus", "restart")

    own_engines.interfere("vae_decoder", always)
    with pytest.raises(BackendError, match="fallen off"):
        run(quick, photos, tmp_path / "out")
    assert images(tmp_path / "out") == {}
    assert len(calls) <= MAX_ENGINE_FAILURES + 5


def test_an_engine_that_always_returns_nan_ends_the_run(
    own_engines: StandInEngines, quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    """It is no photo's fault: all photos of the folder would fail."""
    own_engines.interfere("unet", lambda _, inputs: {"out_sample": np.full_like(inputs["sample"], np.nan)})
    with pytest.raises(GenerationError, match="unet engine at evaluation 1 of 1"):
        run(quick, photos, tmp_path / "out")
    failed = [entry for entry in entries(tmp_path / "out") if entry["status"] == "error"]
    assert images(tmp_path / "out") == {}
    assert len(failed) < MAX_ENGINE_FAILURES


def test_a_damaged_bundle_ends_the_run(
    own_engines: StandInEngines, quick: Anonymizer, photos: Path, tmp_path: Path
) -> None:
    def damaged(_call: int, _inputs: Mapping[str, Array]) -> None:
        raise BundleError("unet", "damaged", "build again")

    own_engines.interfere("vae_decoder", damaged)
    with pytest.raises(BundleError):
        run(quick, photos, tmp_path / "out")
    assert images(tmp_path / "out") == {} == Counter(entry["status"] for entry in entries(tmp_path / "out"))


def test_a_surprise_is_the_failure_of_one_photo(
    quick: Anonymizer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(quick.reader, "describe_decoded", surprise)
    assert run(quick, photos, tmp_path / "out") == 3
    assert all("internal error (RuntimeError)" in entry["reason"] for entry in entries(tmp_path / "out"))
    assert len(entries(tmp_path / "out")) == 14
    assert images(tmp_path / "out") == {}


def test_names_that_are_hard_to_write(quick: Anonymizer, originals: Path, tmp_path: Path) -> None:
    odd = [b"new\nline.jpg", b" a b .jpg", b"\xff\xfe.jpg", b"x" * 251 + b".jpg", "ü\u2028.jpg".encode()]
    (tmp_path / "photos").mkdir()
    for name in odd:
        shutil.copy(os.fsencode(originals / "1.jpg"), os.fsencode(tmp_path / "photos") + b"/" + name)
    assert run(quick, tmp_path / "photos", tmp_path / "out") == 0
    names = {os.fsencode(name) for name in images(tmp_path / "out")}
    assert names == {name.removesuffix(b".jpg") + b".png" for name in odd}
    assert run(quick, tmp_path / "photos", tmp_path / "out") == 0
    assert len(entries(tmp_path / "out")) == 5, "all known again"
    assert run(quick, tmp_path / "photos", tmp_path / "webp", format="webp") == 3
    (failure,) = [entry for entry in entries(tmp_path / "webp") if entry["status"] == "error"]
    assert "too long" in failure["reason"]
    assert len(images(tmp_path / "webp")) == 4


def arguments(bundle: Path, photos: Path, out: Path) -> list[str]:
    quick = ["--steps", "1", "--guidance-scale", "1", "--batch-size", "2", "--no-checksum"]
    return [str(photos), "-r", "-o", str(out), "--engines", str(bundle), *quick]


def start(bundle: Path, photos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    code = "from anon_runtime.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(bundle, photos, out), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(out: Path, count: int) -> None:
    """Until an output folder has so many portraits."""
    end = time.monotonic() + 120
    while len(list(out.rglob("*.png"))) < count:
        assert time.monotonic() < end
        time.sleep(0.002)


def kill_and_resume(bundle: Path, photos: Path, out: Path, kills: int, expected: dict[str, str]) -> None:
    rng, survived = random.Random(0), 0
    for turn in range(kills):
        with start(bundle, photos, out) as process:
            if turn % 4 == 3:
                time.sleep(rng.uniform(0.1, 2))  # while it starts
            else:
                wait_for(out, min(turn + 1, len(expected)))
                time.sleep(rng.uniform(0, 0.1))
            process.kill()
        done = {name: digest for name, digest in images(out).items() if not name.startswith(PRIVATE)}
        assert done.items() <= expected.items(), "no half image, no other image"
        if (out / NAME).exists():
            text = (out / NAME).read_text()
            for line in text[: text.rfind("\n") + 1].splitlines()[1:]:
                assert json.loads(line)["output"] in done, "the journal knows no more than is there"
        survived += len(done) < len(expected)
    assert survived, "killed before the end at least once"
    with start(bundle, photos, out) as final:
        messages = final.communicate()[1]
        assert final.returncode == 0, messages
    assert images(out) == expected
    assert not (out / PRIVATE).exists()
    assert Counter(entry["output"] for entry in entries(out)) == dict.fromkeys(expected, 1)


def test_killed_at_any_instant(demo_bundle: Path, originals: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    kill_and_resume(demo_bundle, originals, tmp_path / "out", 5, undisturbed)


@pytest.mark.full_size
def test_killed_at_twenty_instants(
    demo_bundle: Path, originals: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    kill_and_resume(demo_bundle, originals, tmp_path / "out", 20, undisturbed)


def test_ctrl_c_ends_after_the_images_in_flight(
    demo_bundle: Path, originals: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    process = start(demo_bundle, originals, out)
    wait_for(out, 2)
    process.send_signal(signal.SIGINT)
    messages = process.communicate()[1]
    assert process.returncode == 130
    assert "once more" in messages
    assert "goes on where it ended" in messages
    done = images(out)
    assert 2 <= len(done) < 14
    assert done.items() <= undisturbed.items()
    assert not (out / PRIVATE).exists()
    assert {entry["output"] for entry in entries(out)} == set(done)
    resumed = start(demo_bundle, originals, out)
    assert f"{14 - len(done)} ok, {len(done)} done before" in resumed.communicate()[1]
    assert images(out) == undisturbed


def test_ctrl_c_is_heard_among_photos_that_are_done(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    out, stop = tmp_path / "out", threading.Event()
    assert run(quick, photos, out) == 0
    stop.set()
    output, options = Output.parse(out), RunOptions(batch_size=4)
    with Journal(out, describe_run(quick, output, options), b"[0, null]") as journal:
        records = FolderRun(quick, output, options, journal, stop=stop).records(find_photos([photos], recursive=True))
        assert list(records) == []


def test_two_runs_into_one_folder(demo_bundle: Path, originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal(out, {}, b""):
        second = start(demo_bundle, originals, out)
        assert "another run is writing" in second.communicate()[1]
        assert second.returncode == 2
    with start(demo_bundle, originals, out) as third:
        messages = third.communicate()[1]
    assert third.returncode == 0, messages
    assert len(entries(out)) == 14
