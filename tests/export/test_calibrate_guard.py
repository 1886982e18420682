"""The command that calibrates a bundle's guard, on photos whose backgrounds differ and with a network of one layer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from anon_export.calibrate_guard import find_people, thumbnail
from anon_export.cli import main
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, IdentitySpec
from anon_runtime.bundle.integrity import FileRecord, sha256
from anon_runtime.bundle.manifest import MANIFEST, EngineSpec, TensorSpec
from anon_runtime.faces.identity import IDENTITY_ROLE

SIDE = 112
NO_PHOTO = [("missing", "there is no such folder"), ("empty", "there is no photo in it")]


@pytest.fixture
def identity_bundle(own_bundle: Path) -> Path:
    """A demo bundle with a face-recognition network that averages blocks of pixels."""
    path = own_bundle / "face_identity.onnx"
    write_network(path)
    image = TensorSpec("image", "float32", ("n", 3, SIDE, SIDE))
    engine = EngineSpec(path.name, "identity", "fp32", (image,), (TensorSpec("embedding", "float32", ("n", 192)),))
    manifest = Bundle.read(own_bundle).manifest
    changed = replace(
        manifest,
        engines=manifest.engines | {IDENTITY_ROLE: engine},
        files=manifest.files | {path.name: FileRecord(sha256(path), path.stat().st_size)},
        identity=IdentitySpec("blocks", SIDE, ARCFACE_TEMPLATE),
    )
    (own_bundle / MANIFEST).write_text(changed.to_json())
    return own_bundle


def write_network(path: Path) -> None:
    """A network that averages 8 x 8 blocks of a face, around middle grey."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["blocks"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["blocks"], ["flat"]),
        helper.make_node("Sub", ["flat", "grey"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 192])
    grey = helper.make_tensor("grey", TensorProto.FLOAT, [], [127.5])
    graph = helper.make_graph(nodes, "blocks", [image], [embedding], [grey])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def write_faces(folder: Path, astronaut: Path, n: int) -> None:
    """One face on n backgrounds of random blocks. The face is the same in all, so that the backgrounds decide."""
    face = np.asarray(Image.open(astronaut).convert("RGB").crop((150, 30, 300, 250)))
    folder.mkdir(parents=True)
    for i in range(n):
        blocks = np.random.default_rng(i).integers(0, 256, (8, 6, 3), np.uint8)
        photo = np.array(Image.fromarray(blocks).resize((150, 220), Image.Resampling.NEAREST))
        photo[20:170, 25:125] = face[20:170, 25:125]
        Image.fromarray(photo).save(folder / f"{i:03}.png")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main(["calibrate-guard", *map(str, arguments)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_the_command_writes_a_calibration_into_the_bundle(
    capsys: pytest.CaptureFixture[str], identity_bundle: Path, astronaut: Path, coffee: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    write_faces(photos, astronaut, 101)
    (photos / "copies").mkdir()
    for i in (5, 6):  # a folder is one person, and a near copy of a photo outside belongs to this person, too
        Image.open(photos / f"00{i}.png").resize((300, 440)).save(photos / "copies" / f"{i}.jpg")
    Image.open(coffee).save(photos / "coffee.png")
    (photos / "damaged.png").write_bytes(b"no image")
    before = Bundle.open(identity_bundle).manifest
    code, out, err = call(capsys, identity_bundle, photos, "--name", "hundred backgrounds")
    assert code == 0
    assert "hundred backgrounds: 100 people" in out
    assert "lowest rate" in out
    assert "coffee.png was left out: no face was found in it" in err
    assert "damaged.png was left out" in err
    after = Bundle.open(identity_bundle).manifest  # checks all files
    assert after.identity is not None
    assert after.identity.calibration is not None
    assert after.identity.calibration.people == 100
    assert after.identity.calibration.data == "hundred backgrounds"
    assert replace(after, identity=before.identity) == before
    assert [path.name for path in identity_bundle.iterdir() if path.name.startswith(".")] == []


def test_too_few_people(
    capsys: pytest.CaptureFixture[str], identity_bundle: Path, astronaut: Path, tmp_path: Path
) -> None:
    write_faces(tmp_path / "few", astronaut, 2)
    before = (identity_bundle / MANIFEST).read_bytes()
    code, _, err = call(capsys, identity_bundle, tmp_path / "few")
    assert code == 2
    assert "calibration on few: it shows 2 people" in err
    assert err.count("\n") == 1
    assert (identity_bundle / MANIFEST).read_bytes() == before


def test_no_face(capsys: pytest.CaptureFixture[str], identity_bundle: Path, coffee: Path, tmp_path: Path) -> None:
    (tmp_path / "cups").mkdir()
    Image.open(coffee).save(tmp_path / "cups" / "cup.png")
    code, _, err = call(capsys, identity_bundle, tmp_path / "cups")
    assert code == 2
    assert "none of its 1 photos could be used; the first one: no face was found in it" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("folder", "why"), NO_PHOTO)
def test_no_photo(
    capsys: pytest.CaptureFixture[str], identity_bundle: Path, tmp_path: Path, folder: str, why: str
) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, identity_bundle, tmp_path / folder)
    assert code == 2
    assert f"{tmp_path / folder}: {why}" in err
    assert err.count("\n") == 1


def test_a_bundle_without_an_identity_engine(
    capsys: pytest.CaptureFixture[str], own_bundle: Path, tmp_path: Path
) -> None:
    manifest = Bundle.read(own_bundle).manifest
    (own_bundle / MANIFEST).write_text(replace(manifest, identity=None).to_json())
    code, _, err = call(capsys, own_bundle, tmp_path)
    assert code == 1
    assert "no face-recognition network" in err
    assert err.count("\n") == 1


def test_photos_of_one_folder_and_near_copies_show_one_person() -> None:
    rng = np.random.default_rng(1)
    photos = [rng.integers(0, 256, (60, 40, 3), np.uint8) for _ in range(5)]
    photos.append(photos[1])
    names = [Path(name) for name in ("a.png", "b.png", "x/1.png", "x/deep/2.png", "y/1.png", "y/2.png")]
    people = find_people(names, np.stack([thumbnail(photo) for photo in photos]))
    assert people.tolist() == [0, 1, 2, 2, 1, 1]
