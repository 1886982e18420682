"""ONNX graphs -> engines of a target."""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anon_runtime.bundle import EngineSpec
from anon_runtime.errors import AnonError


def to_openvino(spec: EngineSpec) -> EngineSpec:
    """Convert an engine's graph to an OpenVINO model beside it, in full precision, and remove the graph."""
    import openvino

    logging.getLogger("openvino").setLevel(logging.ERROR)
    graph = Path(spec.path)
    model = openvino.convert_model(graph)
    path = graph.with_name("openvino_model.xml")
    openvino.save_model(model, path, compress_to_fp16=False)
    for old in (graph, graph.with_name(f"{graph.name}.data")):
        old.unlink(missing_ok=True)
    return replace(spec, path=path.as_posix())


TARGETS: dict[str, Callable[[EngineSpec], EngineSpec]] = {"onnxruntime": lambda spec: spec, "openvino": to_openvino}


def check_target(target: str) -> None:
    """Fail before any long work if a target's package is not installed.

    Raises:
        AnonError: says which extra to install.
    """
    if importlib.util.find_spec(target) is None:
        extra = {"onnxruntime": "cpu", "openvino": "openvino"}[target]
        raise AnonError(f"target {target}", f"package {target} is not installed", f"install `anon-engines[{extra}]`")
