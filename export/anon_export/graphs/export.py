"""torch modules -> ONNX graphs with the names that Optimum uses, and PyTorch's answers to seeded inputs beside them."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from anon_runtime.bundle.manifest import EngineSpec, TensorSpec
from anon_runtime.diffusion.text_encoder import WINDOW

from ..build.options import GraphOptions
from .attention import fused_attention
from .checks import CHECK, write_check
from .fp16_weights import store_as_fp16
from .winograd import use_winograd

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

    Args:
        deep: also return what comes out of all levels but the topmost, ``deep`` (n, channels, height, width).
    """

    def __init__(self, model: Any, *, deep: bool = False) -> None:
        super().__init__()
        self.model, self.deep = model, deep

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predict the noise in a sample."""
        kept: list[Tensor] = []
        block, dtype = self.model.up_blocks[-2], self.model.dtype
        hook = block.register_forward_hook(lambda _m, _a, output: kept.append(output)) if self.deep else None
        try:
            output = self.model(sample.to(dtype), timestep, encoder_hidden_states.to(dtype), return_dict=False)[0]
        finally:
            if hook is not None:
                hook.remove()
        return (output.float(), kept[0].float()) if self.deep else output.float()


class VaeDecoder(nn.Module):
    """Latents to images: ``latent_sample`` (n, c, h, w) -> ``sample`` (n, 3, H, W) in -1..1; float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode latents that were divided by the scaling factor."""
        output: Tensor = self.model.decode(latent_sample.to(self.model.dtype), return_dict=False)[0]
        return output.float()


def export_text_encoder(model: Any, path: Path, form: GraphOptions) -> EngineSpec:
    """Export CLIP's text model with a free batch."""
    ids = torch.randint(0, model.config.vocab_size, (2, WINDOW), generator=_seed())
    axes = {"input_ids": {0: "batch"}}
    outputs = ("last_hidden_state", "pooler_output")
    spec = export_graph(TextEncoder(model), {"input_ids": ids}, axes, outputs, path, precision=form.precision)
    return _finish(path, spec, form, {})


def export_unet(model: Any, path: Path, latent_shape: Sequence[int], form: GraphOptions) -> EngineSpec:
    """Export the UNet with free batch, number of tokens and, where `example_latents` allows, height and width."""
    levels = len(model.config.block_out_channels)
    sample, free = example_latents(latent_shape, levels, static=form.static)
    width = model.config.cross_attention_dim
    timestep = torch.tensor(417.25)
    inputs = {"sample": sample, "timestep": timestep, "encoder_hidden_states": seeded(2, WINDOW, width)}
    axes = {"sample": {0: "batch"} | free, "timestep": {}, "encoder_hidden_states": {0: "batch", 1: "tokens"}}
    check = inputs | {"sample": seeded(1, *latent_shape), "encoder_hidden_states": seeded(1, 2 * WINDOW, width)}
    with fused_attention(model) if form.fused else nullcontext():
        net, outputs = Unet(model, deep=form.deep), ("out_sample", "deep")[: 1 + form.deep]
        spec = export_graph(net, inputs, axes, outputs, path, check=check, precision=form.precision)
    return _finish(path, spec, form, dict.fromkeys(free.values(), 2 ** (levels - 1)))


def extract_cached(unet: Path, path: Path) -> EngineSpec:
    """The part of a UNet's graph that computes ``out_sample`` from its inputs and ``deep``; see `Unet`."""
    model = onnx.load(unet)
    inputs = [value.name for value in model.graph.input] + ["deep"]
    part = onnx.utils.Extractor(model).extract_model(inputs, ["out_sample"])
    save_graph(part, path)
    with np.load(unet.with_name(CHECK), allow_pickle=False) as kept:
        answered = {name: kept[f"input {name}"] for name in inputs[:-1]} | {"deep": kept["output deep"]}
        write_check(path.with_name(CHECK), answered, {"out_sample": kept["output out_sample"]})
    return describe(part, path, signature="unet_cached")


def export_vae_decoder(
    model: Any, path: Path, latent_shape: Sequence[int], form: GraphOptions, multiple: int = 1
) -> EngineSpec:
    """Export the VAE's decoder with free batch, height and width; see `export_unet`.

    In Winograd's form it takes latents whose height and width are multiples of ``multiple``.
    """
    sample, free = example_latents(latent_shape, 1, static=form.static)
    axes = {"latent_sample": {0: "batch"} | free}
    side = -(-16 // multiple) * multiple
    checked = seeded(1, *latent_shape) if form.static else seeded(1, latent_shape[0], side, side + multiple)
    check = {"latent_sample": checked}
    inputs = {"latent_sample": sample}
    with fused_attention(model) if form.fused else nullcontext():
        spec = export_graph(VaeDecoder(model), inputs, axes, ("sample",), path, check=check, precision=form.precision)
    return _finish(path, spec, form, dict.fromkeys(free.values(), multiple))


def _finish(path: Path, spec: EngineSpec, form: GraphOptions, smallest: Mapping[str, int]) -> EngineSpec:
    """Store weights in half precision and rewrite convolutions, as the form says.

    ``smallest`` are values of the free sizes of which all others are multiples.
    """
    if form.precision != "fp16-weights" and not form.winograd:
        return spec
    model = onnx.load(path)
    if form.precision == "fp16-weights":
        store_as_fp16(model)
    if form.winograd:
        use_winograd(model, smallest)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    save_graph(model, path)
    return replace(describe(model, path), precision=form.precision)


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
        precision: ``fp16`` for arithmetic in half precision.
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
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_INLINE_BYTES
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


def describe(model: onnx.ModelProto, path: Path, signature: str | None = None) -> EngineSpec:
    """The manifest entry of a graph; the path is relative to the bundle only once the builder makes it so."""
    kind = signature or path.parent.name
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
