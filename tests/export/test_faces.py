from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from anon_export import faces
from anon_runtime.backends.base import load_engine
from anon_runtime.errors import AnonError


def deepface_like(path: Path, batch: int | str, reshape_to: int) -> Path:
    """A graph with DeepFace's shapes and other names: mean colours times a matrix, 101 classes."""
    weights = np.random.default_rng(0).standard_normal((3, 101)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"], axis=-1),
    ]
    initializers = [
        onnx.numpy_helper.from_array(np.array([1, 2]), "axes"),
        onnx.numpy_helper.from_array(np.array([reshape_to, 3]), "shape"),
        onnx.numpy_helper.from_array(weights, "weights"),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 224, 224, 3])
    classes = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 101])
    model = helper.make_model(
        helper.make_graph(nodes, "age", [image], [classes], initializers),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [1, "n"])
def test_deepfaces_own_graphs_are_adopted(tmp_path: Path, batch: int | str) -> None:
    source, path = deepface_like(tmp_path / "age.onnx", batch, reshape_to=-1), tmp_path / "out" / "model.onnx"
    spec = faces.convert_deepface_graph(source, path, "age_probabilities", 101)
    assert [t.name for t in (*spec.inputs, *spec.outputs)] == ["image", "age_probabilities"]
    assert spec.inputs[0].shape == ("batch", 224, 224, 3)
    outputs = load_engine("onnxruntime", path)({"image": np.ones((3, 224, 224, 3), np.float32)})
    assert outputs["age_probabilities"].shape == (3, 101)


def test_graphs_of_another_shape_are_refused(tmp_path: Path) -> None:
    for name, classes, reshape_to in (("a", 6, -1), ("b", 101, 1)):
        source = deepface_like(tmp_path / f"{name}.onnx", 1, reshape_to)
        with pytest.raises(AnonError) as caught:
            faces.convert_deepface_graph(source, tmp_path / name / "model.onnx", "out", classes)
        assert "\n" not in str(caught.value)
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(AnonError, match="DeepFace's weights"):
        faces.convert_deepface_graph(tmp_path / "text.onnx", tmp_path / "c" / "model.onnx", "out", 101)
