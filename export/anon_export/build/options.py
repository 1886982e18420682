"""The user's choices for a build, one field for each option of ``anon-export build``."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from anon_runtime.bundle.identity import Point
from anon_runtime.bundle.manifest import Choice
from anon_runtime.errors import UsageError

from ..graphs.options import FloatPrecision, GraphOptions, Precision, ReducedPrecision
from ..models.sources import ALIASES
from ..targets import TARGETS, TargetName
from ..targets.shapes import Range, Shapes

FaceNetworks = Literal["facer+deepface", "demo", "none"]
TimestepSpacing = Literal["linspace", "leading", "trailing"]
# Stable Diffusion 1.5 takes the paper's prompts in up to three windows of 77 tokens.
BATCH_SIZE, TEXT_WINDOWS = Range(1, 1, 4), Range(1, 2, 3)


@dataclass(frozen=True)
class BuildOptions:
    """What to build and where to put it.

    Attributes:
        model: ``demo``, an alias, a hub name, a folder in diffusers' layout, or a checkpoint file.
        name: of the bundle; None is the model's name.
        output: the folder that bundles are put in.
        faces: the networks that read faces; None is ``demo`` for the demo model and ``facer+deepface`` for others.
        target: the library that runs the engines.
        precision: of the text encoder and the UNet. Face engines stay fp32; with bf16 and int8, the text encoder does
            as well.
        vae_precision: of the VAE's decoder. The VAE of Stable Diffusion 1.5 overflows in fp16.
        timestep_spacing: overrides the one in the model's scheduler config.
        vae, revision, allow_pickle: see `models.sources.find_model`.
        height, width: of the images, in pixels; None is the model's own.
        static: fix the height and width of the latents in the graphs.
        winograd: write convolutions with fewer multiplications; None is where this is faster: for onnxruntime's
            arithmetic in fp32.
        deepcache: build what the runtime needs for DeepCache, see `anon_runtime.diffusion.acceleration`.
        cache_branch: where DeepCache cuts the UNet, see `GraphOptions`; None is 0, which leaves the least work.
        calibration_images: images whose calls of the UNet an int8 UNet is calibrated with.
        check_images: images that a UNet in bf16 or int8 is compared with the exact one on.
        batch_size, text_windows: the ranges that TensorRT's engines are built for.
        gpu: the architecture that TensorRT's engines are built for, such as ``sm_89``.
        identity: an ONNX file of a face-recognition network; None is SFace.
        identity_size: the side of its input, in pixels.
        identity_mean, identity_std: what it expects is (RGB 0..255 - mean) / std.
        identity_template: the five points of an aligned face in its input; None is ArcFace's, scaled to the size.
        choice: how the target was chosen, see `choose_target`; None if the user named it.
    """

    model: str
    name: str | None = None
    output: Path = Path("engines")
    faces: FaceNetworks | None = None
    target: TargetName = "onnxruntime"
    precision: Precision = "fp32"
    vae_precision: FloatPrecision = "fp32"
    timestep_spacing: TimestepSpacing | None = None
    vae: str | None = None
    revision: str | None = None
    allow_pickle: bool = False
    height: int | None = None
    width: int | None = None
    static: bool = False
    winograd: bool | None = None
    deepcache: bool = False
    cache_branch: int | None = None
    calibration_images: int = 4
    check_images: int = 16
    batch_size: Range = BATCH_SIZE
    text_windows: Range = TEXT_WINDOWS
    gpu: str | None = None
    identity: Path | None = None
    identity_size: int = 112
    identity_mean: float = 0.0
    identity_std: float = 1.0
    identity_template: tuple[Point, ...] | None = None
    choice: Choice | None = None

    @property
    def bundle_name(self) -> str:
        """The bundle's name: the chosen one, or that of the model's folder, file or hub name."""
        path = Path(self.model).resolve()  # "." is a folder with a name as well
        return self.name or (path.stem if path.is_file() else path.name)

    @property
    def folder(self) -> Path:
        """Where the bundle goes."""
        return self.output / self.bundle_name

    @property
    def face_networks(self) -> FaceNetworks:
        """The networks that read faces, with the default filled in."""
        return self.faces or ("demo" if self.model == "demo" else "facer+deepface")

    @property
    def graph_options(self) -> dict[str, GraphOptions]:
        """How the generator's graphs are written, by role."""
        for_onnxruntime = self.target in ("onnxruntime", "cuda")
        winograd = self.target == "onnxruntime" if self.winograd is None else self.winograd
        precisions: dict[str, Precision] = {
            "text_encoder": "fp32" if self.reduced else self.precision,
            "unet": self.precision,
            "vae_encoder": self.vae_precision,
            "vae_decoder": self.vae_precision,
        }
        return {
            role: GraphOptions(
                precision,
                static=self.static or TARGETS[self.target].one_size,
                fused_attention=for_onnxruntime,
                cuda=self.target == "cuda",
                winograd=winograd and precision != "fp16" and role != "text_encoder",
                cache_branch=(self.cache_branch or 0) if self.deepcache and role == "unet" else None,
            )
            for role, precision in precisions.items()
        }

    @property
    def reduced(self) -> bool:
        """Whether the UNet is reduced to bf16 or int8 after it was converted, and the damage is measured."""
        return self.precision in get_args(ReducedPrecision)

    @property
    def needs_nncf(self) -> bool:
        """Whether the UNet gets weights of 8 bits."""
        return self.reduced and self.precision != "bf16"

    @property
    def shapes(self) -> Shapes:
        """The batches and prompts that the engines are built for."""
        return Shapes(self.batch_size, self.text_windows)

    def check(self) -> None:
        """Refuse choices that are invalid or would have no effect.

        Raises:
            UsageError: names the option.
        """
        self._check_name()
        self._check_revision()
        self._check_identity()
        for_gpu = self.target in ("tensorrt", "tensorrt-rtx")
        if self.gpu is not None and not for_gpu:
            why, fix = f"engines for {self.target} are for no particular GPU", "tensorrt or tensorrt-rtx"
            raise UsageError(f"`gpu` {self.gpu}", why, f"leave it out, or choose `target` {fix}")
        if self.reduced and self.target != "openvino":
            raise UsageError(f"`precision` {self.precision}", "it is for OpenVINO", "add `target` openvino")
        if self.target == "cuda" and "fp16-weights" in (self.precision, self.vae_precision):
            why = "engines for cuda compute in the precision of their weights"
            raise UsageError("`precision` or `vae_precision` fp16-weights", why, "choose fp16 or fp32")
        if self.cache_branch is not None and not self.deepcache:
            why = "it says where DeepCache cuts the UNet"
            raise UsageError(f"`cache_branch` {self.cache_branch}", why, "add `deepcache`, or leave it out")
        if self.winograd and not any(options.winograd for options in self.graph_options.values()):
            why, fix = "it is for arithmetic in fp32", "leave it out, or leave one of the precisions at fp32"
            raise UsageError("`winograd`", why, fix)

    def _check_identity(self) -> None:
        if self.identity is None:
            own = (self.identity_size, self.identity_mean, self.identity_std, self.identity_template)
            if own != (112, 0.0, 1.0, None):
                why = "they describe the file that `identity` names, and there is none"
                raise UsageError("`identity_size` and its like", why, "name the file, or leave them out")
            return
        what = f"`identity` {self.identity}"
        if self.face_networks == "none":
            raise UsageError(what, "this build reads no faces", "choose other `faces`, or leave it out")
        if not self.identity.is_file():
            raise UsageError(what, "there is no such file", "check the path")
        if self.identity_size < 1 or self.identity_std == 0:
            why = "its size is at least 1 pixel, and its standard deviation is not 0"
            raise UsageError(what, why, "correct `identity_size` or `identity_std`")
        template = self.identity_template or ()
        if self.identity_template is not None and len(template) != 5:
            why = f"its template has {len(template)} points"
            raise UsageError(what, why, "give five: both eyes, the nose, both corners of the mouth")
        numbers = (self.identity_mean, self.identity_std, *(number for point in template for number in point))
        if not all(math.isfinite(number) for number in numbers):
            why = "its mean, its standard deviation or its template is not finite"
            raise UsageError(what, why, "correct `identity_mean`, `identity_std` or `identity_template`")

    def _check_name(self) -> None:
        name = self.bundle_name
        if not name or Path(name).name != name or name.startswith("."):
            why = "it is not a plain folder name; hidden folders are for unfinished builds"
            raise UsageError(f"`name` {name!r}", why, "choose a name without slashes that does not begin with a dot")

    def _check_revision(self) -> None:
        if self.revision is None:
            return
        what = f"`revision` {self.revision}"
        if self.model in ALIASES:
            fix = f"leave it out, or name the model by its place on the hub, {ALIASES[self.model][0][0]}"
            raise UsageError(what, f"{self.model} is pinned to one", fix)
        if self.model == "demo" or Path(self.model).expanduser().exists():
            fix = "leave it out, or name a model on the hub such as owner/model"
            raise UsageError(what, f"{self.model} is not on the hub", fix)
