"""Runs over many photos, also if photos, engines, disks or the process itself fail."""

import errno
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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.commands import run_photos
from anon_runtime.diffusion.generator import TokenizedRequest
from anon_runtime.errors import AnonError, BackendError, BundleError, GenerationError, OutputError, UsageError
from anon_runtime.faces.decoding import decode_photo
from anon_runtime.folder import intake
from anon_runtime.folder.discovery import PRIVATE, find_photos
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.pipeline import FolderRun
from anon_runtime.folder.run import describe_run
from anon_runtime.folder.steps import MAX_ENGINE_FAILURES
from anon_runtime.folder.writer import Output
from anon_runtime.types import Array, Portrait
from tests.conftest import pixels
from tests.runtime.runs import (
    QUIET,
    arguments,
    corrupt_files,
    entries,
    images,
    run,
    start,
    wait_for,
)
from tests.runtime.stand_ins import StandInEngines


def test_a_folder(quick: Anonymizer, photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert run(quick, photos, out) == 0
    expected = {str(p.relative_to(photos).with_suffix(".png")) for p in photos.rglob("*.jpg")}
    assert len(expected) == 14
    assert set(undisturbed) == expected, "the tree of folders is the same"
    assert len(set(undisturbed.values())) == 14, "every photo has a seed of its own"
    assert images(out) == undisturbed
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 14}
    assert not (out / PRIVATE).exists()
    for entry in entries(out):
        assert set(entry) == {"id", "status", "input", "output", "sha256", "source", "seed", "seconds"}, (
            "the journal holds no attributes"
        )
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
    Image.new("RGB", (64, 64)).save(photos / "1.jpg")  # this is another photo now
    generated: list[str] = []
    generate = quick.generator.generate

    def note(requests: Sequence[TokenizedRequest], **options: Any) -> list[Portrait]:
        generated.extend(tokenized.request.prompt for tokenized in requests)
        return generate(requests, **options)

    monkeypatch.setattr(quick.generator, "generate", note)
    assert run(quick, photos, out) == 3
    assert len(set(generated)) == 1, "only the missing portrait is generated"
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 15, "error": 1}
    assert images(out) == {name: digest for name, digest in undisturbed.items() if name != "1.png"}
    assert run(quick, photos, out, overwrite=True) == 3
    assert Counter(entry["status"] for entry in entries(out)) == {"ok": 13, "error": 1}


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


def test_seconds_of_every_stage_are_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """Decoding is slow here, and each photo has its own time."""
    decode = decode_photo

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return decode(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "decode_photo", slowly)
        found = list(find_photos([photos]))
        (tmp_path / "out").mkdir()
        for records in (
            FolderRun(quick, Output.parse(tmp_path / "out"), RunOptions(batch_size=4)).records,
            FolderRun(quick, Output(tmp_path), RunOptions(batch_size=4)).descriptions,
        ):
            assert all(record.seconds["decode"] >= 0.05 for record in records(found))


class Panic(BaseException):
    """An exception that is no `Exception`, as a native extension raises when it panics."""


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


def test_no_portrait_holds_its_photo(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """No portrait is equal to its photo, is similar to it, or contains a piece of its file."""
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
            assert alike < 0.8, "generated faces resemble each other a little, but are no copies"


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
    """With a limit on the size of files, as with a quota, a write fails in the middle of an image."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); from anon_runtime.cli import main; main()"
    )
    command = [sys.executable, "-c", code, *arguments(demo_bundle, photos, tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert images(tmp_path / "out") == {}, "there is no incomplete image"


@pytest.mark.parametrize("role", ["unet", "vae_decoder", "text_encoder", "face_detector", "face_attributes"])
def test_an_engine_that_raises_once_costs_nothing(
    own_engines: StandInEngines,
    quick: Anonymizer,
    photos: Path,
    tmp_path: Path,
    undisturbed: dict[str, str],
    role: str,
) -> None:
    """If a batch fails, its photos are processed one by one."""

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
    """The engine and not a photo is the cause, and all other photos would fail as well."""
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
    assert len(entries(tmp_path / "out")) == 5, "all photos are found again"
    assert run(quick, tmp_path / "photos", tmp_path / "webp", format="webp") == 3
    (failure,) = [entry for entry in entries(tmp_path / "webp") if entry["status"] == "error"]
    assert "too long" in failure["reason"]
    assert len(images(tmp_path / "webp")) == 4


def kill_and_resume(bundle: Path, photos: Path, out: Path, kills: int, expected: dict[str, str]) -> None:
    rng, survived = random.Random(0), 0
    for turn in range(kills):
        with start(bundle, photos, out) as process:
            if turn % 4 == 3:
                time.sleep(rng.uniform(0.1, 2))  # the process is still starting
            else:
                wait_for(out, min(turn + 1, len(expected)))
                time.sleep(rng.uniform(0, 0.1))
            process.kill()
        done = {name: digest for name, digest in images(out).items() if not name.startswith(PRIVATE)}
        assert done.items() <= expected.items(), "all portraits are complete and are the expected ones"
        if (out / NAME).exists():
            text = (out / NAME).read_text()
            for line in text[: text.rfind("\n") + 1].splitlines()[1:]:
                entry = json.loads(line)
                assert "summary" in entry or entry["output"] in done, "the journal lists only portraits that exist"
        survived += len(done) < len(expected)
    assert survived, "at least one run was killed before its end"
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
