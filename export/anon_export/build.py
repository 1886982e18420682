"""The builder: components -> engines, tables and manifest, in a folder that appears whole or not at all."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from anon_runtime import Anonymizer
from anon_runtime.backends import Engine, load_engine
from anon_runtime.bundle import MANIFEST, Bundle, Defaults, EngineSpec, FileRecord, Generator, Manifest, Tables, sha256
from anon_runtime.errors import OutputError
from anon_runtime.schedule import SAMPLERS
from anon_runtime.text import WINDOW

from . import faces as real_faces
from . import graphs
from .demo import faces as demo_faces
from .demo.generator import write_generator
from .sources import Components, load_folder
from .tables import MAX_STEPS, write_tables
from .targets import TARGETS, check_target
from .verify import verify

TOOLS = ("anon-engines", "diffusers", "onnx", "torch", "torchsde", "transformers")
Report = Callable[[str], None]
# How each kind of face engines is checked for what it needs, and built.
FACES: dict[str, tuple[Callable[[], object], Callable[[Path], dict[str, EngineSpec]]]] = {
    "demo": (demo_faces.find_centerface, demo_faces.build_faces),
    "facer+deepface": (real_faces.check_packages_and_weights, real_faces.build_faces),
}


@dataclass(frozen=True)
class Plan:
    """What to build: one field for every option of ``anon-export build``.

    Attributes:
        model: ``demo`` or a folder in diffusers' layout.
        name: of the bundle.
        output: the folder that bundles are put in.
        faces: ``demo``, ``facer+deepface`` or ``none``.
        target: what runs the engines: ``onnxruntime`` or ``openvino``.
        timestep_spacing: overrides the one in the model's scheduler config.
    """

    model: str
    name: str
    output: Path
    faces: str
    target: str = "onnxruntime"
    timestep_spacing: str | None = None


def build(plan: Plan, report: Report) -> Bundle:
    """Build a bundle; ``report`` is called with the name of each step as it starts.

    A build that fails or dies leaves the bundle that was there before, or none.

    Raises:
        AnonError: the model cannot be loaded, an engine differs from PyTorch, or the bundle cannot be written.
    """
    # Both fail before any long work.
    check_target(plan.target)
    if plan.faces in FACES:
        FACES[plan.faces][0]()
    with _staging(plan.output / plan.name) as folder:
        with tempfile.TemporaryDirectory() as scratch:
            components = _load(plan, Path(scratch), report)
            manifest = _write_engines(components, plan, folder, report)
            report("hashing")
            manifest = replace(manifest, files=_records(folder))
            report("verifying")
            verification = verify(Anonymizer(Bundle(folder, manifest)), components.pipeline)
        manifest = replace(manifest, verification=verification)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(plan.output / plan.name)


def _load(plan: Plan, scratch: Path, report: Report) -> Components:
    report("model")
    if plan.model != "demo":
        return load_folder(Path(plan.model))
    write_generator(scratch / "demo")
    return load_folder(scratch / "demo", name="demo")


def _write_engines(components: Components, plan: Plan, folder: Path, report: Report) -> Manifest:
    pipeline = components.pipeline
    generator = _generator(pipeline)
    shape = generator.latent_shape
    engines: dict[str, EngineSpec] = {}
    convert = TARGETS[plan.target]
    steps: dict[str, Callable[[Path], EngineSpec]] = {
        "text_encoder": lambda path: graphs.export_text_encoder(pipeline.text_encoder, path),
        "unet": lambda path: graphs.export_unet(pipeline.unet, path, shape),
        "vae_decoder": lambda path: graphs.export_vae_decoder(pipeline.vae, path, shape),
    }
    for role, export in steps.items():
        report(role)
        engines[role] = convert(export(folder / role / "model.onnx"))
        part = {"vae_decoder": "vae"}.get(role, role)
        shutil.copy(components.folder / part / "config.json", folder / role)
    report("guidance")
    one_batch = faster_in_one_batch(load_engine(plan.target, Path(engines["unet"].path)), engines["unet"], shape)
    if plan.faces in FACES:
        report("faces")
        faces = FACES[plan.faces][1](folder / "faces")
        files = {spec.path: spec for spec in faces.values()}  # roles may share an engine
        converted = {path: convert(spec) for path, spec in files.items()}
        engines |= {role: converted[spec.path] for role, spec in faces.items()}
    report("tables")
    _write_tokenizer(components, folder / "tokenizer")
    shutil.copytree(components.folder / "scheduler", folder / "scheduler")
    tables = folder / "scheduler" / "tables.npz"
    spacing = write_tables(pipeline.scheduler.config, tables, plan.timestep_spacing)
    shutil.copy(components.folder / "model_index.json", folder)
    return Manifest(
        name=plan.name,
        source=components.source,
        target=plan.target,
        tools={tool: version(tool) for tool in TOOLS},
        generator=generator,
        tables=Tables("scheduler/tables.npz", spacing, SAMPLERS, MAX_STEPS),
        tokenizer="tokenizer/tokenizer.json",
        engines={role: _relative(spec, folder) for role, spec in engines.items()},
        files={},
        defaults=Defaults(guidance_batch=one_batch),
    )


def faster_in_one_batch(unet: Engine, spec: EngineSpec, latent_shape: tuple[int, int, int]) -> bool:
    """Whether this machine runs guidance faster in one call of two samples than in two calls of one.

    The numbers are the same; the medians of five turns decide.
    """
    width = next(int(tensor.shape[-1]) for tensor in spec.inputs if tensor.name == "encoder_hidden_states")

    def seconds(batch: int, calls: int) -> float:
        inputs = {
            "sample": np.ones((batch, *latent_shape), np.float32),
            "timestep": np.array(500, np.float32),
            "encoder_hidden_states": np.ones((batch, WINDOW, width), np.float32),
        }
        start = time.perf_counter()
        for _ in range(calls):
            unet(inputs)
        return time.perf_counter() - start

    turns = [(seconds(2, 1), seconds(1, 2)) for _ in range(6)][1:]  # the first turn warms up
    return statistics.median(one for one, _ in turns) <= statistics.median(two for _, two in turns)


def _relative(spec: EngineSpec, folder: Path) -> EngineSpec:
    return replace(spec, path=Path(spec.path).relative_to(folder).as_posix())


def _generator(pipeline: Any) -> Generator:
    size = pipeline.unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    factor = pipeline.vae_scale_factor
    channels = pipeline.unet.config.in_channels
    return Generator(height * factor, width * factor, channels, factor, pipeline.vae.config.scaling_factor)


def _write_tokenizer(components: Components, folder: Path) -> None:
    """The model's own tokenizer files, and ``tokenizer.json``, which the runtime reads, beside them."""
    from transformers import CLIPTokenizerFast

    shutil.copytree(components.folder / "tokenizer", folder)
    fast = CLIPTokenizerFast.from_pretrained(components.folder / "tokenizer")
    backend = fast.backend_tokenizer
    backend.enable_padding(pad_id=fast.pad_token_id, pad_token=fast.pad_token)
    backend.save(str(folder / "tokenizer.json"))


def _records(folder: Path) -> dict[str, FileRecord]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): FileRecord(sha256(path), path.stat().st_size) for path in paths}


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A scratch folder beside the target that takes the target's place when the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        why, fix = error.strerror or str(error), "choose a folder that can be written with --output"
        raise OutputError(f"bundle {target}", why, fix) from None
    try:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        if target.exists():
            target.replace(scratch / "old")
        folder.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
