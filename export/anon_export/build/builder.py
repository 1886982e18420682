"""The builder: components -> engines, tables and manifest, in a folder that appears whole or not at all.

The bundle that is there already is the cache: a component whose key is the same is taken over, file by file.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anon_runtime import Anonymizer
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.cuda import Cuda
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST, Defaults, EngineSpec, Manifest, Tables, Verification
from anon_runtime.errors import BackendError
from anon_runtime.bundle.integrity import FileRecord, sha256_all
from anon_runtime.diffusion.schedule import SAMPLERS

from . import verify
from .autotune import autotune
from ..disk import check_space
from .packages import check_packages
from .options import BuildOptions
from .staging import link, lock, staging
from ..targets import TARGETS
from .plan import BuildStep, BuildPlan, prepare

Report = Callable[[str, str], None]  # a component, and what happens to it


def build(plan: BuildOptions, report: Report = lambda _component, _state: None) -> Bundle:
    """Build a bundle; ``report`` is called as each component begins, and as it is done.

    A build that fails or dies leaves the bundle that was there before, or none. A second build of the same bundle
    waits for the first one.

    Raises:
        AnonError: the model cannot be loaded, an engine differs from PyTorch, or the bundle cannot be written.
    """
    check_packages(plan)  # the lock needs one of them
    with (
        tempfile.TemporaryDirectory() as scratch,
        lock(plan.folder, lambda: report("bundle", "waiting for another build of it")),
    ):
        work = prepare(plan, Path(scratch))
        if work.unchanged and work.old is not None:
            report("bundle", "unchanged")
            return work.old
        check_space(plan.output, work.size, f"bundle {plan.folder}")
        with staging(plan.folder) as folder:
            manifest = _write_engines(work, folder, report)
            report("files", "hashing")
            manifest = replace(manifest, files=_records(folder, work))
            manifest = replace(manifest, verification=_verify(Bundle(folder, manifest), work, report))
            (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return Bundle(plan.folder, manifest)


def _write_engines(work: BuildPlan, folder: Path, report: Report) -> Manifest:
    """Everything but the records of the files and the verification."""
    plan, old = work.plan, work.old
    report("tables", "writing")
    spacing, max_steps = _write_rest(work, folder)
    if old is not None and work.keeps_image(spacing):
        link(old.path / verify.IMAGE, folder / verify.IMAGE)
    else:
        # Before the graphs: exporting in half precision changes the pipeline.
        report("image", "generating with diffusers")
        _generate(work, spacing, folder)
    engines: dict[str, EngineSpec] = {}
    for step in work.steps:
        if step.kept and old is not None:
            report(step.component.name, "unchanged")
            for name in step.kept:
                link(old.path / name, folder / name)
            engines |= {role: old.manifest.engines[role] for role in step.component.roles}
        else:
            engines |= _make(step, work, folder, report)
    work.pipeline.cache_clear()
    return Manifest(
        name=plan.name,
        source=work.source,
        target=plan.target,
        tools=work.tools,
        generator=work.generator,
        tables=Tables("scheduler/tables.npz", spacing, SAMPLERS, max_steps),
        tokenizer="tokenizer/tokenizer.json",
        engines=engines,
        files={},
        key=work.key,
        gpu=work.gpu,
        defaults=_defaults(work, folder, engines["unet"], report),
    )


def _defaults(work: BuildPlan, folder: Path, unet: EngineSpec, report: Report) -> Defaults:
    """Of the bundle that was there if its UNet is the same; otherwise measured, or what a GPU's engines are for."""
    if work.gpu:
        return Defaults(batch_size=work.plan.batch_size.best)
    if work.old is not None and any(step.kept for step in work.steps if step.component.name == "unet"):
        return work.old.manifest.defaults
    report("defaults", "measuring")
    engine = load_engine(work.plan.target, folder / unet.path)
    return autotune(engine, unet, work.generator.latent_shape)


def _make(step: BuildStep, work: BuildPlan, folder: Path, report: Report) -> dict[str, EngineSpec]:
    """Export and convert one component; its entries for the manifest."""
    component, target = step.component, TARGETS[work.plan.target]
    report(component.name, "exporting")
    specs = component.export(folder / component.name)
    engines: dict[str, EngineSpec] = {}
    for role, spec in specs.items():
        twin = next((other for other in engines if specs[other].path == spec.path), None)
        if twin is not None:  # roles may share an engine
            engines[role] = engines[twin]
            continue
        if work.gpu and not runs_here(work.gpu):
            report(component.name, "checking the graph")
            graph = Path(spec.path)
            verify.check_engine(load_engine("onnxruntime", graph, "cpu"), spec, graph, role)
        report(component.name, "converting")
        made = target.convert(spec, work.plan.shapes.ranges(spec), work.gpu)
        engines[role] = replace(made, path=Path(made.path).relative_to(folder).as_posix(), key=step.key)
    return engines


def _generate(work: BuildPlan, spacing: str, folder: Path) -> None:
    from .reference import write_image

    g = work.generator
    write_image(work.pipeline(), spacing, folder, g.height, g.width, work.image_key(spacing))


def runs_here(gpu: str | None) -> bool:
    """Whether this machine can run the engines that were built for a GPU architecture."""
    try:
        return gpu is None or Cuda().architecture() == gpu
    except BackendError:
        return False


def _write_rest(work: BuildPlan, folder: Path) -> tuple[str, int]:
    """Tokenizer, scheduler and index; returns the timestep spacing and the highest number of steps."""
    from ..tables import MAX_STEPS, load_config, write_tables

    model = work.model
    _write_tokenizer(model.folders["tokenizer"], folder / "tokenizer")
    (folder / "scheduler").mkdir()
    shutil.copy(model.folders["scheduler"] / "scheduler_config.json", folder / "scheduler")
    shutil.copy(model.folders["unet"].parent / "model_index.json", folder)
    config = load_config(model.folders["scheduler"])
    return write_tables(config, folder / "scheduler" / "tables.npz", work.plan.timestep_spacing), MAX_STEPS


def _write_tokenizer(source: Path, folder: Path) -> None:
    """The model's own tokenizer files, and ``tokenizer.json``, which the runtime reads, beside them."""
    from transformers import CLIPTokenizerFast

    shutil.copytree(source, folder)
    fast = CLIPTokenizerFast.from_pretrained(source)
    backend = fast.backend_tokenizer
    backend.enable_padding(pad_id=fast.pad_token_id, pad_token=fast.pad_token)
    backend.save(str(folder / "tokenizer.json"))


def _verify(bundle: Bundle, work: BuildPlan, report: Report) -> Verification | None:
    """What the engines are worth; None if they cannot run here."""
    if not runs_here(work.gpu):
        return None
    return verify.verify(Anonymizer(bundle), lambda role: report("verification", role))


def _records(folder: Path, work: BuildPlan) -> dict[str, FileRecord]:
    """Size and sha256 of every file; those of files that were taken over are known."""
    known = work.old.manifest.files if work.old else {}
    kept = {name for step in work.steps for name in step.kept}
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    fresh = sha256_all([path for name, path in paths.items() if name not in kept])
    return {
        name: known[name] if name in kept else FileRecord(fresh[path], path.stat().st_size)
        for name, path in paths.items()
    }
