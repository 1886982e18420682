import json
from dataclasses import replace
from pathlib import Path

import pytest

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST, Manifest
from anon_runtime.errors import BundleError
from tests.conftest import edit_manifest


def test_manifest_survives_a_round_trip(demo_bundle: Path) -> None:
    manifest = Bundle.open(demo_bundle).manifest
    assert Manifest.from_json(manifest.to_json(), "here") == manifest


def test_a_manifest_of_0_2_is_read_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    """The file was written by ``anon-export build demo --deep-reuse`` of anon-engines 0.2.0."""
    text = Path(__file__).with_name("bundle-0.2.json").read_text()
    manifest = Manifest.from_json(text, "old/bundle.json")
    assert "old/bundle.json is of anon-engines 0.2; build it again" in caplog.text
    old = json.loads(text)
    assert {"unet", "unet_cached", "face_detector"} <= manifest.engines.keys()
    assert manifest.engines["unet_cached"].signature == "unet_cached"
    assert manifest.engines["face_detector"].signature == old["engines"]["face_detector"]["contract"] == "centerface"
    assert manifest.verification is not None
    assert manifest.verification.image_psnr == old["verification"]["picture_psnr"]
    assert manifest.verification.engines.keys() == manifest.engines.keys()
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    del old["engines"]["unet"]["contract"]
    with pytest.raises(BundleError, match="lacks or garbles a field"):
        Manifest.from_json(json.dumps(old), "here")


def test_every_file_is_recorded(demo_bundle: Path) -> None:
    found = {p.relative_to(demo_bundle).as_posix() for p in demo_bundle.rglob("*") if p.is_file()}
    assert found == {MANIFEST, *Bundle.open(demo_bundle).manifest.files}


def test_absent_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="anon-export build demo"):
        Bundle.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["unet/model.onnx", "scheduler/tables.npz", "tokenizer/tokenizer.json"])
def test_missing_and_altered_files_are_refused(own_bundle: Path, name: str) -> None:
    path = own_bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}.*not the one that was built"):
        Bundle.open(own_bundle)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}.*missing.*build it again"):
        Bundle.open(own_bundle)


def test_without_checksums_sizes_are_still_checked(own_bundle: Path) -> None:
    path = own_bundle / "unet" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="sha256 differs"):
        Bundle.open(own_bundle)
    assert Bundle.open(own_bundle, checksum=False).manifest.name == "demo"
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match="size differs"):
        Bundle.open(own_bundle, checksum=False)


def test_garbled_manifests_are_refused(own_bundle: Path) -> None:
    path = own_bundle / MANIFEST
    good = json.loads(path.read_text())
    bad = {
        "not json": "{",
        "a list": "[]",
        "schema version": json.dumps(good | {"schema_version": 99}),
        "lacks a field": json.dumps({k: v for k, v in good.items() if k != "generator"}),
        "escapes": json.dumps(good | {"files": {"../secret": {"sha256": "", "size": 0}}}),
        "null": json.dumps(good | {"engines": None}),
    }
    for text in bad.values():
        path.write_text(text)
        with pytest.raises(BundleError) as caught:
            Bundle.open(own_bundle)
        assert "\n" not in str(caught.value)


def test_unknown_target_is_refused(own_bundle: Path) -> None:
    from anon_runtime import AnonError, Anonymizer, Request

    edit_manifest(own_bundle, target="abacus")
    with pytest.raises(AnonError, match="no backend for target 'abacus'"):
        Anonymizer.load(own_bundle).generate([Request("x")])


def test_a_role_that_is_not_there(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    bare = replace(bundle, manifest=replace(bundle.manifest, engines={}))
    with pytest.raises(BundleError, match="--faces"):
        bare.spec("face_detector")
