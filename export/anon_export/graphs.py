"""torch modules -> ONNX graphs, with the names that Optimum uses."""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from anon_runtime.bundle import EngineSpec, TensorSpec
from anon_runtime.text import WINDOW

OPSET = 20
# Larger weights go into a file beside the graph, which an engine maps into memory instead of copying it.
MAX_INLINE_BYTES = 100_000_000

DynamicAxes = Mapping[str, Mapping[int, str]]


class TextEncoder(nn.Module):
    """CLIP's text model: ``input_ids`` (n, 77) -> ``last_hidden_state`` (n, 77, width), ``pooler_output``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids."""
        output = self.model(input_ids)
        return output.last_hidden_state, output.pooler_output


class Unet(nn.Module):
    """The denoiser: ``sample``, a scalar ``timestep``, ``encoder_hidden_states`` -> ``out_sample``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Predict the noise in a sample."""
        output: Tensor = self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return output


class VaeDecoder(nn.Module):
    """Latents to pictures: ``latent_sample`` (n, c, h, w) -> ``sample`` (n, 3, H, W) in -1..1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode latents that were divided by the scaling factor."""
        output: Tensor = self.model.decode(latent_sample, return_dict=False)[0]
        return output


def export_text_encoder(model: nn.Module, path: Path) -> EngineSpec:
    """Export CLIP's text model with a free batch."""
    ids = torch.randint(0, 1000, (2, WINDOW))
    axes = {"input_ids": {0: "batch"}}
    return export_graph(TextEncoder(model), {"input_ids": ids}, axes, ("last_hidden_state", "pooler_output"), path)


def export_unet(model: Any, path: Path, latent_shape: Sequence[int]) -> EngineSpec:
    """Export the UNet with free batch, number of tokens and, where `example_latents` allows, height and width."""
    sample, free = example_latents(latent_shape, len(model.config.block_out_channels))
    inputs = {
        "sample": sample,
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": torch.randn(2, WINDOW, model.config.cross_attention_dim),
    }
    axes = {"sample": {0: "batch"} | free, "timestep": {}, "encoder_hidden_states": {0: "batch", 1: "tokens"}}
    return export_graph(Unet(model), inputs, axes, ("out_sample",), path)


def export_vae_decoder(model: Any, path: Path, latent_shape: Sequence[int]) -> EngineSpec:
    """Export the VAE's decoder with free batch, height and width."""
    sample, free = example_latents(latent_shape, 1)
    return export_graph(
        VaeDecoder(model), {"latent_sample": sample}, {"latent_sample": {0: "batch"} | free}, ("sample",), path
    )


def example_latents(latent_shape: Sequence[int], levels: int) -> tuple[Tensor, dict[int, str]]:
    """Latents to trace a network of so many levels with, and the names of their free height and width.

    Tracing mistakes a dimension that becomes 1 on some level, or equals another one, for a constant: the example is
    chosen large enough and not square, whatever the model's own size is. A size that the levels do not halve evenly is
    traced as it is, and stays fixed: diffusers takes another way through the network then.
    """
    channels, height, width = latent_shape
    multiple = 2 ** (levels - 1)
    if height % multiple or width % multiple:
        return torch.randn(2, channels, height, width), {}
    side = max(4 * multiple, 16)
    return torch.randn(2, channels, side, side + multiple * 2), {2: "latent_height", 3: "latent_width"}


def export_graph(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: DynamicAxes, outputs: Sequence[str], path: Path
) -> EngineSpec:
    """Export a module to an ONNX file.

    Args:
        module: takes the inputs by position, in order; returns a tensor or a tuple of them.
        inputs: example inputs by name.
        axes: names of the free dimensions of each input.
        outputs: names of the outputs.
        path: where the graph goes; weights that do not fit into it go to ``<path>.data``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module.eval()
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
