"""ONNX graphs -> OpenVINO models."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from anon_runtime.backends.openvino import import_openvino, no_telemetry
from anon_runtime.bundle.manifest import EngineSpec, TensorSpec

from .shapes import Range

MODEL = "openvino_model.xml"
# Networks with more bytes of weights than this are compiled for one sample: at full size, the arithmetic of a single
# sample keeps all cores busy, and OpenVINO is a tenth faster where it knows all sizes.
LARGE = 2**26
ONE_BY_ONE = ("unet", "unet_cached", "vae_encoder", "vae_decoder")


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
    precise = _keep_time_precise(model) if spec.signature in ("unet", "unet_cached") else set()
    openvino.save_model(model, path, compress_to_fp16=False)
    _mark_precise(path, precise)
    for old in (graph, graph.with_name(f"{graph.name}.data")):
        old.unlink(missing_ok=True)
    return replace(spec, path=path.as_posix())


def _keep_time_precise(model: Any) -> set[str]:
    """Let a UNet's time embedding be computed in fp32, whatever the precision of the rest; returns these layers' names.

    A timestep of 917 has an error of up to 2 in bf16, and its sine and cosine are then those of another noise level:
    the outputs of Stable Diffusion 1.5's UNet with random weights were wrong by 35 %, and are by 2 % with this. The
    timestep is multiplied as it is, since OpenVINO would round what a reshape of it returns.
    """
    timestep = next(node for node in model.get_parameters() if "timestep" in node.get_output_tensor(0).get_names())
    names = set()
    for wave in (node for node in model.get_ops() if node.get_type_name() in ("Sin", "Cos")):
        angle = wave.input_value(0).get_node()
        names |= {wave.get_friendly_name(), angle.get_friendly_name()}
        for port in angle.inputs():
            if port.get_source_output().get_node().get_type_name() != "Constant":
                port.replace_source_output(timestep.output(0))
    model.validate_nodes_and_infer_types()
    return names


def _mark_precise(path: Path, names: Collection[str]) -> None:
    """Mark layers of a model's file with OpenVINO's own attribute ``precise``, which its Python API cannot set.

    Where OpenVINO writes the model again, the attribute is called ``DisablePrecisionConversion``.
    """
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in names:
            marks = ElementTree.Element("rt_info")
            ElementTree.SubElement(marks, "attribute", name="precise", version="0")
            layer.insert(0 if layer.find("data") is None else 1, marks)
    tree.write(path)


def _count_bytes(model: Any) -> int:
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def _single(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(t, shape=tuple(1 if size == "batch" else size for size in t.shape)) for t in tensors)


def _dimension(size: int | str) -> int:
    return size if isinstance(size, int) else -1
