"""The inputs of TensorRT's engines always lie inside the shapes that they are built for."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from anon_export import faces
from anon_export.build.options import BuildOptions
from anon_export.build.verify import REQUEST, SETTINGS
from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS
from anon_export.tables import MAX_STEPS
from anon_export.targets.shapes import Range, Shapes, profile_shapes
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.buffers import Buffer, Launch
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.onnxruntime import OrtMemory
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import EngineSpec, TensorSpec
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.diffusion.device_loop import ROLES as LOOP
from anon_runtime.diffusion.schedule import evaluations
from anon_runtime.errors import UsageError
from anon_runtime.faces.detection import DETECTORS, detect
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.pipeline import FolderRun
from anon_runtime.folder.writer import Output
from anon_runtime.types import Arrays, Engine

DEFAULT = BuildOptions("demo").shapes
SMALLEST = Shapes(Range(1, 1, 1), Range(1, 1, 1))


@st.composite
def ranges(draw: st.DrawFn, high: int) -> Range:
    """What ``--batch-size`` or ``--text-windows`` may be."""
    best = draw(st.integers(1, high))
    return Range(1, best, draw(st.integers(best, high)))


def check_shapes(spec: EngineSpec, shapes: Shapes, inputs: Mapping[str, Any]) -> None:
    """The inputs lie inside the profile of an engine."""
    assert set(inputs) == {tensor.name for tensor in spec.inputs}
    for tensor in spec.inputs:
        low, best, high = (np.array(sizes, int) for sizes in profile_shapes(tensor.shape, shapes.ranges(spec)))
        shape = np.shape(inputs[tensor.name])
        assert len(shape) == len(low)
        assert (low <= best).all()
        assert (best <= high).all()
        inside = (low <= shape).all() and (shape <= high).all()
        assert inside, f"{spec.signature} {tensor.name} {shape}: {low} to {high}"


class Answers:
    """Made-up outputs of the engines that read faces, by their signatures: one face in each photo."""

    def centerface(self, inputs: Mapping[str, Any]) -> Arrays:
        count, _, height, width = inputs["input.1"].shape
        maps = {
            name: np.zeros((count, depth, height // 4, width // 4), np.float32)
            for name, depth in (("537", 1), ("538", 2), ("539", 2), ("540", 10))
        }
        maps["537"][:, 0, 0, 0] = 1
        maps["538"] += np.float32(3)  # the logarithm of its size in cells
        maps["540"] += np.linspace(0, 1, 10, dtype=np.float32)[:, None, None] ** 2
        return maps

    def attributes(self, inputs: Mapping[str, Any]) -> Arrays:
        return {"probabilities": np.ones((len(inputs["image"]), 40), np.float32)}

    def demography(self, inputs: Mapping[str, Any]) -> Arrays:
        count = len(inputs["image"])
        return {"age_probabilities": np.ones((count, 101)) / 101, "race_probabilities": np.ones((count, 6))}

    def identity(self, inputs: Mapping[str, Any]) -> Arrays:
        return {"embedding": np.ones((len(inputs["image"]), 128), np.float32)}


class CheckedEngine:
    """An engine that checks the shapes of its inputs, and whose answers are made up."""

    def __init__(self, spec: EngineSpec, engines: "CheckedEngines") -> None:
        self._spec, self._engines = spec, engines
        self.memory = OrtMemory("cpu")
        self.outputs = {tensor.name: tensor for tensor in spec.outputs}

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        self._check(inputs)
        answers: Arrays = getattr(Answers(), self._spec.signature)(inputs)
        return answers

    def _check(self, inputs: Mapping[str, Any]) -> None:
        check_shapes(self._spec, self._engines.shapes, inputs)
        self._engines.used.add(self._spec.signature)

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Launch:
        assert set(outputs) == set(self.outputs)
        self._check({name: np.broadcast_to(np.float32(0), buffer.shape) for name, buffer in inputs.items()})

        def launch() -> None:
            self._engines.used.add(self._spec.signature)
            if "checks" in outputs:  # all evaluations and the image are finite
                self.memory.write(outputs["checks"], np.array([1000, 1]))

        return launch


class CheckedEngines(Engines):
    """Engines that check the shapes of their inputs and return made-up outputs."""

    def __init__(self, bundle: Bundle, shapes: Shapes) -> None:
        super().__init__(bundle)
        self.shapes, self.used = shapes, set[str]()

    def __getitem__(self, role: str) -> Engine:
        return CheckedEngine(self.bundle.spec(role), self)


FACES = ("face_detector", "face_attributes", "face_age", "face_race", "face_identity")
GENERATOR = ("text_encoder", "unet", "vae_decoder", *LOOP)
ROLES = (*GENERATOR, "unet_cached", "vae_encoder", *FACES)


@pytest.mark.packages
@pytest.mark.parametrize("shapes", [DEFAULT, SMALLEST, Shapes(Range(1, 4, 8), Range(1, 1, 2))])
@pytest.mark.parametrize("role", ROLES)
def test_checks_of_the_demo(rtx_bundle: Bundle, role: str, shapes: Shapes) -> None:
    assert set(rtx_bundle.manifest.engines) == set(ROLES)
    with np.load(rtx_bundle.engine_path(role).with_name(REFERENCE_OUTPUTS)) as arrays:
        inputs = {n.removeprefix("input "): arrays[n] for n in arrays.files if n.startswith("input ")}
    check_shapes(rtx_bundle.spec(role), shapes, inputs)


@pytest.mark.parametrize("shapes", [DEFAULT, SMALLEST])
def test_checks_of_facer_and_deepface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shapes: Shapes) -> None:
    """Stand-ins replace the packages' networks: the test is about the example inputs of the exports."""

    class FoundError(Exception):
        pass

    def export(
        _module: Any, inputs: Mapping[str, Any], axes: Mapping[str, Mapping[int, str]], _outputs: Any, path: Path
    ) -> EngineSpec:
        sizes = {name: [axes[name].get(i, size) for i, size in enumerate(a.shape)] for name, a in inputs.items()}
        signature = "retinaface" if path.parent.name == "detector" else path.parent.name
        tensors = tuple(TensorSpec(name, "float32", tuple(shape)) for name, shape in sizes.items())
        check_shapes(EngineSpec("", signature, "fp32", tensors, ()), shapes, inputs)
        raise FoundError

    monkeypatch.setattr(faces, "export_graph", export)
    network = SimpleNamespace(net=torch.nn.Identity(), load_model=torch.nn.Identity)
    modules: dict[str, dict[str, Any]] = {
        "facer": {},
        "facer.face_detection": {"RetinaFaceDetector": lambda *_, **__: network},
        "facer.face_attribute": {"FaRLFaceAttribute": lambda *_, **__: network},
        "deepface": {},
        "deepface.models": {},
        "deepface.models.demography": {},
        "deepface.models.demography.pytorch": {"Age": network, "Race": network},
    }
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    for name in ("age", "race"):
        (tmp_path / f"{name}.pth").touch()
        monkeypatch.setitem(
            faces.WEIGHTS, name, replace(faces.WEIGHTS[name], names=(f"{name}.pth",), folder=lambda: tmp_path)
        )
    for build, name in (
        (faces.export_detector, "detector"),
        (faces.export_attributes, "attributes"),
        (faces.export_demography, "demography"),
    ):
        with pytest.raises(FoundError):
            build(tmp_path / name)


@pytest.mark.packages
@given(batch=ranges(9), windows=ranges(3), data=st.data())
@settings(max_examples=40)
def test_images(rtx_bundle: Bundle, batch: Range, windows: Range, data: st.DataObject) -> None:
    """Guidance on, off, and between two noise levels; short prompts and long ones; any number of images."""
    acceleration, scale = (
        data.draw(st.sampled_from([level for level in FAST_LEVELS if level.cache_interval == 1])),
        data.draw(st.sampled_from([1.0, 7.5])),
    )
    words = st.integers(0, 75 * windows.high).map(lambda count: "cat " * count)
    prompts = data.draw(st.lists(st.tuples(words, words), min_size=1, max_size=batch.high))
    engines = CheckedEngines(rtx_bundle, Shapes(batch, windows))
    requests = [Request(*both, seed=k) for k, both in enumerate(prompts)]
    settings = Settings(steps=2, acceleration=acceleration, guidance_scale=scale)
    images = Anonymizer.of(engines, settings).generate(requests)
    assert len(images) == len(requests)
    assert engines.used == set(GENERATOR)


@pytest.mark.packages
@given(batch=ranges(4), windows=ranges(3))
def test_the_image_of_verify(rtx_bundle: Bundle, batch: Range, windows: Range) -> None:
    Anonymizer.of(CheckedEngines(rtx_bundle, Shapes(batch, windows)), SETTINGS).generate([REQUEST])


SIDES = st.one_of(st.integers(1, 40), st.integers(1, 3000))


@pytest.mark.packages
@given(sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4))
@example([(1, 20_000), (20_000, 1)])
@example([(12_240, 640), (480, 640), (480, 640), (480, 640)])
@settings(max_examples=60)
def test_photos_of_any_size(rtx_bundle: Bundle, sizes: list[tuple[int, int]]) -> None:
    engines, detector = CheckedEngines(rtx_bundle, Shapes(Range(1, 1, 4), Range(1, 1, 1))), DETECTORS["centerface"]
    photos = [np.broadcast_to(np.uint8(0), (*size, 3)) for size in sizes]
    assert len(detect(engines["face_detector"], detector, photos, detector.threshold)) == len(photos)


@pytest.mark.packages
@given(size=st.integers(1, 4), count=st.integers(1, 6), larger=st.integers(0, 2))
@settings(max_examples=25)
def test_folders(
    rtx_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, size: int, count: int, larger: int
) -> None:
    """Full batches, the last one, and one photo that is alone, which is worked on twice."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(count):
        Image.new("RGB", (60 + 40 * (k % 2), 80), (k, 0, 0)).save(folder / f"{k}.png")
    engines = CheckedEngines(rtx_bundle, Shapes(Range(1, size, size + larger), DEFAULT.windows))
    anonymizer = Anonymizer.of(engines, Settings(steps=1, guard="report"))
    run = FolderRun(anonymizer, Output.parse(folder / "out"), RunOptions(batch_size=size))
    records = list(run.records(list(find_photos([folder]))))
    assert [record.status for record in records] == ["ok"] * count, records
    faces = {"centerface", "attributes", "demography", "identity"}
    assert engines.used == faces | set(GENERATOR)


@pytest.mark.parametrize(("text", "values"), [("4", (1, 4, 4)), ("1", (1, 1, 1)), ("1:2:8", (1, 2, 8))])
def test_ranges(text: str, values: tuple[int, int, int]) -> None:
    assert Range.parse(text, "batch_size") == Range(*values)


@pytest.mark.parametrize("text", ["0", "2:1:4", "1:2", "a", "1:2:3:4", "-1", ""])
def test_ranges_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="`batch_size`"):
        Range.parse(text, "batch_size")


def test_ranges_that_leave_out_one() -> None:
    """A folder's last batch, a photo by itself and a short prompt need it."""
    with pytest.raises(UsageError, match=r"`batch_size` 2:4:8.*asked for one.*1:4:8"):
        Range.parse("2:4:8", "batch_size")


def test_shapes_of_each_engine() -> None:
    shapes = Shapes(Range(1, 2, 4), Range(1, 2, 3))

    def sizes(signature: str, *shape: int | str) -> tuple[list[int], list[int], list[int]]:
        return profile_shapes(shape, shapes.ranges(EngineSpec("x", signature, "fp32", (), ())))

    assert sizes("unet", "batch", 4, 64, 48) == ([1, 4, 64, 48], [4, 4, 64, 48], [8, 4, 64, 48])
    assert sizes("unet", "batch", "tokens", 768) == ([1, 77, 768], [4, 154, 768], [8, 231, 768])
    assert sizes("text_encoder", "batch", 77) == ([1, 77], [8, 77], [24, 77])
    assert sizes("vae_decoder", "batch", 4, 64, 48) == ([1, 4, 64, 48], [2, 4, 64, 48], [4, 4, 64, 48])
    assert sizes("vae_encoder", "batch", 3, 512, 384) == ([1, 3, 512, 384], [2, 3, 512, 384], [4, 3, 512, 384])
    noise = sizes("scheduler_step", "evaluations", "batch", 4)
    assert noise == ([1, 1, 4], [29, 2, 4], [evaluations("dpmpp_sde", MAX_STEPS), 4, 4])
    assert sizes("scheduler_step", "rows", 11) == ([2, 11], [30, 11], [noise[2][0] + 1, 11])
    assert sizes("centerface", "batch", 3, "height", "width")[2] == [4, 3, 640, 640]
    assert sizes("attributes", "batch", 3, 224, 224)[2] == [4, 3, 224, 224]
