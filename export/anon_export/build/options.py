"""What to build: the user's choices, and what follows from them before anything is made."""

from dataclasses import dataclass, replace
from pathlib import Path

from anon_runtime.bundle.manifest import GeneratorSpec
from anon_runtime.errors import UsageError

from ..models.sources import ALIASES, Model
from ..targets import TARGETS
from ..targets.shapes import Range, Shapes

# SD 1.5 takes the paper's prompts in up to three windows of 77 tokens.
BATCH, WINDOWS = Range(1, 1, 4), Range(1, 2, 3)


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is written.

    Attributes:
        precision: ``fp32``, ``fp16``, or ``fp16-weights``: weights in half precision, arithmetic in full.
        static: with the height and width of the latents fixed.
        fused: with attention as onnxruntime's own operator.
        winograd: with fewer multiplications in convolutions; see `winograd`.
        deep: of the UNet, with its deep features as an output, and a second graph with them as an input.
    """

    precision: str = "fp32"
    static: bool = False
    fused: bool = False
    winograd: bool = False
    deep: bool = False


@dataclass(frozen=True)
class BuildOptions:
    """One field for every option of ``anon-export build``.

    Attributes:
        model: ``demo``, an alias, a hub name, a folder in diffusers' layout, or a checkpoint file.
        name: of the bundle.
        output: the folder that bundles are put in.
        faces: ``demo``, ``facer+deepface`` or ``none``.
        target: what runs the engines; one of `targets.TARGETS`.
        precision: of the text encoder and the UNet; see `GraphOptions`. Face engines stay fp32.
        vae_precision: of the VAE's decoder, which overflows in half precision with the VAE of Stable Diffusion 1.5.
        timestep_spacing: overrides the one in the model's scheduler config.
        vae, revision, allow_pickle: see `sources.find_model`.
        height, width: of the images, in pixels; None is the model's own.
        static: fix the height and width of the latents in the graphs.
        winograd: write convolutions in Winograd's form; None is where it is faster: for onnxruntime's arithmetic in
            fp32.
        deepcache: build what the runtime needs to reuse deep features, see `anon_runtime.diffusion.acceleration`.
        batch_size, text_windows: the ranges that TensorRT's engines are built for.
        gpu: the architecture that they are built for, such as ``sm_89``.
    """

    model: str
    name: str
    output: Path
    faces: str
    target: str = "onnxruntime"
    precision: str = "fp32"
    vae_precision: str = "fp32"
    timestep_spacing: str | None = None
    vae: str | None = None
    revision: str | None = None
    allow_pickle: bool = False
    height: int | None = None
    width: int | None = None
    static: bool = False
    winograd: bool | None = None
    deepcache: bool = False
    batch_size: Range = BATCH
    text_windows: Range = WINDOWS
    gpu: str | None = None

    def check(self) -> None:
        """Refuse choices that would have no effect.

        Raises:
            UsageError: names the option.
        """
        own_gpu = self.target in ("tensorrt", "tensorrt-rtx")
        if self.revision is not None and self.model in ALIASES:
            why = f"{self.model} is pinned to one"
            fix = f"leave it out, or name the model by its place on the hub, {ALIASES[self.model][0][0]}"
            raise UsageError(f"--revision {self.revision}", why, fix)
        if self.revision is not None and (self.model == "demo" or Path(self.model).expanduser().exists()):
            fix = "leave it out, or name a model on the hub such as owner/model"
            raise UsageError(f"--revision {self.revision}", f"{self.model} is not on the hub", fix)
        if self.gpu is not None and not own_gpu:
            fix = "leave it out, or choose --target tensorrt or tensorrt-rtx"
            raise UsageError(f"--gpu {self.gpu}", f"engines for {self.target} are for no particular GPU", fix)
        if self.deepcache and own_gpu:
            raise UsageError("--deepcache", f"engines for {self.target} cannot", "choose onnxruntime or openvino")
        if self.winograd and not any(form.winograd for form in self.forms.values()):
            why, fix = "it is for arithmetic in fp32", "leave it out, or leave one of the precisions at fp32"
            raise UsageError("--winograd", why, fix)

    @property
    def folder(self) -> Path:
        """Where the bundle goes."""
        return self.output / self.name

    @property
    def forms(self) -> dict[str, GraphOptions]:
        """How the generator's graphs are written, by role."""
        ours, one_size = self.target == "onnxruntime", TARGETS[self.target].one_size
        wanted = ours if self.winograd is None else self.winograd
        precisions = {"text_encoder": self.precision, "unet": self.precision, "vae_decoder": self.vae_precision}
        return {
            role: GraphOptions(
                precision,
                self.static or one_size,
                fused=ours,
                winograd=wanted and precision != "fp16" and role != "text_encoder",
                deep=self.deepcache and role == "unet",
            )  # fmt: skip
            for role, precision in precisions.items()
        }

    def generator(self, model: Model) -> GeneratorSpec:
        """The facts that the runtime needs, from the model's configs.

        Raises:
            UsageError: the height or width does not suit the model.
        """
        unet, vae = model.config("unet"), model.config("vae")
        size = unet.get("sample_size", 64)
        rows, columns = (size, size) if isinstance(size, int) else size
        factor = 2 ** (len(vae.get("block_out_channels", (0,))) - 1)
        multiple = factor * 2 ** (len(unet.get("block_out_channels", (0,) * 4)) - 1)
        for option, side in {"--height": self.height, "--width": self.width}.items():
            if side is not None and (side < multiple or side % multiple):
                why = "the model halves images evenly only down from multiples of it"
                raise UsageError(f"{option} {side}", why, f"use a multiple of {multiple}")
        generator = GeneratorSpec(
            rows * factor, columns * factor, unet.get("in_channels", 4), factor, vae.get("scaling_factor", 0.18215)
        )
        return replace(generator, height=self.height or generator.height, width=self.width or generator.width)

    @property
    def shapes(self) -> Shapes:
        """What the engines are asked for."""
        return Shapes(self.batch_size, self.text_windows)
