import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from anon_export.graphs.fp16_weights import store_as_fp16
from anon_export.graphs.winograd import use_winograd


def make_model(scale: float = 0.05) -> tuple[onnx.ModelProto, np.ndarray]:
    weights = (np.random.default_rng(0).standard_normal((128, 128, 3, 3)) * scale).astype(np.float32)
    node = helper.make_node("Conv", ["image", "weights", "bias"], ["result"], pads=[1] * 4)
    shape: list[str | int] = ["n", 128, 8, 8]
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.ones(128, np.float32), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model, np.random.default_rng(1).standard_normal((2, 128, 8, 8)).astype(np.float32)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image})[0])


@pytest.mark.parametrize("winograd", [False, True])
def test_half_the_file_and_nearly_the_same_result(winograd: bool) -> None:
    model, image = make_model()
    exact, size = run(model, image), model.ByteSize()
    assert store_as_fp16(model) == 1
    if winograd:
        assert use_winograd(model, {}) == 1
    onnx.checker.check_model(model, full_check=True)
    error = np.abs(run(model, image) - exact).max() / np.abs(exact).max()
    assert 1e-6 < error < 1e-3, "rounding the weights is seen, and is small"
    assert model.ByteSize() < (0.7 if winograd else 0.53) * size
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert sum(kind == TensorProto.FLOAT16 for kind in kinds.values()) == 1
    assert not any(name in kinds for name in ("weights", "weights.half") if winograd)


def test_what_half_precision_cannot_say_stays() -> None:
    """Like the mask of CLIP's attention, which is made of fp32's lowest number."""
    model, image = make_model(scale=1e5)
    exact = run(model, image)
    assert store_as_fp16(model) == 0
    np.testing.assert_array_equal(run(model, image), exact)
