"""The builder: carries out a plan in a folder that becomes the bundle only when everything has succeeded.

The bundle that is there already is the cache: the files of a component whose key is the same are taken over.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from anon_runtime.backends.base import load_engine
from anon_runtime.backends.cuda import Cuda
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import FileRecord, sha256_all
from anon_runtime.bundle.manifest import MANIFEST, Defaults, EngineSpec, Manifest, Tables, Verification
from anon_runtime.errors import BackendError
from anon_runtime.types import SAMPLERS

from ..disk import check_space
from ..targets import TARGETS, cuda
from .autotune import autotune
from .options import BuildOptions
from .plan import BuildPlan, BuildStep, prepare
from .requirements import check_requirements
from .staging import link, lock, staging
from .verify import REFERENCE_IMAGE, check_engine, verify

Report = Callable[[str, str], object]  # a component, and what happens to it


def build(options: BuildOptions, report: Report = lambda _component, _state: None) -> Bundle:
    """Build a bundle.

    A build that fails or is killed leaves the bundle that was there before, or none. A second build of the same
    bundle waits for the first one.

    Args:
        options: what to build.
        report: called as each component begins, and whenever its state changes.

    Raises:
        AnonError: the model cannot be loaded, an engine differs from PyTorch, or the bundle cannot be written.
    """
    options.check()  # the lock needs a valid name
    check_requirements(options)  # the lock needs one of the packages
    with (
        tempfile.TemporaryDirectory() as scratch,
        lock(options.folder, lambda: report("bundle", "waiting for another build of it")),
    ):
        plan = prepare(options, Path(scratch))
        if plan.unchanged and plan.old is not None:
            report("bundle", "unchanged")
            return plan.old
        check_space(options.output, plan.size, f"bundle {plan.folder}")
        with staging(plan.folder) as folder:
            manifest = _write_bundle(plan, folder, report)
            report("files", "hashing")
            manifest = replace(manifest, files=_file_records(plan, folder))
            manifest = replace(manifest, verification=_verify(plan, Bundle(folder, manifest), report))
            (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return Bundle(plan.folder, manifest)


def _write_bundle(plan: BuildPlan, folder: Path, report: Report) -> Manifest:
    """Write everything but the manifest, and return it without file records and verification."""
    report("tables", "writing")
    tables = _write_model_files(plan, folder)
    _write_reference_image(plan, tables.timestep_spacing, folder, report)
    engines: dict[str, EngineSpec] = {}
    for step in plan.steps:
        if step.kept and plan.old is not None:
            engines |= _keep(step, plan.old, folder, report)
        else:
            engines |= _build(step, plan, folder, report)
    plan.pipeline.cache_clear()
    manifest = Manifest(
        name=plan.options.bundle_name,
        source=plan.source,
        target=plan.options.target,
        tools=plan.tools,
        generator=plan.generator,
        tables=tables,
        tokenizer="tokenizer/tokenizer.json",
        engines=engines,
        files={},
        key=plan.key,
        gpu=plan.gpu,
        defaults=_defaults(plan, folder, engines["unet"], report),
        identity=plan.identity,
        choice=plan.options.choice,
    )
    return _reduce(plan, Bundle(folder, manifest), report) if plan.options.reduced else manifest


def _write_model_files(plan: BuildPlan, folder: Path) -> Tables:
    """Write tokenizer, scheduler and index; returns the manifest entry of the sampler tables."""
    from ..tables import MAX_STEPS, load_config, write_tables

    model = plan.model
    _write_tokenizer(model.folders["tokenizer"], folder / "tokenizer")
    (folder / "scheduler").mkdir()
    shutil.copy(model.folders["scheduler"] / "scheduler_config.json", folder / "scheduler")
    shutil.copy(model.folders["unet"].parent / "model_index.json", folder)
    path, config = "scheduler/tables.npz", load_config(model.folders["scheduler"])
    spacing = write_tables(config, folder / path, plan.options.timestep_spacing)
    return Tables(path, spacing, SAMPLERS, MAX_STEPS)


def _write_tokenizer(source: Path, folder: Path) -> None:
    """Copy the model's own tokenizer files, and write ``tokenizer.json``, which the runtime reads, beside them."""
    from transformers import CLIPTokenizerFast

    shutil.copytree(source, folder)
    fast = CLIPTokenizerFast.from_pretrained(source)
    backend = fast.backend_tokenizer
    backend.enable_padding(pad_id=fast.pad_token_id, pad_token=fast.pad_token)
    backend.save(str(folder / "tokenizer.json"))


def _write_reference_image(plan: BuildPlan, timestep_spacing: str, folder: Path, report: Report) -> None:
    """Take over or generate the image by diffusers. The export in half precision changes the pipeline afterwards."""
    if plan.old is not None and plan.keeps_image(timestep_spacing):
        link(plan.old.path / REFERENCE_IMAGE, folder / REFERENCE_IMAGE)
        return
    from .reference import write_image

    report("image", "generating with diffusers")
    size, key = (plan.generator.height, plan.generator.width), plan.image_key(timestep_spacing)
    write_image(plan.pipeline(), timestep_spacing, folder, *size, key)


def _keep(step: BuildStep, old: Bundle, folder: Path, report: Report) -> dict[str, EngineSpec]:
    """Take over a component from the old bundle; its entries for the manifest."""
    report(step.component.name, "unchanged")
    for name in step.kept:
        link(old.path / name, folder / name)
    return {role: old.manifest.engines[role] for role in step.component.roles}


def _build(step: BuildStep, plan: BuildPlan, folder: Path, report: Report) -> dict[str, EngineSpec]:
    """Export and convert one component; its entries for the manifest."""
    component, target, here = step.component, TARGETS[plan.options.target], runs_here(plan.gpu)
    report(component.name, "exporting")
    specs = component.export(folder / component.name)
    engines: dict[str, EngineSpec] = {}
    for role, spec in specs.items():
        twin = next((other for other in engines if specs[other].path == spec.path), None)
        if twin is not None:  # two roles share one engine
            engines[role] = engines[twin]
            continue
        graph = Path(spec.path)
        if not here:
            report(component.name, "checking the graph")
            check_engine(load_engine("onnxruntime", graph, "cpu"), spec, graph, role)
        report(component.name, "converting")
        made = target.convert(spec, plan.options.shapes.ranges(spec), plan.gpu)
        if not here and target.on_processor is not None:
            # What is computed between the rounded weights stays in fp32 on a processor.
            precision = "fp16-weights" if spec.precision == "fp16" else spec.precision
            check_engine(target.on_processor(graph), replace(spec, precision=precision), graph, role)
        engines[role] = replace(made, path=Path(made.path).relative_to(folder).as_posix(), key=step.key)
    return engines


def _reduce(plan: BuildPlan, bundle: Bundle, report: Report) -> Manifest:
    """Reduce the UNet of a bundle that is exact otherwise, or take over what is known of one that was kept."""
    manifest = bundle.manifest
    if manifest.engines["unet"].precision == plan.options.precision:
        return replace(manifest, damage=plan.old.manifest.damage if plan.old else None)
    from ..quantization.bundle import reduce_bundle

    options = plan.options
    say = partial(report, options.precision)
    return reduce_bundle(bundle, options.precision, options.calibration_images, options.check_images, say)


def _defaults(plan: BuildPlan, folder: Path, unet: EngineSpec, report: Report) -> Defaults:
    """The old bundle's defaults if its UNet is the same; otherwise measured, or those that a GPU's engines are for."""
    if plan.gpu:
        return Defaults(batch_size=plan.options.batch_size.best)
    if plan.old is not None and any(step.kept for step in plan.steps if step.component.name == "unet"):
        return plan.old.manifest.defaults
    report("defaults", "measuring")
    engine = load_engine(plan.options.target, folder / unet.path)
    return autotune(engine, unet, plan.generator.latent_shape)


def runs_here(gpu: str | None) -> bool:
    """Whether this machine can run engines that were built for a GPU architecture."""
    try:
        if gpu == cuda.ANY_GPU:
            return cuda.runs_here()
        return gpu is None or Cuda().architecture() == gpu
    except BackendError:
        return False


def _verify(plan: BuildPlan, bundle: Bundle, report: Report) -> Verification | None:
    """The measured differences from PyTorch; None if the engines cannot run on this machine."""
    if not runs_here(plan.gpu):
        return None
    with Engines(bundle) as engines:
        return verify(engines, lambda role: report("verification", role))


def _file_records(plan: BuildPlan, folder: Path) -> dict[str, FileRecord]:
    """Size and sha256 of every file; those of files that were taken over are known already."""
    known = plan.old.manifest.files if plan.old else {}
    kept = {name for step in plan.steps for name in step.kept}
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    fresh = sha256_all([path for name, path in paths.items() if name not in kept])
    return {
        name: known[name] if name in kept else FileRecord(fresh[path], path.stat().st_size)
        for name, path in paths.items()
    }
