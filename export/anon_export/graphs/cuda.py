"""Graphs for onnxruntime's CUDA provider, rewritten by onnxruntime's own optimizers for Stable Diffusion.

They write what that provider is fast with: group normalization with the channels last, sums and their normalization in
one operator, and half precision. No other provider has all of these operators. Three of their rewrites are done here.
Two know only graphs of PyTorch's old exporter: products for attention in one, and the gates of transformer blocks. That
of convolutions needs all weights in the graph, and so more memory than a build should take.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from anon_runtime.types import Array

from .weights import Weight, load_without_weights, make_input, save_with_weights

# The widths of the sum before the gate that the provider has a kernel for: those of Stable Diffusion 1.5.
GATE_WIDTHS = (2560, 5120, 10240)
# onnxruntime's name for the kind of each network, by signature; other networks stay as they are.
KINDS = {"text_encoder": "clip", "unet": "unet", "unet_cached": "unet", "vae_encoder": "vae", "vae_decoder": "vae"}


def use_cuda_operators(path: Path, signature: str, *, half: bool) -> None:
    """Rewrite a graph in fp32 for the CUDA provider, in its place.

    Inputs and outputs stay in fp32. So does the time embedding: half precision has no 417.3, and the sine and cosine
    of another number are those of another noise level.

    Args:
        path: of the graph.
        signature: one of `KINDS`.
        half: convert weights and arithmetic to half precision. The provider's products still add in fp32.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    kind = KINDS[signature]
    model, weights = load_without_weights(path)
    outer = [value for value in model.graph.input if value.name not in weights]
    names = [value.name for value in (*outer, *model.graph.output)]
    options = FusionOptions(kind)
    options.enable_nhwc_conv = False  # onnxruntime's own rewrite needs the weights in the graph
    with _quiet():
        made = optimize_model(model, model_type=kind, opt_level=0, optimization_options=options, use_gpu=True)
        if kind != "clip":
            _put_channels_last(made.model.graph, weights)
            made.merge_adjacent_transpose()
        _pack_projections(made.model.graph, weights)
        _fuse_gates(made.model.graph)
        if kind == "unet":
            made.fuse_bias_add()  # it looks for gates
        if half:
            made.convert_float_to_float16(keep_io_types=names, node_block_list=_time_embedding(made.model.graph))
    graph = made.model.graph
    inner = [value for value in graph.input if value.name in weights]
    del graph.input[:]
    graph.input.extend([*outer, *inner])  # the optimizers remove what a network does not use, but the runtime gives it
    save_with_weights(made.model, weights, path)


def _put_channels_last(graph: Any, weights: dict[str, Weight]) -> None:
    """Compute convolutions with the channels last, between transpositions that are merged afterwards."""
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        image, kernel, *bias = conv.input
        first, result, last = (f"{conv.name}/{name}" for name in ("channels_last", "result", "kernel"))
        weights[last] = weights[kernel].transposed(0, 2, 3, 1)
        graph.input.append(make_input(last, weights[last].shape))
        made = helper.make_node("NhwcConv", [first, last, *bias], [result], f"{conv.name}/nhwc", domain="com.microsoft")
        made.attribute.extend(conv.attribute)
        before = helper.make_node("Transpose", [image], [first], first, perm=[0, 2, 3, 1])
        after = helper.make_node("Transpose", [result], [*conv.output], result, perm=[0, 3, 1, 2])
        _replace(graph, [conv], [before, made, after], before=conv)
    _remove_unused(graph, weights)


def _pack_projections(graph: Any, weights: dict[str, Weight]) -> None:
    """Compute queries, keys and values of an attention from one input in one product, or keys and values.

    The columns of the weights are then sorted by head, and within a head by their kind, as onnxruntime wants them.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for attention in [node for node in graph.node if node.op_type == "MultiHeadAttention"]:
        heads = next(attribute.i for attribute in attention.attribute if attribute.name == "num_heads")
        products = [producers[name] for name in attention.input]
        if len(products) != 3 or any(p.op_type != "MatMul" or p.input[1] not in weights for p in products):
            continue  # with a bias, as in the VAE, whose only attention is not worth it
        source = products[1].input[0]
        same = [product for product in products if product.input[0] == source]
        if products[2] not in same:
            continue
        name = f"{attention.name}/packed"
        packed = _interleaved([weights[p.input[1]] for p in same], heads)
        weights[f"{name}/weights"] = packed
        graph.input.append(make_input(f"{name}/weights", packed.shape))
        shape = np.array([0, 0, heads, len(same), packed.shape[1] // (heads * len(same))], np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, f"{name}/shape"))
        made = [
            helper.make_node("MatMul", [source, f"{name}/weights"], [f"{name}/product"], f"{name}/product"),
            helper.make_node("Reshape", [f"{name}/product", f"{name}/shape"], [name], name),
        ]
        inputs = [name] if len(same) == 3 else [attention.input[0], name]
        _replace(graph, [*same], made, before=attention)
        del attention.input[:]
        attention.input.extend(inputs)
    _remove_unused(graph, weights)


def _interleaved(columns: list[Weight], heads: int) -> Weight:
    """The columns of several matrices in one, sorted by head."""
    rows, width = columns[0].shape

    def read() -> Array:
        parts = [weight.read().reshape(rows, heads, 1, -1) for weight in columns]
        return np.concatenate(parts, axis=2).reshape(rows, -1)

    return Weight((rows, width * len(columns)), read)


def _fuse_gates(graph: Any) -> None:
    """Compute the gate of a transformer block, (x + bias) split into a and b, as a * gelu(b), in one operator."""
    producers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for product in [node for node in graph.node if node.op_type == "Mul"]:
        gelu = producers.get(product.input[1])
        split = producers.get(product.input[0])
        if gelu is None or split is None or (gelu.op_type, split.op_type) != ("Gelu", "Split"):
            continue
        total = producers[split.input[0]]
        bias = next((name for name in total.input if name in weights), None)
        if total.op_type != "Add" or bias is None or weights[bias].dims[0] not in GATE_WIDTHS:
            continue
        source = next(name for name in total.input if name != bias)
        name = f"{product.name}/gate"
        made = helper.make_node("BiasSplitGelu", [source, bias], [*product.output], name, domain="com.microsoft")
        _replace(graph, [total, split, gelu, product], [made], before=product)


def _replace(graph: Any, old: list[Any], new: list[Any], before: Any) -> None:
    """Put nodes before another one, and remove others."""
    place = list(graph.node).index(before)
    for k, node in enumerate(new):
        graph.node.insert(place + k, node)
    for node in old:
        graph.node.remove(node)


def _remove_unused(graph: Any, weights: Mapping[str, Weight]) -> None:
    """Remove the inputs of weights that nothing uses any more."""
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.input if value.name in used or value.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)


def _time_embedding(graph: Any) -> list[str]:
    """The names of the nodes from the timestep to the first product."""
    known, names = {"timestep"}, []
    for node in graph.node:
        if known.intersection(node.input) and node.op_type not in ("Gemm", "MatMul"):
            names.append(node.name)
            known.update(node.output)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the optimizers' bars and remarks, which do not help users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def in_standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network for any processor: what `use_cuda_operators` writes and no processor has, in standard operators.

    It shows on a machine without a GPU that a rewritten graph computes what it should. The definitions are those of
    onnxruntime's documentation (``docs/ContribOperators.md``).
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for node in model.graph.node:
        separate = node.op_type == "MultiHeadAttention" and len(node.input) > 2
        expand = None if separate else _DEFINITIONS.get(node.op_type)
        made.graph.node.extend([node] if expand is None else expand(_Writer(node)).nodes)
    del made.graph.value_info[:]
    return made


class _Writer:
    """Nodes in the place of another one.

    Attributes:
        node: that is replaced.
        attributes: of it.
        nodes: in its place, so far.
    """

    def __init__(self, node: onnx.NodeProto) -> None:
        self.node, self.nodes = node, list[onnx.NodeProto]()
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def __call__(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{self.node.output[0]}/{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [name], f"{self.node.name}/{name}", **attributes))
        return name

    def many(self, count: int, op_type: str, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"{self.node.output[0]}/{len(self.nodes)}/{k}" for k in range(count)]
        node = onnx.helper.make_node(
            op_type, inputs, names, f"{self.node.name}/{names[0]}", num_outputs=count, **attributes
        )
        self.nodes.append(node)
        return names

    def integers(self, *values: int) -> str:
        return self("Constant", value_ints=values)


def _nhwc_conv(write: _Writer) -> _Writer:
    image, weights, *bias = write.node.input
    channels_first = [write("Transpose", name, perm=(0, 3, 1, 2)) for name in (image, weights)]
    result = write("Conv", *channels_first, *bias, **write.attributes)
    write("Transpose", result, output=write.node.output[0], perm=(0, 2, 3, 1))
    return write


def _group_norm(write: _Writer) -> _Writer:
    return _normalize(write, write.node.input[0])


def _skip_group_norm(write: _Writer) -> _Writer:
    image, _, _, skip, *bias = write.node.input
    total = write("Add", image, skip)
    if bias:
        total = write("Add", total, bias[0])
    if len(write.node.output) > 1:
        write("Identity", total, output=write.node.output[1])
    return _normalize(write, total)


def _normalize(write: _Writer, image: str) -> _Writer:
    """The mean and the variance of each group of channels, (n, height, width, channels), in fp32."""
    attributes = write.attributes
    first = write("Transpose", write("Cast", image, to=onnx.TensorProto.FLOAT), perm=(0, 3, 1, 2))
    grouped = write("Reshape", first, write.integers(0, attributes["groups"], -1))
    centred = write("Sub", grouped, write("ReduceMean", grouped, write.integers(2)))
    variance = write("ReduceMean", write("Mul", centred, centred), write.integers(2))
    small = write("Constant", value_float=attributes["epsilon"])
    divided = write("Div", centred, write("Sqrt", write("Add", variance, small)))
    last = write("Transpose", write("Reshape", divided, write("Shape", first)), perm=(0, 2, 3, 1))
    gamma, beta = (write("Cast", name, to=onnx.TensorProto.FLOAT) for name in write.node.input[1:3])
    result = write("Add", write("Mul", last, gamma), beta)
    if attributes["activation"]:
        result = write("Mul", result, write("Sigmoid", result))
    write("CastLike", result, write.node.input[0], output=write.node.output[0])
    return write


def _gate(write: _Writer) -> _Writer:
    first, second = write.many(2, "Split", write("Add", *write.node.input), axis=-1)
    write("Mul", first, write("Gelu", second), output=write.node.output[0])
    return write


def _bias_add(write: _Writer) -> _Writer:
    image, bias, skip = write.node.input
    write("Add", write("Add", image, bias), skip, output=write.node.output[0])
    return write


def _attention(write: _Writer) -> _Writer:
    """Packed inputs, (n, tokens, heads, kinds, width), as separate ones, (n, tokens, heads * width)."""
    *query, packed = write.node.input
    kinds = write.many(3 - len(query), "Split", packed, axis=3)
    separate = [write("Reshape", kind, write.integers(0, 0, -1)) for kind in kinds]
    inputs, output = [*query, *separate], write.node.output[0]
    write("MultiHeadAttention", *inputs, output=output, domain="com.microsoft", **write.attributes)
    return write


_DEFINITIONS = {
    "NhwcConv": _nhwc_conv,
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _skip_group_norm,
    "BiasSplitGelu": _gate,
    "BiasAdd": _bias_add,
    "MultiHeadAttention": _attention,
}
