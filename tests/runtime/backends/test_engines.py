from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from anon_runtime.backends.base import physical_cores
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import BackendError, BundleError, UsageError
from anon_runtime.types import Array, Arrays


def test_engines_are_loaded_once_and_shared_by_roles_of_one_file(demo_bundle: Path) -> None:
    with Engines.load(demo_bundle, checksum=False) as engines:
        assert engines["unet"] is engines["unet"]
        assert engines["face_age"] is engines["face_race"]
        assert engines["face_age"] is not engines["face_attributes"]


def test_large_engines_are_released_and_loaded_again(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines.load(demo_bundle, checksum=False)
    text_encoder, unet = engines["text_encoder"], engines["unet"]
    engines.release("text_encoder")
    assert engines["text_encoder"] is text_encoder, "small engines stay"
    monkeypatch.setattr("anon_runtime.backends.base.LARGE", 2**20)
    engines.release("text_encoder")
    engines.release("text_encoder")
    assert engines["text_encoder"] is not text_encoder
    assert engines["unet"] is unet
    replaced = Engines(engines.bundle, replaced={"text_encoder": text_encoder})
    replaced.release("text_encoder")
    assert replaced["text_encoder"] is text_encoder


def test_closed_engines_are_told(demo_bundle: Path) -> None:
    with Engines.load(demo_bundle, checksum=False) as engines:
        pass
    with pytest.raises(BackendError, match="unet engine: the engines were closed; load them again"):
        engines["unet"]


def test_threads_are_chosen_when_engines_are_loaded(demo_bundle: Path) -> None:
    assert Engines.load(demo_bundle, threads=1, checksum=False).threads == 1
    assert Engines.load(demo_bundle, checksum=False).threads == physical_cores()
    assert Engines.load(demo_bundle, checksum=False, device="cuda").threads is None


@pytest.mark.parametrize("bad", [0, -1, True, "2", 1.5])
def test_threads_without_meaning_are_refused(demo_bundle: Path, bad: int) -> None:
    with pytest.raises(UsageError, match="threads"):
        Engines.load(demo_bundle, threads=bad, checksum=False)


def test_what_is_missing_is_told_before_anything_is_loaded(demo_bundle: Path) -> None:
    engines = Engines.load(demo_bundle, checksum=False)
    engines.require("unet", "face_detector")
    with pytest.raises(BundleError, match="no unet_cached engine"):
        engines.require("unet", "unet_cached")
    with pytest.raises(BackendError, match="engines for onnxruntime run on"):
        Engines.load(demo_bundle, device="tpu", checksum=False).require("unet")


@pytest.mark.parametrize(
    ("precision", "notes"),
    [
        ("int8", ["int8 (VNNI): the unet engine will be slow"]),
        ("int8-bf16", ["int8 (VNNI): the unet engine will be slow", "bf16: the unet engine uses fp32 in its place"]),
        ("bf16", ["bf16: the unet engine uses fp32 in its place"]),
        ("int8-weights", []),
        ("fp32", []),
    ],
)
def test_what_the_processor_lacks_is_told(
    precision: str,
    notes: list[str],
    demo_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = Bundle.read(demo_bundle)
    engines = bundle.manifest.engines
    unet = replace(engines["unet"], precision=precision)
    bundle = replace(bundle, manifest=replace(bundle.manifest, engines=engines | {"unet": unet}))
    for fast, expected in ((True, []), (False, notes)):
        for name in ("multiplies_int8", "multiplies_bf16"):
            monkeypatch.setattr(f"anon_runtime.backends.engines.{name}", lambda fast=fast: fast)
        loaded = Engines(bundle)
        for role in ("unet", "unet", "vae_decoder"):
            assert loaded[role]
        assert caplog.text.count("no instructions for") == len(expected)
        assert all(f"no instructions for {note}" in caplog.text for note in expected)


@pytest.mark.parametrize(
    ("target", "device", "noted"), [("onnxruntime", "cuda", 1), ("onnxruntime", "cpu", 0), ("cuda", "cuda", 0)]
)
def test_a_bundle_for_processors_says_that_it_is_slow_on_a_gpu(
    target: str,
    device: str,
    noted: int,
    demo_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = Bundle.read(demo_bundle)
    monkeypatch.setattr("anon_runtime.backends.engines.load_engine", lambda *_: "an engine")
    with Engines(replace(bundle, manifest=replace(bundle.manifest, target=target)), device=device) as engines:
        for role in ("text_encoder", "unet", "unet", "vae_decoder"):
            assert engines[role]
    assert caplog.text.count("slow on a GPU; build one with `anon-export build --target cuda`") == noted


def test_an_engine_that_is_replaced_need_not_be_in_the_bundle(demo_bundle: Path) -> None:
    def nothing(_inputs: Mapping[str, Array], /) -> Arrays:
        return {}

    engines = Engines(Bundle.read(demo_bundle), replaced={"unet_cached": nothing})
    engines.require("unet", "unet_cached")
    assert engines["unet_cached"] is nothing
    with pytest.raises(BundleError, match="no identity engine"):
        engines.require("identity")
