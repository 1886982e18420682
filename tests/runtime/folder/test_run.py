"""The start of a folder run: its checks, and the first line of its journal."""

import hashlib
import json
import shutil
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.base import physical_cores
from anon_runtime.commands import run_photos
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.errors import BackendError, BundleError, UsageError
from anon_runtime.folder.discovery import Photo
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.ray_cluster import Cluster
from anon_runtime.folder.run import Either, describe_run
from anon_runtime.folder.writer import Output
from anon_runtime.types import Attributes
from tests.conftest import edit_manifest
from tests.runtime.runs import QUICK, QUIET, SECRET, entries, images, run, without_a_face


def test_other_settings_are_told_and_change_nothing(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    run(quick, photos, tmp_path / "out")
    before = images(tmp_path)
    with pytest.raises(UsageError, match="the seed or `attributes` are others"):
        run(quick, photos, tmp_path / "out", seed=1)
    with pytest.raises(UsageError, match="format was png and is webp"):
        run(quick, photos, tmp_path / "out", format="webp", batch_size=2)
    assert images(tmp_path) == before


def test_other_settings_are_fine_where_there_is_no_image(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """A run that cannot start, or generates no image, does not prevent a run with other settings."""
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


def test_the_order_of_hidden_names_is_not_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    orders = []
    for turn in range(2):
        assert run(quick, photos, tmp_path / str(turn), rename="hash", seed=SECRET) == 0
        orders.append([entry["id"] for entry in entries(tmp_path / str(turn))])
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1], "the orders are equal once in 10 billion times"


def test_given_attributes_are_not_told(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    """A plain hash of ethnicity, age and sex could be found by trying all values."""
    person: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}
    assert run(quick.using(replace(QUICK, attributes=person)), photos, tmp_path / "out") == 0
    digest = hashlib.sha256(json.dumps(person, sort_keys=True).encode()).hexdigest()
    text = (tmp_path / "out" / NAME).read_text()
    assert not any(told in text for told in (digest[:16], "Ethnic", "white", '"attributes"'))
    older = quick.using(replace(QUICK, attributes=person | {"Age": 35}))
    with pytest.raises(UsageError, match="the seed or `attributes` are others"):
        run(older, photos, tmp_path / "out")


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
    assert not out.exists(), "the old portrait was removed"


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
    assert common("cuda", threads=3) == common("cuda"), "threads do not matter on a GPU"
    monkeypatch.setattr("anon_runtime.backends.onnxruntime.default_device", lambda: "cuda")
    assert common(None) == common("cuda"), "another machine may have another default"
    json.dumps([common(None, acceleration=level) for level in FAST_LEVELS], allow_nan=False)


def test_one_portrait_is_no_work_for_a_cluster(quick: Anonymizer, photos: Path, tmp_path: Path) -> None:
    cluster = Cluster(lambda: quick, 2, "one core", {"num_cpus": 1.0})
    found = [Photo(photos / "1.jpg", Path("1.jpg"))]
    with pytest.raises(UsageError, match="`ray`: a single portrait is no work for a cluster"):
        run_photos(quick, found, Output.parse(tmp_path / "a.png"), RunOptions(), QUIET, connected=nullcontext(cluster))
    assert not (tmp_path / "a.png").exists()


def test_a_run_stops_if_either_of_two_asks_for_it() -> None:
    one, other = threading.Event(), threading.Event()
    either = Either(one, other)
    assert not either.is_set()
    other.set()
    assert either.is_set()
    assert Either(other, one).is_set()
