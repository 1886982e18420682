from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from anon_export.graphs.winograd import POINTS, make_transforms, transform_weights, use_winograd

NUMBERS = st.floats(-10, 10, width=32)


@given(
    st.sampled_from(sorted(POINTS)), arrays(np.float64, 6, elements=NUMBERS), arrays(np.float64, 3, elements=NUMBERS)
)
def test_the_transforms_make_a_convolution(m: int, tile: np.ndarray, weights: np.ndarray) -> None:
    t, tile = make_transforms(m), tile[: m + 2]
    ours = t.output @ ((t.weights @ weights) * (t.tile @ tile))
    np.testing.assert_allclose(ours, np.correlate(tile, weights, "valid"), atol=1e-10)


@pytest.mark.parametrize("m", sorted(POINTS))
def test_weights_are_transformed_in_both_directions(m: int) -> None:
    """A tile of which one pixel is 1 shows each weight where it belongs."""
    weights, t = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3), make_transforms(m)
    tile = np.zeros((m + 2, m + 2))
    tile[1, 1] = 1
    products = transform_weights(weights, m).reshape(m + 2, m + 2) * (t.tile @ tile @ t.tile.T)
    np.testing.assert_allclose((t.output @ products @ t.output.T)[:2, :2], [[4, 3], [1, 0]], atol=1e-6)


def make_model(
    inputs: int, outputs: int, rows: Any = "h", columns: Any = "w", kernel: int = 3, bias: bool = True, **changes: Any
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    attributes: dict[str, Any] = {
        "pads": [kernel // 2] * 4,
        "strides": [1, 1],
        "dilations": [1, 1],
        "group": 1,
    } | changes
    weights = rng.standard_normal((outputs, inputs // attributes["group"], kernel, kernel)) / np.sqrt(9 * inputs)
    tensors = {"weights": weights, "bias": rng.standard_normal(outputs)}
    names = ["image", "weights", "bias"][: 2 + bias]
    node = helper.make_node("Conv", names, ["result"], **attributes)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", inputs, rows, columns])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", outputs, None, None])],
        [numpy_helper.from_array(tensors[name].astype(np.float32), name) for name in names[1:]],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def convolve(image: NDArray[np.float32], weights: list[torch.Tensor]) -> torch.Tensor:
    """The convolution in double precision; the second tensor is the bias, if there is one."""
    filters, bias = weights[0].double(), weights[1].double() if len(weights) > 1 else None
    return torch.nn.functional.conv2d(torch.from_numpy(image).double(), filters, bias, padding=1)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image})[0])


@pytest.mark.parametrize("smallest", [2, 4, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 8, 8), (3, 8, 24), (2, 40, 16)])
def test_the_same_results(smallest: int, bias: bool, batch: int, rows: int, columns: int) -> None:
    model = make_model(136, 128, bias=bias)
    weights = [torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer]
    assert use_winograd(model, {"h": smallest, "w": 2 * smallest}) == 1
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMul") == 1
    assert kinds.count("Add") == bias
    assert max(tensor.dims[0] for tensor in model.graph.initializer) == (16 if smallest == 2 else 36)
    image = np.random.default_rng(1).standard_normal((batch, 136, rows, columns)).astype(np.float32)
    expected = convolve(image, weights)
    np.testing.assert_allclose(run(model, image), expected, atol=2e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "h + 1"},
        {"columns": 5},
        {"kernel": 1},
        {"inputs": 120},
        {"outputs": 120},
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2] * 4},
        {"group": 2},
        {"pads": [0] * 4},
    ],
)
def test_other_convolutions_stay(changes: dict[str, Any]) -> None:
    model = make_model(**({"inputs": 128, "outputs": 128} | changes))
    before = model.SerializeToString()
    assert use_winograd(model, {"h": 4, "w": 4}) == 0
    assert model.SerializeToString() == before


def test_convolutions_in_a_row_share_their_constants() -> None:
    model = make_model(128, 128, 8, 8)
    second = helper.make_node("Conv", ["result", "weights"], ["last"], pads=[1] * 4)
    model.graph.node.append(second)
    model.graph.value_info.append(helper.make_tensor_value_info("result", TensorProto.FLOAT, ["n", 128, 8, 8]))
    model.graph.output[0].name = "last"
    plain = run(model, np.ones((1, 128, 8, 8), np.float32))
    assert use_winograd(model, {}) == 2
    assert sum(tensor.name.startswith("winograd.tile") for tensor in model.graph.initializer) == 1
    np.testing.assert_allclose(run(model, np.ones((1, 128, 8, 8), np.float32)), plain, atol=2e-5)


@pytest.mark.parametrize(("smallest", "rows", "bands"), [(4, 8, 1), (8, 16, 1), (16, 16, 2), (16, 48, 2), (96, 96, 4)])
def test_high_images_are_cut_into_bands(smallest: int, rows: int, bands: int) -> None:
    """Each band reads a row of its neighbours, and zeros beyond the image."""
    model = make_model(128, 128)
    weights = [torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer]
    assert use_winograd(model, {"h": smallest, "w": 4}) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("MatMul") == bands
    image = np.random.default_rng(1).standard_normal((2, 128, rows, 12)).astype(np.float32) + 1
    expected = convolve(image, weights)
    np.testing.assert_allclose(run(model, image), expected, atol=3e-5)


def test_there_is_a_limit_to_bands() -> None:
    model = make_model(128, 128, 256, 8)
    use_winograd(model, {})
    assert [node.op_type for node in model.graph.node].count("MatMul") == 8
