"""ONNX graphs -> OpenVINO models."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anon_runtime.backends.openvino import import_openvino, no_telemetry
from anon_runtime.bundle.manifest import EngineSpec, TensorSpec

from .shapes import Range

MODEL = "openvino_model.xml"
# Networks with more bytes of weights than this are compiled for one sample: at full size, the arithmetic of a single
# sample keeps all cores busy, and OpenVINO is a tenth faster where it knows all sizes.
LARGE = 2**26
ONE_BY_ONE = ("unet", "unet_cached", "vae_decoder")


def convert(spec: EngineSpec, _ranges: Mapping[str, Range], _gpu: str | None) -> EngineSpec:
    """Write an OpenVINO model beside a graph, in the graph's own precision, and remove the graph."""
    openvino = import_openvino()
    logging.getLogger("openvino").setLevel(logging.ERROR)
    graph = Path(spec.path)
    with no_telemetry():
        model = openvino.convert_model(graph)
    path = graph.with_name(MODEL)
    if spec.signature in ONE_BY_ONE and _count_bytes(model) > LARGE:
        spec = replace(spec, inputs=_single(spec.inputs), outputs=_single(spec.outputs))
        model.reshape({tensor.name: [_dimension(size) for size in tensor.shape] for tensor in spec.inputs})
    openvino.save_model(model, path, compress_to_fp16=False)
    for old in (graph, graph.with_name(f"{graph.name}.data")):
        old.unlink(missing_ok=True)
    return replace(spec, path=path.as_posix())


def _count_bytes(model: Any) -> int:
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def _single(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(t, shape=tuple(1 if size == "batch" else size for size in t.shape)) for t in tensors)


def _dimension(size: int | str) -> int:
    return size if isinstance(size, int) else -1
