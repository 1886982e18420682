"""The manifest of a bundle, ``bundle.json``: it describes each file and how the engines are run.

The runtime takes all names, shapes and defaults of a model from the manifest.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from types import UnionType
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from ..errors import BundleError
from ..types import Sampler
from .identity import Calibration, IdentitySpec, Tail
from .integrity import REBUILD, FileRecord

MANIFEST = "bundle.json"
SCHEMA_VERSION = 3
OLD_SCHEMA_VERSION = 2  # the version of anon-engines 0.2; see `_modernize`
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorSpec:
    """The description of one input or output of an engine.

    Attributes:
        name: the name of the tensor.
        dtype: its numpy dtype, such as ``float32``.
        shape: its sizes; a string stands for a free dimension, such as the batch size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class EngineSpec:
    """The manifest's entry for one engine.

    Attributes:
        path: the engine's file, relative to the bundle.
        signature: the name of the engine's pre- and post-processing, such as ``unet`` or ``centerface``.
        precision: ``fp32``, ``fp16``, ``fp16-weights`` (weights in half precision, arithmetic in single precision),
            ``bf16``, ``int8``, ``int8-bf16`` (``int8`` with bf16 for the rest), or ``int8-weights`` (weights of 8 bits,
            arithmetic in single precision).
        inputs: the input tensors.
        outputs: the output tensors.
        key: the sha256 of everything that the engine was made from. The builder reuses an engine whose key is the same.
    """

    path: str
    signature: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    key: str = ""


@dataclass(frozen=True)
class GeneratorSpec:
    """Sizes and factors of the Stable Diffusion model.

    Attributes:
        height: the height of the images in pixels.
        width: the width of the images in pixels.
        latent_channels: the number of channels of the UNet's input.
        vae_scale_factor: the number of pixels for each latent, along each side.
        vae_scaling_factor: the latents are divided by this factor before they are decoded.

    Raises:
        ValueError: one of the numbers is not positive.
    """

    height: int
    width: int
    latent_channels: int
    vae_scale_factor: int
    vae_scaling_factor: float

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.latent_channels, self.vae_scale_factor, self.vae_scaling_factor) <= 0:
            raise ValueError("a size is not positive")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The number of channels, the height and the width of one image's latents."""
        return self.latent_channels, self.height // self.vae_scale_factor, self.width // self.vae_scale_factor


@dataclass(frozen=True)
class Tables:
    """The description of the sampler tables of a bundle.

    Attributes:
        path: the file of the tables, relative to the bundle.
        timestep_spacing: the spacing of the timesteps that the tables were made with, by diffusers' name.
        samplers: the samplers that there are tables for.
        max_steps: the largest number of steps that there are tables for.
    """

    path: str
    timestep_spacing: str
    samplers: tuple[str, ...]
    max_steps: int


@dataclass(frozen=True)
class Defaults:
    """The values that a run uses where the user has chosen none.

    Attributes:
        sampler: see `Settings`.
        steps: see `Settings`.
        guidance_scale: see `Settings`.
        guidance_batch: whether the positive and the negative prompt go through the UNet in one call.
        batch_size: the number of images that are generated together.
    """

    sampler: Sampler = "dpmpp_sde"
    steps: int = 15
    guidance_scale: float = 7.5
    guidance_batch: bool = True
    batch_size: int = 1


@dataclass(frozen=True)
class Source:
    """The origin of the model.

    Attributes:
        model: ``demo``, a name on the Hugging Face hub, or the name of a local folder or file.
        revision: the commit on the hub.
        vae: the same for the VAE, if it was replaced.
        vae_revision: the commit of the VAE on the hub.
        files: the sha256 of every weight file.
    """

    model: str
    revision: str | None = None
    vae: str | None = None
    vae_revision: str | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineError:
    """The differences between an engine's outputs and PyTorch's on inputs that are made from a seed.

    Attributes:
        max: the largest absolute difference.
        mean: the mean absolute difference.
        p999: the 99.9th percentile of the absolute differences.
        relative: the largest absolute difference divided by the largest absolute value of PyTorch's output.
    """

    max: float
    mean: float
    p999: float
    relative: float


@dataclass(frozen=True)
class Verification:
    """The results of the checks at the end of a build.

    Attributes:
        engines: the errors of the engines by role.
        image_psnr: the PSNR in dB of an image against the same image from diffusers.
    """

    engines: dict[str, EngineError]
    image_psnr: float


@dataclass(frozen=True)
class Damage:
    """The differences of a UNet in bf16 or int8 from the same UNet in fp32, measured when the bundle was built.

    Attributes:
        images: the number of images that were generated by both, from random prompts.
        rms: the timesteps of the loop, from the noisiest on, each with the root mean square of the difference of the
            outputs relative to that of the exact output.
        psnr: the median PSNR of the images against the exact ones, in dB.
        worst_psnr: the lowest PSNR.
        agreement: the share of the attributes that are read alike from both images; None if no faces could be read.
        one_face: the share of images with one face, of those whose exact image has one; None as above.
        float_layers: the names of the layers that are not quantized.
    """

    images: int
    rms: tuple[tuple[float, float], ...]
    psnr: float
    worst_psnr: float
    agreement: float | None
    one_face: float | None
    float_layers: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The measurement that a target was chosen with, see ``anon-export build --target auto``.

    Attributes:
        target: the target that was chosen.
        machine: the processor and the packages that were measured.
        seconds: of a part of the UNet, by target and precision, such as ``openvino fp32``. Those of bf16 and int8 are
            there to compare with: they change the images, and are not chosen.
    """

    target: str
    machine: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class LevelCost:
    """What images of one kind save and cost beside the exact images of the same requests.

    Attributes:
        speed: the time of the UNet for an exact image divided by that for one of these, the median over the images.
        psnr: the median PSNR of the images against the exact ones, in dB.
        agreement: the share of the attributes that are read alike from both images; None if no faces could be read.
        one_face: the share of images with one face, of those whose exact image has one; None as above.
    """

    speed: float
    psnr: float
    agreement: float | None
    one_face: float | None


@dataclass(frozen=True)
class LevelCosts:
    """The price of each level of fast mode with a bundle, see ``anon-export measure-levels``.

    Attributes:
        machine: the processor that the speeds were measured on.
        images: the number of images of each level.
        levels: the levels that the bundle has, by number.
        other_seeds: exact images of other seeds, as a measure of the others.
    """

    machine: str
    images: int
    levels: dict[str, LevelCost]
    other_seeds: LevelCost


@dataclass(frozen=True)
class Manifest:
    """The content of ``bundle.json``.

    Attributes:
        name: the name of the bundle.
        source: the origin of the model.
        target: the library that runs the engines: ``onnxruntime``, ``openvino``, ``tensorrt`` or ``tensorrt-rtx``.
        tools: the versions of the packages that made the engines.
        generator: sizes and factors of the Stable Diffusion model.
        tables: the description of the sampler tables.
        tokenizer: the file of the tokenizer, relative to the bundle.
        engines: the engines by role.
        files: the records of all files by path, relative to the bundle.
        key: the sha256 of everything that the bundle was made from.
        gpu: the GPU architecture that the engines were built for, such as ``sm_89``; None if they run on any processor.
        defaults: the values that a run uses where the user has chosen none.
        verification: what was measured when the bundle was built; None if that machine could not run the engines.
        identity: the face-recognition network that the guard uses; None if the bundle has none.
        damage: what a UNet in bf16 or int8 costs; None for other precisions.
        choice: how the target was chosen; None if the user named it.
        levels: the price of the levels of fast mode; None if it was not measured.
        schema_version: the version of the manifest's layout.
    """

    name: str
    source: Source
    target: str
    tools: dict[str, str]
    generator: GeneratorSpec
    tables: Tables
    tokenizer: str
    engines: dict[str, EngineSpec]
    files: dict[str, FileRecord]
    key: str = ""
    gpu: str | None = None
    defaults: Defaults = field(default_factory=Defaults)
    verification: Verification | None = None
    identity: IdentitySpec | None = None
    damage: Damage | None = None
    choice: Choice | None = None
    levels: LevelCosts | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the text of ``bundle.json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parse the text of a manifest.

        Args:
            text: the content of ``bundle.json``.
            where: the name of the file, for messages.

        Raises:
            BundleError: the text is not JSON, has another schema version, or a field is missing or has a wrong type.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(where, f"the manifest is not JSON ({error})", REBUILD) from None
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version == OLD_SCHEMA_VERSION:
            log.warning("%s is of anon-engines 0.2; build it again, since version 0.4 will not read it", where)
            data = _modernize(data)
        elif version != SCHEMA_VERSION:
            why = f"its schema version is {version!r}, this runtime reads {SCHEMA_VERSION}"
            raise BundleError(where, why, f"{REBUILD} of this version")
        try:
            return cls(
                name=_typed(data["name"], str),
                source=_make(Source, data["source"]),
                target=_typed(data["target"], str),
                tools=_typed(data["tools"], dict),
                generator=_make(GeneratorSpec, data["generator"]),
                tables=_tables(data["tables"]),
                tokenizer=_inside(data["tokenizer"]),
                engines={role: _engine(spec) for role, spec in _typed(data["engines"], dict).items()},
                files={_inside(path): _make(FileRecord, record) for path, record in data["files"].items()},
                key=_typed(data["key"], str),
                gpu=_typed(data["gpu"], str | None),
                defaults=_make(Defaults, data["defaults"]),
                verification=_verification(data["verification"]),
                identity=_identity(data.get("identity")),
                damage=_damage(data.get("damage")),
                choice=_choice(data.get("choice")),
                levels=_levels(data.get("levels")),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(where, f"the manifest lacks or garbles a field ({error})", REBUILD) from None


def _modernize(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a version 2 manifest with the names of version 3."""
    try:
        roles = {"unet_shallow": "unet_cached"}
        engines = {roles.get(role, role): dict(spec) for role, spec in data["engines"].items()}
        for spec in engines.values():
            signature = spec.pop("contract")
            spec["signature"] = roles.get(signature, signature)
        verification = data["verification"] and dict(data["verification"])
        if verification:
            verification["image_psnr"] = verification.pop("picture_psnr")
            verification["engines"] = {roles.get(role, role): e for role, e in verification["engines"].items()}
        return data | {"engines": engines, "verification": verification}
    except (KeyError, TypeError, AttributeError, ValueError):
        return data  # the parser then reports the field that is missing


def _engine(spec: dict[str, Any]) -> EngineSpec:
    def tensors(key: str) -> tuple[TensorSpec, ...]:
        return tuple(_make(TensorSpec, {**t, "shape": tuple(t["shape"])}) for t in spec[key])

    return _make(
        EngineSpec, {**spec, "path": _inside(spec["path"]), "inputs": tensors("inputs"), "outputs": tensors("outputs")}
    )


def _tables(data: dict[str, Any]) -> Tables:
    return _make(Tables, {**data, "path": _inside(data["path"]), "samplers": tuple(data["samplers"])})


def _verification(data: dict[str, Any] | None) -> Verification | None:
    if data is None:
        return None
    engines = {role: _make(EngineError, error) for role, error in data["engines"].items()}
    return Verification(engines, _typed(data["image_psnr"], float))


def _damage(data: dict[str, Any] | None) -> Damage | None:
    """Return the entry of a quantized UNet; other bundles have none."""
    if data is None:
        return None
    rms = tuple((_typed(timestep, float), _typed(error, float)) for timestep, error in data["rms"])
    layers = tuple(_typed(name, str) for name in data["float_layers"])
    return _make(Damage, {**data, "rms": rms, "float_layers": layers})


def _choice(data: dict[str, Any] | None) -> Choice | None:
    """Return how the target was chosen; bundles whose target was named have no such entry."""
    if data is None:
        return None
    seconds = {name: _typed(value, float) for name, value in _typed(data["seconds"], dict).items()}
    return _make(Choice, {**data, "seconds": seconds})


def _levels(data: dict[str, Any] | None) -> LevelCosts | None:
    """Return the price of fast mode; bundles that nobody has measured have no such entry."""
    if data is None:
        return None
    levels = {level: _make(LevelCost, cost) for level, cost in _typed(data["levels"], dict).items()}
    return _make(LevelCosts, {**data, "levels": levels, "other_seeds": _make(LevelCost, data["other_seeds"])})


def _identity(data: dict[str, Any] | None) -> IdentitySpec | None:
    """Return the entry of the face-recognition network; bundles of anon-engines 0.3 have none."""
    if data is None:
        return None
    template = tuple((float(x), float(y)) for x, y in data["template"])
    return _make(IdentitySpec, {**data, "template": template, "calibration": parse_calibration(data["calibration"])})


def parse_calibration(data: dict[str, Any] | None) -> Calibration | None:
    """Return the calibration of a face-recognition network from the fields of its JSON form; None stays None.

    Raises:
        KeyError: a field is missing.
        TypeError: a field has a wrong type.
        ValueError: no threshold can be found with its numbers.
    """
    if data is None:
        return None
    kinds = (("rates", float), ("thresholds", float), ("histogram", int))
    numbers = {name: tuple(_typed(number, kind) for number in data[name]) for name, kind in kinds}
    tails = {"tail": _make(Tail, data["tail"]), "resampled": tuple(_make(Tail, tail) for tail in data["resampled"])}
    return _make(Calibration, {**data, **numbers, **tails})


def _make(kind: type[T], fields: dict[str, Any]) -> T:
    """Create a dataclass from its fields; the types of the fields are checked if they are plain ones."""
    hints = get_type_hints(kind)
    return kind(**{name: _typed(value, hints[name]) for name, value in fields.items()})


def _typed(value: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{value!r} is none of {', '.join(get_args(hint))}")
        return value
    plain = hint if isinstance(hint, UnionType) else get_origin(hint) or hint
    allowed = (int, float) if plain is float else plain
    if not isinstance(value, allowed) or (isinstance(value, bool) and plain in (int, float)):
        raise TypeError(f"{value!r} is no {hint}")
    return value


def _inside(path: str) -> str:
    """Return a path of the manifest, unless it leads out of the bundle.

    Raises:
        TypeError: the path is not text.
        ValueError: the path is absolute or contains ``..``.
    """
    pure = PurePosixPath(_typed(path, str))
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"path {path!r} leads out of the bundle")
    return path
