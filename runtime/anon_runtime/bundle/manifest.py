"""The manifest of a bundle, ``bundle.json``: what each file is, and how to run it.

Everything that the runtime knows about names, shapes and defaults of a model comes from it.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from types import UnionType
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from ..errors import BundleError
from ..types import Sampler
from .integrity import REBUILD, FileRecord

MANIFEST = "bundle.json"
SCHEMA_VERSION = 3
OLD_SCHEMA_VERSION = 2  # of anon-engines 0.2; see `_modernize`
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype and shape of an engine's input or output; a string in the shape is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class EngineSpec:
    """One engine of a bundle.

    Attributes:
        path: the engine's file, relative to the bundle.
        signature: which pre- and post-processing belongs to it, such as ``unet`` or ``centerface``.
        precision: ``fp32``, ``fp16``, or ``fp16-weights``: weights in half precision, arithmetic in full.
        key: sha256 over everything that it was made from; the builder takes an engine over if its key is the same.
    """

    path: str
    signature: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    key: str = ""


@dataclass(frozen=True)
class GeneratorSpec:
    """Facts about the Stable Diffusion model.

    Attributes:
        height, width: of the images, in pixels.
        latent_channels: of the UNet's input.
        vae_scale_factor: pixels a latent, along each side.
        vae_scaling_factor: latents are divided by it before they are decoded.
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
        """Channels, height and width of one image's latents."""
        return self.latent_channels, self.height // self.vae_scale_factor, self.width // self.vae_scale_factor


@dataclass(frozen=True)
class Tables:
    """The baked sampler tables: their file, the timestep spacing they were made with, and what they cover."""

    path: str
    timestep_spacing: str
    samplers: tuple[str, ...]
    max_steps: int


@dataclass(frozen=True)
class Defaults:
    """What a run uses when the user says nothing.

    Attributes:
        sampler, steps, guidance_scale, batch_size: see `Settings`.
        guidance_batch: whether both halves of guidance run in one call.
    """

    sampler: Sampler = "dpmpp_sde"
    steps: int = 15
    guidance_scale: float = 7.5
    guidance_batch: bool = True
    batch_size: int = 1


@dataclass(frozen=True)
class Source:
    """Where the model came from.

    Attributes:
        model: ``demo``, a name on the hub, or the name of a local folder or file.
        revision: the commit on the hub.
        vae, vae_revision: likewise, if the VAE was replaced.
        files: the sha256 of every weight file.
    """

    model: str
    revision: str | None = None
    vae: str | None = None
    vae_revision: str | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineError:
    """How far an engine's output is from PyTorch's on seeded inputs: absolute differences, and the largest one as a
    share of the largest value.
    """

    max: float
    mean: float
    p999: float
    relative: float


@dataclass(frozen=True)
class Verification:
    """What the builder measured in the end: engines by role, and an image against diffusers (PSNR in dB)."""

    engines: dict[str, EngineError]
    image_psnr: float


@dataclass(frozen=True)
class Manifest:
    """The contents of ``bundle.json``.

    Attributes:
        target: what runs the engines: ``onnxruntime``, ``openvino``, ``tensorrt`` or ``tensorrt-rtx``.
        tools: versions of the packages that made them.
        key: sha256 over everything that the bundle was made from.
        gpu: the architecture that the engines were built for, such as ``sm_89``; None if any processor will do.
        verification: what was measured when the bundle was built; None if its engines could not run there.
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
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The manifest as it is written to disk."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parse a manifest.

        Raises:
            BundleError: it is no JSON, of another schema version, or lacks a field.
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
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(where, f"the manifest lacks or garbles a field ({error})", REBUILD) from None


def _modernize(data: dict[str, Any]) -> dict[str, Any]:
    """A manifest of version 2 with the names of version 3."""
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
        return data  # parsing it tells what it lacks


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


def _make(kind: type[T], fields: dict[str, Any]) -> T:
    """A dataclass from fields whose types are checked, as far as they are plain ones."""
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
    """Refuse paths that lead out of the bundle."""
    pure = PurePosixPath(_typed(path, str))
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"path {path!r} leads out of the bundle")
    return path
