"""ONNX graphs -> OpenVINO models."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from anon_runtime.bundle.manifest import EngineSpec

from .shapes import Range


def convert(spec: EngineSpec, _ranges: Mapping[str, Range], _gpu: str | None) -> EngineSpec:
    """Write an OpenVINO model beside a graph, in the graph's own precision, and remove the graph."""
    import openvino

    logging.getLogger("openvino").setLevel(logging.ERROR)
    graph = Path(spec.path)
    model = openvino.convert_model(graph)
    path = graph.with_name("openvino_model.xml")
    openvino.save_model(model, path, compress_to_fp16=False)
    for old in (graph, graph.with_name(f"{graph.name}.data")):
        old.unlink(missing_ok=True)
    return replace(spec, path=path.as_posix())
