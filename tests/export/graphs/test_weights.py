"""Weights outside of a graph: a small network with a table, a convolution, a product, and constants of other kinds."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from anon_export.graphs import weights as own
from anon_export.graphs.export import save_graph
from anon_runtime.types import Array

rng = np.random.default_rng(0)
ARRAYS: dict[str, Array] = {
    "table": rng.standard_normal((5, 12)).astype(np.float32),
    "kernel": rng.standard_normal((2, 3, 2, 2)).astype(np.float32),
    "matrix": rng.standard_normal((2, 4)).astype(np.float32),
    "bias": rng.standard_normal(4).astype(np.float32),
    "twice": rng.standard_normal((4, 4)).astype(np.float32),
    "shape": np.array([-1, 3, 2, 2], np.int64),
    "flat": np.array([-1, 2], np.int64),
}
MOVED = {"table", "kernel", "matrix"}


@pytest.fixture(params=[10**9, 1], ids=["inside", "beside"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph with its weights inside of its file, or in a file beside it."""
    for module in ("anon_export.graphs.export", "anon_export.graphs.weights"):
        monkeypatch.setattr(f"{module}.MAX_INLINE_BYTES", request.param)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Reshape", ["rows", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["convolved"]),
        helper.make_node("Reshape", ["convolved", "flat"], ["pairs"]),
        helper.make_node("Gemm", ["pairs", "matrix", "bias"], ["product"]),
        helper.make_node("MatMul", ["product", "twice"], ["again"]),
        helper.make_node("Add", ["again", "twice"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
        [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    save_graph(model, tmp_path / "model.onnx")
    if request.param == 1:  # small weights go there, too, but no shapes
        onnx.save(
            model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=80
        )
    return tmp_path / "model.onnx"


def compute(path: Path) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"ids": np.array([0, 4, 2, 1])})[0]
    return result


def test_matrices_kernels_and_tables_become_inputs(path: Path) -> None:
    model, weights = own.load_without_weights(path)
    assert set(weights) == MOVED
    assert {value.name for value in model.graph.input} == {"ids", *MOVED}
    for name, weight in weights.items():
        assert weight.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(weight.read(), ARRAYS[name])
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(kept) == set(ARRAYS) - MOVED
    for name, array in kept.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_they_come_back(path: Path) -> None:
    expected, beside = compute(path), path.with_name("model.onnx.data").exists()
    own.save_with_weights(*own.load_without_weights(path), path)
    np.testing.assert_array_equal(compute(path), expected)
    assert [value.name for value in onnx.load(path).graph.input] == ["ids"]
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx"} | ({"model.onnx.data"} if beside else set())


def test_another_order_of_axes(path: Path) -> None:
    model, weights = own.load_without_weights(path)
    turned = weights["kernel"].transposed(0, 2, 3, 1)
    assert turned.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(turned.read(), ARRAYS["kernel"].transpose(0, 2, 3, 1))
    model.graph.node.insert(0, helper.make_node("Transpose", ["turned"], ["kernel"], perm=[0, 3, 1, 2]))
    kept = [value for value in model.graph.input if value.name != "kernel"]
    del model.graph.input[:]
    model.graph.input.extend([*kept, own.make_input("turned", turned.shape)])
    expected = compute(path)
    own.save_with_weights(model, weights | {"turned": turned}, path)
    np.testing.assert_array_equal(compute(path), expected)


def test_an_input_in_half_precision_gets_a_weight_in_half_precision(path: Path) -> None:
    model, weights = own.load_without_weights(path)
    weights["table"] = own.Weight((2,), lambda: np.array([1e9, -1e9, 0.1], np.float32))
    for value in model.graph.input:
        if value.name == "table":
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    own.save_with_weights(model, weights, path)
    written = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    assert {name: array.dtype for name, array in written.items() if name in MOVED} == {
        "table": np.float16,
        "kernel": np.float32,
        "matrix": np.float32,
    }
    np.testing.assert_array_equal(written["table"], np.array([65504, -65504, 0.1], np.float16))
