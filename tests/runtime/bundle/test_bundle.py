from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anon_runtime import Anonymizer, Request
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import BackendError, BundleError
from anon_runtime.faces.detection import SECOND_DETECTOR_ROLE
from tests.conftest import edit_manifest


@pytest.mark.usefixtures("export_packages")
def test_a_bundle_holds_no_pickle(demo_bundle: Path) -> None:
    import onnx

    for path in demo_bundle.rglob("*"):
        if path.is_file():
            assert path.suffix in {".onnx", ".data", ".json", ".npz", ".txt", ".png", ".md"}, path
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype.kind in "fiu" for name in arrays.files)
        if path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path, load_external_data=False))


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


def test_unknown_target_is_refused(own_bundle: Path) -> None:
    edit_manifest(own_bundle, target="abacus")
    with pytest.raises(BackendError, match="no backend for target 'abacus'"):
        Anonymizer.load(own_bundle).generate([Request("x")])


def test_a_role_that_is_not_there(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    bare = replace(bundle, manifest=replace(bundle.manifest, engines={}))
    with pytest.raises(BundleError, match="--faces"):
        bare.spec("face_detector")
    with pytest.raises(BundleError, match="no second_face_detector engine; use another bundle, or build it where both"):
        bare.spec(SECOND_DETECTOR_ROLE)


def test_a_manifest_that_is_no_text(own_bundle: Path) -> None:
    (own_bundle / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match=r"bundle.json: it cannot be read .*build it again"):
        Bundle.open(own_bundle)
