"""What a plan means on this machine: which parts of a bundle are kept, which are made, and from what."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import GeneratorSpec, Source
from anon_runtime.errors import BundleError
from anon_runtime.bundle.integrity import find_damages, sha256_all

from . import verify
from .components import Component, generator_components
from .keys import bundle_code, digest, engine_code, image_code
from .packages import check_packages
from .options import BuildOptions
from ..models.sources import Model, find_model
from .staging import check_place
from ..targets import TARGETS

TOOLS = ("anon-engines", "diffusers", "onnx", "onnxscript", "torch", "torchsde", "transformers")


@dataclass(frozen=True)
class BuildStep:
    """A component of a plan, its key, and the files of the old bundle that make it unnecessary to build."""

    component: Component
    key: str
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildPlan:
    """A plan with all that is known before anything is built.

    Attributes:
        key: of the whole bundle.
        copied: sha256 over the model's files that are copied as they are.
        old: the bundle that is there already, if any.
        damaged: its files that are not as they were built.
        gpu: the architecture that the engines are for.
        pipeline: loads diffusers' pipeline of the model, and keeps it until its cache is cleared.
    """

    plan: BuildOptions
    model: Model
    source: Source
    generator: GeneratorSpec
    steps: tuple[BuildStep, ...]
    tools: dict[str, str]
    key: str
    copied: str
    old: Bundle | None
    damaged: Collection[str]
    gpu: str | None
    pipeline: Any

    @property
    def unchanged(self) -> bool:
        """Whether the bundle that is there already is the one that would be built."""
        return self.old is not None and not self.damaged and self.old.manifest.key == self.key

    def image_key(self, timestep_spacing: str) -> str:
        """sha256 over everything that the image by diffusers depends on."""
        steps = [step.key for step in self.steps if step.component.name in ("text_encoder", "unet", "vae_decoder")]
        asked = [repr(verify.REQUEST), repr(verify.SETTINGS), timestep_spacing, vars(self.generator)]
        return digest([*steps, *asked, self.copied, image_code()])

    def keeps_image(self, timestep_spacing: str) -> bool:
        """Whether diffusers would generate the image that the old bundle carries."""
        if self.old is None or verify.IMAGE in self.damaged:
            return False
        return verify.read_image_key(self.old.path) == self.image_key(timestep_spacing)

    @property
    def size(self) -> int:
        """Bytes that the engines to be built will take, about; converting one needs room for its graph as well."""
        return sum(estimate(step, self.plan.target) for step in self.steps if not step.kept)


def estimate(step: BuildStep, target: str) -> int:
    """Bytes that a component will take, about."""
    share = 1.0 if step.component.precision == "fp32" else 0.5
    return int(step.component.size * share * (1 if target == "onnxruntime" else 2))


def prepare(plan: BuildOptions, scratch: Path) -> BuildPlan:
    """All that can be known of a build before anything is built: what is kept, and what is made.

    Raises:
        AnonError: the plan cannot be carried out.
    """
    plan.check()
    check_packages(plan)
    check_place(plan.folder)
    target = TARGETS[plan.target]
    gpu = target.architecture(plan.gpu)
    faces = _face_components(plan)
    model = (
        _find_demo(scratch, plan)
        if plan.model == "demo"
        else find_model(plan.model, scratch, vae=plan.vae, revision=plan.revision, allow_pickle=plan.allow_pickle)
    )
    source, generator = model.source(), plan.generator(model)
    tools = {tool: version(tool) for tool in TOOLS} | target.tools()
    ranges = str(plan.shapes) if gpu else ""
    common = {"target": plan.target, "gpu": gpu, "ranges": ranges, "tools": tools, "code": engine_code()}
    pipeline = cache(lambda: _load(model))
    components = [*generator_components(model, source, pipeline, generator.latent_shape, plan.forms), *faces]
    old = _read(plan.folder)
    damaged = find_damages(old.path, old.manifest.files) if old is not None else {}
    steps = tuple(_step(component, component.key(common), old, damaged) for component in components)
    copied = digest(sorted(sha256_all(model.copied).values()))
    rest = [plan.name, plan.timestep_spacing, copied, vars(generator), vars(source), bundle_code()]
    key = digest([*(step.key for step in steps), *rest])
    return BuildPlan(plan, model, source, generator, steps, tools, key, copied, old, damaged, gpu, pipeline)


def _find_demo(scratch: Path, plan: BuildOptions) -> Model:
    from ..demo.weights import write_demo

    write_demo(scratch / "demo")
    return find_model(str(scratch / "demo"), scratch, vae=plan.vae, allow_pickle=plan.allow_pickle)


def _load(model: Model) -> Any:
    from ..models.loading import load_pipeline

    return load_pipeline(model)


def _face_components(plan: BuildOptions) -> list[Component]:
    if plan.faces == "none":
        return []
    if plan.faces == "demo":
        from ..demo.faces import face_components
    else:
        from ..faces import face_components
    return face_components()


def _read(folder: Path) -> Bundle | None:
    """The bundle that is there already; None if there is none that can be read."""
    try:
        return Bundle.read(folder)
    except BundleError:
        return None


def _step(component: Component, key: str, old: Bundle | None, damaged: Collection[str]) -> BuildStep:
    if old is None:
        return BuildStep(component, key)
    engines = old.manifest.engines
    files = tuple(name for name in old.manifest.files if name.startswith(f"{component.name}/"))
    same = all(role in engines and engines[role].key == key for role in component.roles)
    return BuildStep(component, key, files if same and not set(files) & set(damaged) else ())
