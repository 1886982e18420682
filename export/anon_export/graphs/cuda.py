"""Graphs for onnxruntime's CUDA provider, rewritten by onnxruntime's own optimizers for Stable Diffusion.

They write what that provider is fast with: convolutions and group normalization with the channels last, sums and their
normalization in one operator, and half precision. No other provider has all of these operators.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from .export import save_graph

# onnxruntime's name for the kind of each network, by signature; other networks stay as they are.
KINDS = {"text_encoder": "clip", "unet": "unet", "unet_cached": "unet", "vae_decoder": "vae"}


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

    kind, inputs = KINDS[signature], onnx.load(path, load_external_data=False).graph.input
    with _quiet():
        made = optimize_model(
            str(path), model_type=kind, opt_level=0, optimization_options=FusionOptions(kind), use_gpu=True
        )
        if half:
            made.convert_float_to_float16(keep_io_types=True, node_block_list=_time_embedding(made.model.graph))
    model = made.model
    del model.graph.input[:]
    model.graph.input.extend(inputs)  # the optimizers remove what a network does not use, but the runtime gives it
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    save_graph(model, path)


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
        with contextlib.redirect_stderr(io.StringIO()):
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
        expand = _DEFINITIONS.get(node.op_type)
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


_DEFINITIONS = {"NhwcConv": _nhwc_conv, "GroupNorm": _group_norm, "SkipGroupNorm": _skip_group_norm}
