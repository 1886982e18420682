"""The plan of a build: what its options mean on this machine, which components are kept, and which are built."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.identity import IdentitySpec
from anon_runtime.bundle.integrity import find_damages, sha256_all
from anon_runtime.bundle.manifest import GeneratorSpec, Source
from anon_runtime.errors import BundleError

from ..component import Component
from ..generator import generator_components, generator_spec, loop_component
from ..models.model import Model
from ..models.sources import find_model
from ..targets import TARGETS, TargetName
from .cache_keys import bundle_code, component_key, digest, engine_code, image_code, quantization_code
from .options import BuildOptions, FaceNetworks
from .requirements import check_requirements
from .staging import check_place
from .verify import REFERENCE_IMAGE, REQUEST, SETTINGS, read_image_key

if TYPE_CHECKING:
    from ..identity import Encoder  # it imports onnx, which may be missing until `check_requirements` has said so

TOOLS = ("anon-engines", "diffusers", "onnx", "onnxscript", "torch", "torchsde", "transformers")


@dataclass(frozen=True)
class BuildStep:
    """One component, its key, and the files of the old bundle that replace its build."""

    component: Component
    key: str
    kept: tuple[str, ...] = ()

    @property
    def action(self) -> Literal["keep", "build"]:
        """What happens to the component."""
        return "keep" if self.kept else "build"

    def estimate(self, target: TargetName) -> int:
        """Bytes that the component's engines take, approximately. Converting one also needs room for its graph."""
        share = 0.5 if self.component.precision.startswith("fp16") else 1.0  # int8 is written in fp32 first
        return int(self.component.size * share * (1 if target == "onnxruntime" else 2))


@dataclass(frozen=True)
class BuildPlan:
    """The options of a build with everything that is known before anything is built.

    Attributes:
        options: the user's choices.
        folder: where the bundle goes.
        model, source: the model on this disk, and its record for the manifest.
        generator: facts about the model that the runtime needs.
        identity: facts about the face-recognition network; None if there is none.
        steps: one for each component.
        tools: names and versions of the packages that take part.
        key: of the whole bundle.
        copied: sha256 over the model's files that are copied unchanged.
        old: the bundle that is there already, if any.
        damaged: its files that are not as they were built.
        gpu: the architecture that the engines are for; None if they run on any processor.
        pipeline: loads diffusers' pipeline of the model, and keeps it until its cache is cleared.
    """

    options: BuildOptions
    folder: Path
    model: Model
    source: Source
    generator: GeneratorSpec
    identity: IdentitySpec | None
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

    @property
    def size(self) -> int:
        """Bytes of the engines that are to be built, approximately."""
        return sum(step.estimate(self.options.target) for step in self.steps if not step.kept)

    def image_key(self, timestep_spacing: str) -> str:
        """sha256 over everything that the image by diffusers depends on."""
        steps = [step.key for step in self.steps if step.component.name in ("text_encoder", "unet", "vae_decoder")]
        settings = [repr(REQUEST), repr(SETTINGS), timestep_spacing, vars(self.generator)]
        return digest([*steps, *settings, self.copied, image_code()])

    def keeps_image(self, timestep_spacing: str) -> bool:
        """Whether the old bundle holds the image that diffusers would generate."""
        if self.old is None or REFERENCE_IMAGE in self.damaged:
            return False
        return read_image_key(self.old.path) == self.image_key(timestep_spacing)


def prepare(options: BuildOptions, scratch: Path) -> BuildPlan:
    """Find out everything that can be known of a build before anything is built.

    Args:
        options: what to build.
        scratch: a folder for files that the model lacks. It has to exist as long as the plan is used.

    Raises:
        AnonError: the build is not possible.
    """
    options.check()
    check_requirements(options)
    check_place(options.folder)
    target = TARGETS[options.target]
    gpu = target.architecture(options.gpu)
    # What they lack is noticed before the model is downloaded.
    faces, encoder = _face_components(options.face_networks), find_encoder(options)
    model = locate_model(options, scratch)
    source, generator = model.source(), generator_spec(model, options.height, options.width)
    tools = {tool: version(tool) for tool in TOOLS} | target.tools()
    pipeline = cache(lambda: _load_pipeline(model))
    components = [
        *generator_components(model, source, pipeline, generator.latent_shape, options.graph_options),
        *([loop_component(generator)] if gpu else []),
        *faces,
        *_second_detector_components(options.face_networks),
        *_identity_components(encoder),
    ]
    ranges = str(options.shapes) if gpu else ""
    common = {"target": options.target, "gpu": gpu, "ranges": ranges, "tools": tools, "code": engine_code()}
    old = read_bundle(options.folder)
    damaged = find_damages(old.path, old.manifest.files) if old is not None else {}
    copied = digest(sorted(sha256_all(model.copied).values()))
    keys = {component.name: component_key(component, common) for component in components}
    if options.needs_nncf:
        tools |= {"nncf": version("nncf")}
    if options.reduced:
        keys["unet"] = _reduced_key(keys, options, copied, tools)
    steps = tuple(_step(component, keys[component.name], old, damaged) for component in components)
    identity = None if encoder is None else encoder.spec
    named = [options.bundle_name, options.timestep_spacing]
    rest = [*named, copied, vars(generator), vars(source), repr(identity), bundle_code()]
    return BuildPlan(
        options=options,
        folder=options.folder,
        model=model,
        source=source,
        generator=generator,
        identity=identity,
        steps=steps,
        tools=tools,
        key=digest([*(step.key for step in steps), *rest]),
        copied=copied,
        old=old,
        damaged=damaged,
        gpu=gpu,
        pipeline=pipeline,
    )


def locate_model(options: BuildOptions, scratch: Path) -> Model:
    """The model of a build; see `prepare` for the arguments and errors."""
    if options.model != "demo":
        return find_model(
            options.model,
            scratch,
            vae=options.vae,
            revision=options.revision,
            allow_pickle=options.allow_pickle,
        )
    from ..demo.weights import write_demo

    write_demo(scratch / "demo")
    return find_model(str(scratch / "demo"), scratch, vae=options.vae, allow_pickle=options.allow_pickle)


def _load_pipeline(model: Model) -> Any:
    from ..models.loading import load_pipeline

    return load_pipeline(model)


def _face_components(networks: FaceNetworks) -> list[Component]:
    if networks == "none":
        return []
    if networks == "demo":
        from ..demo.faces import face_components
    else:
        from ..faces import face_components
    return face_components()


def _second_detector_components(networks: FaceNetworks) -> list[Component]:
    """The detector that is not among the networks themselves; none where it cannot be had."""
    if networks == "none":
        return []
    from ..second_detector import centerface_component, retinaface_component

    second = retinaface_component() if networks == "demo" else centerface_component()
    return [] if second is None else [second]


def _identity_components(encoder: "Encoder | None") -> list[Component]:
    if encoder is None:
        return []
    from ..identity import identity_component

    return [identity_component(encoder)]


def find_encoder(options: BuildOptions) -> "Encoder | None":
    """The face-recognition network of a build; None if it reads no faces.

    Raises:
        AnonError: the network's file is missing.
    """
    if options.face_networks == "none":
        return None
    from ..identity import Encoder, find_sface

    if options.identity is None:
        return find_sface()
    return Encoder(
        options.identity,
        options.identity.stem,
        options.identity_size,
        options.identity_mean,
        options.identity_std,
        options.identity_template,
    )


def _reduced_key(keys: Mapping[str, str], options: BuildOptions, copied: str, tools: Mapping[str, str]) -> str:
    """The key of a UNet in bf16 or int8, which depends on everything that its calibration runs."""
    counts = [options.calibration_images, options.check_images]
    loop = [keys["text_encoder"], copied, options.timestep_spacing]
    return digest([keys["unet"], *loop, *counts, tools.get("nncf"), quantization_code()])


def read_bundle(folder: Path) -> Bundle | None:
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
