"""torch modules -> ONNX graphs with the names that Optimum uses, and PyTorch's answers to seeded inputs beside them."""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from anon_runtime.bundle import EngineSpec, TensorSpec
from anon_runtime.text import WINDOW

from .attention import fused_attention
from .verify import CHECK, write_check

OPSET = 20
# Larger weights go into a file beside the graph, which an engine maps into memory instead of copying it.
MAX_INLINE_BYTES = 100_000_000

DynamicAxes = Mapping[str, Mapping[int, str]]


class TextEncoder(nn.Module):
    """CLIP's text model: ``input_ids`` (n, 77) -> ``last_hidden_state`` (n, 77, width), ``pooler_output``; float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids."""
        output = self.model(input_ids)
        return output.last_hidden_state.float(), output.pooler_output.float()


class Unet(nn.Module):
    """The denoiser: ``sample``, a scalar ``timestep``, ``encoder_hidden_states`` -> ``out_sample``; all float32.

    The timestep stays so inside: half precision has no room for its fractions.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Predict the noise in a sample."""
        dtype = self.model.dtype
        output: Tensor = self.model(sample.to(dtype), timestep, encoder_hidden_states.to(dtype), return_dict=False)[0]
        return output.float()


class VaeDecoder(nn.Module):
    """Latents to pictures: ``latent_sample`` (n, c, h, w) -> ``sample`` (n, 3, H, W) in -1..1; float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode latents that were divided by the scaling factor."""
        output: Tensor = self.model.decode(latent_sample.to(self.model.dtype), return_dict=False)[0]
        return output.float()


def export_text_encoder(model: Any, path: Path, precision: str = "fp32") -> EngineSpec:
    """Export CLIP's text model with a free batch."""
    ids = torch.randint(0, model.config.vocab_size, (2, WINDOW), generator=_seed())
    axes = {"input_ids": {0: "batch"}}
    outputs = ("last_hidden_state", "pooler_output")
    return export_graph(TextEncoder(model), {"input_ids": ids}, axes, outputs, path, precision=precision)


def export_unet(
    model: Any, path: Path, latent_shape: Sequence[int], precision: str = "fp32", *, static: bool = False,
    fused: bool = False,
) -> EngineSpec:  # fmt: skip
    """Export the UNet with free batch, number of tokens and, where `example_latents` allows, height and width.

    ``fused`` writes attention as onnxruntime's own operator.
    """
    levels = len(model.config.block_out_channels)
    sample, free = example_latents(latent_shape, levels, static=static)
    width = model.config.cross_attention_dim
    timestep = torch.tensor(417.25)
    inputs = {"sample": sample, "timestep": timestep, "encoder_hidden_states": seeded(2, WINDOW, width)}
    axes = {"sample": {0: "batch"} | free, "timestep": {}, "encoder_hidden_states": {0: "batch", 1: "tokens"}}
    check = inputs | {"sample": seeded(1, *latent_shape), "encoder_hidden_states": seeded(1, 2 * WINDOW, width)}
    with fused_attention(model) if fused else nullcontext():
        return export_graph(Unet(model), inputs, axes, ("out_sample",), path, check=check, precision=precision)


def export_vae_decoder(
    model: Any, path: Path, latent_shape: Sequence[int], precision: str = "fp32", *, static: bool = False,
    fused: bool = False,
) -> EngineSpec:  # fmt: skip
    """Export the VAE's decoder with free batch, height and width; see `export_unet`."""
    sample, free = example_latents(latent_shape, 1, static=static)
    axes = {"latent_sample": {0: "batch"} | free}
    check = {"latent_sample": seeded(1, *latent_shape) if static else sample[:1]}
    with fused_attention(model) if fused else nullcontext():
        return export_graph(
            VaeDecoder(model), {"latent_sample": sample}, axes, ("sample",), path, check=check, precision=precision
        )


def example_latents(latent_shape: Sequence[int], levels: int, *, static: bool = False) -> tuple[Tensor, dict[int, str]]:
    """Latents to trace a network of so many levels with, and the names of their free height and width.

    Tracing mistakes a dimension that becomes 1 on some level, or equals another one, for a constant: the example is
    chosen large enough and not square, whatever the model's own size is. A size that the levels do not halve evenly is
    traced as it is, and stays fixed: diffusers takes another way through the network then.
    """
    channels, height, width = latent_shape
    multiple = 2 ** (levels - 1)
    if static or height % multiple or width % multiple:
        return seeded(2, channels, height, width), {}
    side = max(4 * multiple, 16)
    return seeded(2, channels, side, side + multiple * 2), {2: "latent_height", 3: "latent_width"}


def seeded(*shape: int) -> Tensor:
    """Normal numbers that are the same in every build."""
    return torch.randn(*shape, generator=_seed())


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def export_graph(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: DynamicAxes, outputs: Sequence[str], path: Path, *,
    check: Mapping[str, Tensor] | None = None, precision: str = "fp32",
) -> EngineSpec:  # fmt: skip
    """Export a module to an ONNX file, and write what it answers to some inputs beside it, for `verify`.

    Args:
        module: takes the inputs by position, in order; returns a tensor or a tuple of them. It ends in ``precision``.
        inputs: example inputs by name.
        axes: names of the free dimensions of each input.
        outputs: names of the outputs.
        path: where the graph goes; weights that do not fit into it go to ``<path>.data``.
        check: the inputs to answer, with the module as it was given; the example inputs if None.
        precision: ``fp32`` or ``fp16``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module.eval()
    _write_check(module, check or inputs, outputs, path.parent / CHECK)
    if precision == "fp16":
        module.half()
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    with torch.no_grad(), _silence():
        torch.onnx.export(
            module, tuple(inputs.values()), path, dynamo=True, opset_version=OPSET,
            input_names=list(inputs), output_names=list(outputs), dynamic_shapes=axes,
            external_data=size > MAX_INLINE_BYTES, verbose=False,
        )  # fmt: skip
    model = onnx.load(path, load_external_data=False)
    strip_metadata(model)
    onnx.save(model, path)
    return describe(model, path)


def _write_check(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    with torch.no_grad():
        answers = module(*inputs.values())
    answers = answers if isinstance(answers, tuple) else (answers,)
    named = zip(outputs, (answer.numpy() for answer in answers), strict=True)
    write_check(path, {name: value.numpy() for name, value in inputs.items()}, dict(named))


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph whose weights are in memory, large ones into ``<path>.data``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = model.ByteSize() > MAX_INLINE_BYTES
    onnx.save(model, path, save_as_external_data=large, location=f"{path.name}.data", size_threshold=1024)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop stack traces and the like: they name files of the build machine and differ from build to build."""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        for item in (graph, *graph.node, *graph.value_info):
            del item.metadata_props[:]
            item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def share_nodes(
    first: onnx.ModelProto, second: onnx.ModelProto, *, at_least: tuple[str, int]
) -> onnx.ModelProto | None:
    """One graph with the outputs of two that have the same single input, in which equal computations are done once.

    Nodes are equal if they do the same with equal inputs; weights are equal if all their bytes are.

    Args:
        first, second: graphs; ``first`` is changed and returned.
        at_least: the type and number of nodes that must turn out equal, or None is returned.
    """
    graph = first.graph
    renamed = {second.graph.input[0].name: graph.input[0].name}
    weights = {_content(tensor): tensor.name for tensor in graph.initializer}
    for tensor in second.graph.initializer:
        content = _content(tensor)
        if content not in weights:
            weights[content] = f"second.{tensor.name}"
            graph.initializer.append(tensor)
            graph.initializer[-1].name = weights[content]
        renamed[tensor.name] = weights[content]
    done = {_computation(node): node for node in graph.node}
    outputs = {output.name for output in second.graph.output}
    equal = 0
    for node in second.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        twin = done.get(_computation(node))
        if twin is not None and not outputs & set(node.output):
            renamed |= dict(zip(node.output, twin.output, strict=True))
            equal += node.op_type == at_least[0]
            continue
        fresh = [name if name in outputs else f"second.{name}" for name in node.output]
        renamed |= dict(zip(node.output, fresh, strict=True))
        node.output[:] = fresh
        node.name = f"second.{node.name}"
        graph.node.append(node)
    del graph.value_info[:]
    graph.output.extend(second.graph.output)
    return first if equal >= at_least[1] else None


def _content(tensor: onnx.TensorProto) -> tuple[Any, ...]:
    data = onnx.numpy_helper.to_array(tensor)
    return tensor.data_type, data.shape, hashlib.sha256(data.tobytes()).digest()


def _computation(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))
    return node.op_type, node.domain, tuple(node.input), attributes


def describe(model: onnx.ModelProto, path: Path, contract: str | None = None) -> EngineSpec:
    """The manifest entry of a graph; the path is relative to the bundle only once the builder makes it so."""
    kind = contract or path.parent.name
    floats = {onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.FLOAT: "fp32"}
    kinds = {i.data_type for i in model.graph.initializer} & set(floats)
    precision = floats[min(kinds, key=list(floats).index)] if kinds else "fp32"
    inputs, outputs = tuple(map(_tensor, model.graph.input)), tuple(map(_tensor, model.graph.output))
    return EngineSpec(path.as_posix(), kind, precision, inputs, outputs)


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints its progress and warns about optional packages; neither helps a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
