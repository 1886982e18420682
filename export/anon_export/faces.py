"""facer's and DeepFace's networks as components of a bundle. The packages' own code loads their weights."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch
from torch import Tensor, nn

from anon_runtime.backends.base import load_engine
from anon_runtime.bundle.integrity import sha256_all
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.errors import AnonError
from anon_runtime.faces.attributes import ETHNICITIES

from .component import Component
from .graphs.export import engine_spec, export_graph, save_graph, seeded_normal, strip_metadata
from .graphs.merge import merge_graphs
from .graphs.reference_outputs import REFERENCE_OUTPUTS, merge_reference_outputs, write_reference_outputs
from .models.loading import loaded_by

DOWNLOAD_AGAIN = "delete the file and download it again"


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
        names: the names that the file may have.
        megabytes: its size.
        address: of the folder on the web that holds it.
        folder: the folder on this machine that it is looked for in.
    """

    names: tuple[str, ...]
    megabytes: int
    address: str
    folder: Callable[[], Path]

    def find(self) -> Path | None:
        """The file on this machine."""
        return next((path for name in self.names if (path := self.folder() / name).is_file()), None)


def _torch_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _deepface_folder() -> Path:
    return Path(os.getenv("DEEPFACE_HOME", str(Path.home()))) / ".deepface" / "weights"


_RETINAFACE = "https://github.com/elliottzheng/face-detection/releases/download/0.0.1"
_FACER = "https://github.com/FacePerceiver/facer/releases/download/models-v1"
_DEEPFACE = "https://github.com/serengil/deepface_models/releases/download/v1.0"
WEIGHTS = {
    "detector": Weights(("mobilenet0.25_Final.pth",), 2, _RETINAFACE, _torch_folder),
    "attributes": Weights(("face_attribute.farl.celeba.pt",), 343, _FACER, _torch_folder),
    "age": Weights(("age_model_weights.pth", "age_model_weights.onnx"), 538, _DEEPFACE, _deepface_folder),
    "race": Weights(("race_model_single_batch.pth", "race_model_single_batch.onnx"), 537, _DEEPFACE, _deepface_folder),
}


def find_weights() -> dict[str, Path]:
    """The files of weights, by the network that they belong to.

    Raises:
        AnonError: lists all missing files, before any long work.
    """
    found = {role: path for role, weights in WEIGHTS.items() if (path := weights.find())}
    missing = [
        f"{' or '.join(w.names)} ({w.megabytes} MB, {w.address}/{w.names[0]}, looked for in {w.folder()})"
        for role, w in WEIGHTS.items()
        if role not in found
    ]
    if missing:
        fix = "download them to these folders, or build with `faces` demo or `faces` none"
        raise AnonError("the face engines", f"missing weights: {'; '.join(missing)}", fix)
    return found


class Detector(nn.Module):
    """RetinaFace: ``image`` (n, 3, height, width) RGB 0..255 -> ``boxes``, ``scores``, ``landmarks`` of every prior."""

    mean: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """facer's ``batch_detect`` up to the network's outputs."""
        boxes, scores, landmarks = self.net(image - self.mean)
        return boxes, scores, landmarks


class Attributes(nn.Module):
    """FaRL: ``image`` (n, 3, 224, 224), aligned, CLIP-normalised -> ``probabilities`` (n, 40)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """The network and facer's sigmoid."""
        return torch.sigmoid(self.net(image))


class ChannelsLast(nn.Module):
    """DeepFace's networks: ``image`` (n, 224, 224, 3) BGR 0..1 -> probabilities (n, classes)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """As DeepFace's ``TorchDemography._predict_internal``."""
        output: Tensor = self.net(image.permute(0, 3, 1, 2))
        return output


def face_components() -> list[Component]:
    """The face engines of the paper.

    Raises:
        AnonError: a file of weights is missing.
    """
    found = find_weights()
    digests = sha256_all(list(found.values()))
    packages = {name: version(name) for name in ("pyfacer", "deepface")}

    def component(
        name: str, kinds: Sequence[str], roles: tuple[str, ...], export: Callable[[Path], dict[str, EngineSpec]]
    ) -> Component:
        material = {"weights": [digests[found[kind]] for kind in kinds], "packages": packages}
        size = sum(found[kind].stat().st_size for kind in kinds)
        return Component(f"faces/{name}", roles, material, size, "fp32", export)

    return [
        component("detector", ("detector",), ("face_detector",), export_detector),
        component("attributes", ("attributes",), ("face_attributes",), export_attributes),
        component("demography", ("age", "race"), ("face_age", "face_race"), export_demography),
    ]


def export_detector(folder: Path) -> dict[str, EngineSpec]:
    """Export facer's RetinaFace."""
    with cpu_only(), loaded_by("facer", "facer's weights", DOWNLOAD_AGAIN):
        from facer.face_detection import RetinaFaceDetector

        net = RetinaFaceDetector("mobilenet", model_path=str(WEIGHTS["detector"].find())).net
    inputs = {"image": seeded_normal(2, 3, 320, 256).sigmoid() * 255}
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    outputs: Sequence[str] = ("boxes", "scores", "landmarks")
    spec = export_graph(Detector(net), inputs, axes, outputs, folder / "model.onnx")
    return {"face_detector": replace(spec, signature="retinaface")}


def export_attributes(folder: Path) -> dict[str, EngineSpec]:
    """Export facer's FaRL with the CelebA head."""
    with cpu_only(), loaded_by("facer", "facer's weights", DOWNLOAD_AGAIN):
        from facer.face_attribute import FaRLFaceAttribute

        net = FaRLFaceAttribute("celeba/224", model_path=str(WEIGHTS["attributes"].find())).net
    inputs, axes = {"image": seeded_normal(2, 3, 224, 224)}, {"image": {0: "batch"}}
    return {"face_attributes": export_graph(Attributes(net), inputs, axes, ("probabilities",), folder / "model.onnx")}


@contextmanager
def cpu_only() -> Iterator[None]:
    """Keep facer on the CPU, where graphs are traced: it would move modules to a GPU and load tensors there."""
    load = partial(torch.load, map_location="cpu", weights_only=True)

    def load_on_cpu(path: Any, **_: Any) -> Any:
        return load(path)

    with mock.patch.object(nn.Module, "cuda", lambda module: module), mock.patch.object(torch, "load", load_on_cpu):
        yield


def export_demography(folder: Path) -> dict[str, EngineSpec]:
    """One engine for age and ethnicity if their networks begin with the same layers, otherwise two engines."""
    paths = {role: folder / role / "model.onnx" for role in ("age", "race")}
    classes = {"age": 101, "race": len(ETHNICITIES)}
    specs = {role: _export_deepface(role, path, classes[role]) for role, path in paths.items()}
    shared = merge_graphs(onnx.load(paths["age"]), onnx.load(paths["race"]), at_least=("Conv", 2))
    if shared is None:
        return {f"face_{role}": spec for role, spec in specs.items()}
    path = folder / "model.onnx"
    save_graph(shared, path)
    merge_reference_outputs([old.with_name(REFERENCE_OUTPUTS) for old in paths.values()], folder / REFERENCE_OUTPUTS)
    for old in paths.values():
        shutil.rmtree(old.parent)
    spec = engine_spec(shared, path)
    return {"face_age": spec, "face_race": spec}


def _export_deepface(role: str, path: Path, classes: int) -> EngineSpec:
    weights = WEIGHTS[role].find()
    output = f"{role}_probabilities"
    if weights is not None and weights.suffix == ".onnx":
        return convert_deepface_graph(weights, path, output, classes)
    os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "pytorch")
    with loaded_by("DeepFace", "DeepFace's weights", DOWNLOAD_AGAIN):
        from deepface.models.demography.pytorch import Age, Race

        net = {"age": Age, "race": Race}[role].load_model()
    return export_graph(ChannelsLast(net), _example_faces(), {"image": {0: "batch"}}, (output,), path)


def _example_faces() -> dict[str, Tensor]:
    return {"image": seeded_normal(2, 224, 224, 3).sigmoid()}


def convert_deepface_graph(source: Path, path: Path, output: str, classes: int) -> EngineSpec:
    """Write DeepFace's own ONNX file with this project's names and a free batch.

    Raises:
        AnonError: it does not map (n, 224, 224, 3) to (n, classes).
    """
    with loaded_by("DeepFace", "DeepFace's weights", DOWNLOAD_AGAIN):
        model = onnx.load(source)
        rename = {model.graph.input[0].name: "image", model.graph.output[0].name: output}
        for node in model.graph.node:
            node.input[:] = [rename.get(name, name) for name in node.input]
            node.output[:] = [rename.get(name, name) for name in node.output]
        for value in (model.graph.input[0], model.graph.output[0]):
            value.name = rename[value.name]
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        strip_metadata(model)
        save_graph(model, path)
        inputs = {"image": _example_faces()["image"].numpy()}
        outputs = load_engine("onnxruntime", path, "cpu")(inputs)
    write_reference_outputs(path.with_name(REFERENCE_OUTPUTS), inputs, outputs)
    shape = outputs[output].shape
    if shape != (2, classes):
        why = f"two images give {list(shape)} instead of [2, {classes}]"
        raise AnonError(str(source), why, "use the .pth file of the same name, or delete and download it again")
    return engine_spec(model, path)
