"""ONNX graphs -> engines of a target, with one module for each library that makes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.types import Engine

from ..extras import installed_versions
from . import cuda, openvino, tensorrt
from .shapes import Range

TargetName = Literal["onnxruntime", "cuda", "openvino", "tensorrt", "tensorrt-rtx"]
Ranges = Mapping[str, Range]


@dataclass(frozen=True)
class Target:
    """The library that runs a bundle's engines.

    Attributes:
        package: the module that makes the engines.
        distributions: the names of its package on PyPI. The version of the installed one is part of an engine's key.
        extra: of this project that installs it.
        convert: a graph, the ranges of its free dimensions, and the GPU's architecture -> the engine, in the graph's
            place.
        architecture: the GPU that the user named, if any -> the GPU that engines are built for, ``any`` for each of
            NVIDIA's; None if any processor runs them.
        on_processor: loads an engine on a processor that cannot run it as it is, to compare it with PyTorch; None if it
            cannot be done.
        one_size: the engines generate images of one height and width, which are fixed in the graphs.
    """

    package: str
    distributions: tuple[str, ...]
    extra: str
    convert: Callable[[EngineSpec, Ranges, str | None], EngineSpec]
    architecture: Callable[[str | None], str | None] = lambda _: None
    on_processor: Callable[[Path], Engine] | None = None
    one_size: bool = False

    def tools(self) -> dict[str, str]:
        """Name and version of the installed package."""
        return installed_versions(self.distributions)


def _keep_graph(spec: EngineSpec, _ranges: Ranges, _gpu: str | None) -> EngineSpec:
    """onnxruntime runs the graphs themselves."""
    return spec


TARGETS: dict[TargetName, Target] = {
    "onnxruntime": Target("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "cpu", _keep_graph),
    "cuda": Target(
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu"),
        "cpu",
        cuda.convert,
        lambda _: cuda.ANY_GPU,
        cuda.load_on_processor,
        one_size=True,
    ),
    "openvino": Target("openvino", ("openvino",), "openvino", openvino.convert, one_size=True),
    "tensorrt": Target(
        "tensorrt",
        ("tensorrt",),
        "tensorrt",
        partial(tensorrt.convert, "tensorrt"),
        partial(tensorrt.architecture, "tensorrt"),
        one_size=True,
    ),
    "tensorrt-rtx": Target(
        "tensorrt_rtx_bindings",
        ("tensorrt_rtx_cu13_bindings",),
        "tensorrt-rtx",
        partial(tensorrt.convert, "tensorrt-rtx"),
        partial(tensorrt.architecture, "tensorrt-rtx"),
        one_size=True,
    ),
}
