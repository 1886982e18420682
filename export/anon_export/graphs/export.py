"""PyTorch modules -> ONNX graphs, with reference outputs beside them."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from anon_runtime.bundle.manifest import EngineSpec, TensorSpec

from .options import Precision
from .reference_outputs import REFERENCE_OUTPUTS, write_reference_outputs

OPSET = 20
# Larger weights go into a file beside the graph, which an engine maps into memory instead of copying it.
MAX_INLINE_BYTES = 100_000_000

DynamicAxes = Mapping[str, Mapping[int, str]]


def export_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic_axes: DynamicAxes,
    outputs: Sequence[str],
    path: Path,
    *,
    reference_inputs: Mapping[str, Tensor] | None = None,
    precision: Precision = "fp32",
) -> EngineSpec:
    """Export a module to an ONNX file, and write reference outputs beside it for `verify`.

    Args:
        module: takes the inputs by position, in order, and returns a tensor or a tuple of them. With ``fp16``, its
            weights are converted in place.
        inputs: example inputs by name.
        dynamic_axes: the names of the free dimensions of each input.
        outputs: the names of the outputs.
        path: where the graph goes. Weights that do not fit into it go to ``<path>.data``.
        reference_inputs: the module's outputs for these are written, as it was given; None is the example inputs.
        precision: ``fp16`` for arithmetic in half precision.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module.eval()
    _write_reference_outputs(module, reference_inputs or inputs, outputs, path.parent / REFERENCE_OUTPUTS)
    if precision == "fp16":
        module.half()
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    with torch.no_grad(), _quiet_exporter():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dict(dynamic_axes),
            external_data=size > MAX_INLINE_BYTES,
            verbose=False,
        )
    model = onnx.load(path, load_external_data=False)
    strip_metadata(model)
    onnx.save(model, path)
    return engine_spec(model, path)


def _write_reference_outputs(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> None:
    with torch.no_grad():
        result = module(*inputs.values())
    tensors = result if isinstance(result, tuple) else (result,)
    named = {name: tensor.numpy() for name, tensor in zip(outputs, tensors, strict=True)}
    write_reference_outputs(path, {name: tensor.numpy() for name, tensor in inputs.items()}, named)


def seeded_normal(*shape: int) -> Tensor:
    """Normally distributed numbers that are the same in every build."""
    return torch.randn(*shape, generator=seeded_generator())


def seeded_generator() -> torch.Generator:
    """A random number generator that gives the same numbers in every build."""
    return torch.Generator().manual_seed(0)


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph whose weights are in memory. Large weights go into ``<path>.data``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_INLINE_BYTES
    onnx.save(model, path, save_as_external_data=large, location=f"{path.name}.data", size_threshold=1024)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove stack traces and similar metadata, which name files of the build machine and differ between builds."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        for item in (graph, *graph.node, *graph.value_info):
            del item.metadata_props[:]
            item.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def engine_spec(model: onnx.ModelProto, path: Path, signature: str | None = None) -> EngineSpec:
    """The manifest entry of a graph.

    Args:
        model: the graph.
        path: of its file. The builder makes it relative to the bundle.
        signature: names the meaning of inputs and outputs; None is the name of the graph's folder.
    """
    floats = {onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.FLOAT: "fp32"}
    found = {tensor.data_type for tensor in model.graph.initializer}
    precision = next((name for kind, name in floats.items() if kind in found), "fp32")
    inputs, outputs = tuple(map(_tensor_spec, model.graph.input)), tuple(map(_tensor_spec, model.graph.output))
    return EngineSpec(path.as_posix(), signature or path.parent.name, precision, inputs, outputs)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide the exporter's progress and its warnings about optional packages, which do not help users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
