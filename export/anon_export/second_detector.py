"""The second face detector as a component: a network of another architecture than the bundle's first one.

It looks for faces that the first one has missed: CenterFace where facer's RetinaFace is the first one, and RetinaFace
where CenterFace is. Both were trained on WIDER FACE, so that they may still miss the same faces. The graphs are those
of a first detector, and the modules that write them are in the keys of all engines.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anon_runtime.bundle.integrity import sha256
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.faces.detection import SECOND_DETECTOR_ROLE

from .component import Component
from .demo.faces import export_centerface, find_centerface
from .extras import is_installed
from .faces import WEIGHTS, export_detector


def centerface_component() -> Component:
    """CenterFace as the second detector.

    Raises:
        AnonError: the package that carries it is not installed.
    """
    source = find_centerface()
    material = {"centerface": sha256(source)}
    return _component(material, source, lambda folder: export_centerface(source, folder / "model.onnx"))


def retinaface_component() -> Component | None:
    """RetinaFace as the second detector; None where facer, whose code builds it, or its weights are not."""
    weights = WEIGHTS["detector"].find()
    if weights is None or not is_installed("facer"):
        return None
    material = {"weights": sha256(weights), "packages": {"pyfacer": version("pyfacer")}}
    return _component(material, weights, lambda folder: export_detector(folder)["face_detector"])


def _component(material: Mapping[str, Any], weights: Path, export: Callable[[Path], EngineSpec]) -> Component:
    return Component(
        "faces/second_detector",
        (SECOND_DETECTOR_ROLE,),
        material,
        weights.stat().st_size,
        "fp32",
        lambda folder: {SECOND_DETECTOR_ROLE: export(folder)},
    )
