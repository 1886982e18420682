"""Graphs for the CUDA provider: the operators that are there, and, in standard operators, what they compute."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from anon_export.comparison import relative_rms
from anon_export.graphs import cuda
from anon_export.graphs import stable_diffusion as graphs
from anon_export.graphs.cuda import in_standard_operators, use_cuda_operators
from anon_export.graphs.options import GraphOptions
from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS, read_reference_outputs
from anon_export.models.loading import load_model

Rewrite = Callable[[str, bool], onnx.ModelProto]  # of a network's graph, in half precision or not
LATENTS = (4, 24, 24)
# The kernels of the CUDA provider for half precision, and for integers where these operators work on shapes: from
# onnxruntime's docs/OperatorKernels.md, section CUDAExecutionProvider. ArgMax has floats only.
KERNELS = (
    *("Add", "Cast", "Concat", "Cos", "Div", "Equal", "Expand", "Gather", "GatherND", "Gelu", "Gemm"),
    *("LayerNormalization", "MatMul", "Mul", "Range", "Reshape", "Resize", "Shape", "Sigmoid", "Sin", "Slice"),
    *("Softmax", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
MICROSOFT_KERNELS = (
    *("BiasAdd", "BiasSplitGelu", "GroupNorm", "MultiHeadAttention", "NhwcConv", "QuickGelu", "SkipGroupNorm"),
    "SkipLayerNormalization",
)


@pytest.fixture(scope="module")
def exported(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's graphs by signature, with attention as one operator."""
    folder, pipeline = tmp_path_factory.mktemp("cuda"), load_model(demo_model)
    paths = {name: folder / name / "model.onnx" for name in ("text_encoder", "unet", "vae_encoder", "vae_decoder")}
    plain, cached = GraphOptions(fused_attention=True), GraphOptions(fused_attention=True, cache_branch=0)
    graphs.export_text_encoder(pipeline.text_encoder, paths["text_encoder"], plain)
    graphs.export_unet(pipeline.unet, paths["unet"], LATENTS, cached)
    graphs.export_vae_encoder(pipeline.vae, paths["vae_encoder"], LATENTS, plain)
    graphs.export_vae_decoder(pipeline.vae, paths["vae_decoder"], LATENTS, plain)
    paths["unet_cached"] = folder / "unet_cached" / "model.onnx"
    graphs.extract_cached_unet(paths["unet"], paths["unet_cached"])
    return paths


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture(scope="module")
def rewrite(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewrite]:
    """Rewrites a network's graph once, as if the provider had a kernel for the narrow gates of the demo."""

    @cache
    def run(signature: str, half: bool) -> onnx.ModelProto:
        copy = tmp_path_factory.mktemp(signature) / "model.onnx"
        copy.write_bytes(exported[signature].read_bytes())
        use_cuda_operators(copy, signature, half=half)
        assert [file.name for file in copy.parent.iterdir()] == [copy.name]
        return onnx.load(copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "GATE_WIDTHS", (1536,))
        yield run


@pytest.mark.parametrize(("half", "bound"), [(False, 3e-6), (True, 3e-3)])
@pytest.mark.parametrize("signature", ["text_encoder", "unet", "unet_cached", "vae_encoder", "vae_decoder"])
def test_a_rewritten_graph_computes_the_same(
    signature: str, half: bool, bound: float, exported: dict[str, Path], rewrite: Rewrite
) -> None:
    """Its inputs and outputs stay as they were, too."""
    path = exported[signature]
    before, after = onnx.load(path), rewrite(signature, half)
    assert list(after.graph.input) == list(before.graph.input)
    assert [output.name for output in after.graph.output] == [output.name for output in before.graph.output]
    inputs, expected = read_reference_outputs(path.with_name(REFERENCE_OUTPUTS))
    outputs = run(in_standard_operators(after), dict(inputs))
    for name, array in expected.items():
        assert outputs[name].dtype == np.float32
        assert relative_rms(outputs[name], array) < bound


@pytest.mark.parametrize("signature", ["text_encoder", "unet", "unet_cached", "vae_encoder", "vae_decoder"])
def test_the_operators_of_the_cuda_provider_are_there(
    signature: str, exported: dict[str, Path], rewrite: Rewrite
) -> None:
    before = Counter(node.op_type for node in onnx.load(exported[signature]).graph.node)
    model = rewrite(signature, True)
    after = Counter(node.op_type for node in model.graph.node)
    assert after["NhwcConv"] == before["Conv"]
    assert after["GroupNorm"] + after["SkipGroupNorm"] == before["InstanceNormalization"]
    assert not after["Conv"] + after["InstanceNormalization"]
    assert after["MultiHeadAttention"] == before["MultiHeadAttention"]
    if signature == "unet":
        packed = Counter(len(node.input) for node in model.graph.node if node.op_type == "MultiHeadAttention")
        assert packed == {1: before["MultiHeadAttention"] / 2, 2: before["MultiHeadAttention"] / 2}
        assert before["MatMul"] - after["MatMul"] == 2 * packed[1] + packed[2]
    assert after["BiasSplitGelu"] == after["BiasAdd"] == before["Gelu"]
    assert (after["SkipLayerNormalization"] > 0) == (before["LayerNormalization"] > 0)
    floats = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    sizes = {name: int(np.prod(tensor.dims)) for name, tensor in floats.items()}
    assert max(sizes.values(), default=0) < 1000, "weights are in half precision"


@pytest.mark.parametrize("signature", ["text_encoder", "unet", "unet_cached", "vae_encoder", "vae_decoder"])
def test_the_provider_has_a_kernel_for_each_operator(signature: str, rewrite: Rewrite) -> None:
    """Others would run on the processor, with copies in between. Only the place of a prompt's last token does."""
    model = rewrite(signature, True)
    found = {(node.domain, node.op_type) for node in model.graph.node}
    allowed = {("", name) for name in KERNELS} | {("com.microsoft", name) for name in MICROSOFT_KERNELS}
    assert found - allowed == ({("", "ArgMax")} if signature == "text_encoder" else set())
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    factors = [name for node in model.graph.node if "GroupNorm" in node.op_type for name in node.input[1:3]]
    assert {kinds[name] for name in factors} <= {TensorProto.FLOAT}, "the kernel takes them in fp32 only"


def test_the_time_embedding_stays_in_fp32(rewrite: Rewrite) -> None:
    """417.25 and 417.3 are the same number in half precision."""
    model = rewrite("unet", True)
    producers = {name: node for node in model.graph.node for name in node.output}
    for wave in (node for node in model.graph.node if node.op_type in ("Sin", "Cos")):
        angle = producers[wave.input[0]]
        while angle.op_type != "Mul":
            angle = producers[angle.input[0]]
        while True:
            assert angle.op_type != "Cast"
            assert angle.input[0] != "timestep" or angle.op_type != "Cast"
            if angle.input[0] not in producers:
                break
            angle = producers[angle.input[0]]
        assert angle.input[0] == "timestep"


def layer(op_type: str, inputs: dict[str, tuple[int, ...]], outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    """A graph of one node of onnxruntime's."""
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op_type, list(inputs), names, "node", domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def values(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm_is_pytorchs(activation: int) -> None:
    inputs = values({"x": (2, 5, 6, 8), "gamma": (8,), "beta": (8,)})
    model = layer("GroupNorm", {n: a.shape for n, a in inputs.items()}, groups=4, epsilon=1e-2, activation=activation)
    x, gamma, beta = map(torch.from_numpy, inputs.values())
    expected = torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), 4, gamma, beta, 1e-2)
    expected = torch.nn.functional.silu(expected) if activation else expected
    ours = run(in_standard_operators(model), inputs)["y0"]
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("skip", [(2, 5, 6, 8), (2, 1, 1, 8)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_sum_is_normalized_and_returned(skip: tuple[int, ...], bias: bool) -> None:
    inputs = values({"x": (2, 5, 6, 8), "gamma": (8,), "beta": (8,), "skip": skip} | ({"bias": (8,)} if bias else {}))
    shapes = {name: array.shape for name, array in inputs.items()}
    model = layer("SkipGroupNorm", shapes, outputs=2, groups=2, epsilon=1e-5, activation=1)
    total = inputs["x"] + inputs["skip"] + inputs.get("bias", np.float32(0))
    x, gamma, beta = (torch.from_numpy(array) for array in (total, inputs["gamma"], inputs["beta"]))
    expected = torch.nn.functional.silu(torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), 2, gamma, beta))
    ours = run(in_standard_operators(model), inputs)
    np.testing.assert_allclose(ours["y1"], total, atol=1e-6)
    np.testing.assert_allclose(ours["y0"], expected.permute(0, 2, 3, 1), atol=1e-5)


def test_a_convolution_has_its_channels_last() -> None:
    inputs = values({"x": (2, 6, 8, 3), "w": (4, 3, 3, 3), "b": (4,)})
    shapes = {name: array.shape for name, array in inputs.items()}
    model = layer("NhwcConv", shapes, pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3], dilations=[1, 1], group=1)
    x, w, b = map(torch.from_numpy, inputs.values())
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2), b, 2, 1)
    ours = run(in_standard_operators(model), inputs)["y0"]
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1), atol=1e-5)
