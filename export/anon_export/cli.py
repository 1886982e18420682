"""The command ``anon-export``: its options, its exit codes, and errors as one line."""

import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import click

from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.identity import Point
from anon_runtime.errors import AnonError, UsageError, in_flags

from .build.options import BuildOptions, FaceNetworks, TimestepSpacing
from .console import (
    Progress,
    counting_bar,
    show_build,
    show_bundle,
    show_calibration,
    show_levels,
    show_plan,
    show_verification,
)
from .extras import explain_import_error
from .graphs.options import FloatPrecision, Precision
from .manifest_file import replace_manifest
from .targets import TargetName
from .targets.shapes import Range

# The target that suits a device best: of those for GPUs, the one that needs no further package and runs on all of them.
TARGET_FOR: dict[str, TargetName] = {"cpu": "onnxruntime", "cuda": "cuda"}
EPILOG = """\b
Examples:
  anon-export build demo                        the embedded model, to engines/demo
  anon-export build realistic-vision            the paper's model and VAE, from the hub
  anon-export build v1-5.safetensors --faces demo --vae stabilityai/sd-vae-ft-mse
                                                a checkpoint file with another VAE
  anon-export build realistic-vision --device cuda --deepcache
                                                for any NVIDIA GPU; the build needs none
  anon-export build realistic-vision --target tensorrt --precision fp16 --batch-size 1:4:8
                                                for this machine's GPU
  anon-export build realistic-vision --target auto
                                                the faster of onnxruntime and OpenVINO on this machine
  anon-export build realistic-vision --target openvino --precision int8 --deepcache
                                                the fastest engines for a processor, with a measured cost
  anon-export build demo --dry-run              what would be built, and how large it is
  anon-export verify engines/demo               compare a bundle with PyTorch's outputs
  anon-export inspect engines/demo              what a bundle holds
  anon-export calibrate-guard engines/demo faces/
                                                find the guard's thresholds on your own faces
  anon-export measure-levels engines/demo       what each level of `anon-run --fast` costs with a bundle

\b
Exit codes:
  0  the command has succeeded
  1  it has failed, or an engine differs from PyTorch; an existing bundle is not changed
  2  wrong usage
  130, 143  interrupted (Ctrl-C, SIGTERM); an existing bundle is not changed
"""
Device = Literal["cpu", "cuda", "tensorrt"]
PATH: Any = click.Path(path_type=Path)
FOLDER: Any = click.Path(path_type=Path, file_okay=False)


def _parse_range(_: click.Context, option: click.Parameter, value: str) -> Range:
    return Range.parse(value, str(option.name))


def _parse_points(_: click.Context, option: click.Parameter, value: str | None) -> tuple[Point, ...] | None:
    if value is None:
        return None
    try:
        return tuple((float(x), float(y)) for x, y in (point.split(",") for point in value.split()))
    except ValueError:
        raise click.BadParameter("write five points as 'x,y x,y x,y x,y x,y'", param=option) from None


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="anon-engines", prog_name="anon-export")
def command() -> None:
    """Turn Stable Diffusion 1.5 models and face networks into bundles of engines for `anon-run`."""


@command.command("build", epilog=EPILOG)
@click.argument("model")
@click.option("--name", help="Name of the bundle.  [default: the model's]")
@click.option(
    "--output",
    default=Path("engines"),
    show_default=True,
    type=FOLDER,
    help="Folder that bundles are put in. Unchanged parts of a bundle that exists there are not built again.",
)
@click.option(
    "--faces",
    type=click.Choice(get_args(FaceNetworks)),
    help="Networks that read faces: the paper's, the demo's, or none for generating from prompts only.  "
    "[default: demo for demo, otherwise facer+deepface]",
)
@click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="ONNX file of a face-recognition network, which the guard of `anon-run` compares faces with. Calibrate it "
    "with `anon-export calibrate-guard`.  [default: SFace]",
)
@click.option("--identity-size", type=int, default=112, show_default=True, help="Side of its input in pixels.")
@click.option(
    "--identity-mean", type=float, default=0.0, show_default=True, help="It expects (RGB 0..255 - mean) / std."
)
@click.option("--identity-std", type=float, default=1.0, show_default=True, help="See --identity-mean.")
@click.option(
    "--identity-template",
    callback=_parse_points,
    metavar="'X,Y X,Y ...'",
    help="Where the eyes, the nose and the corners of the mouth lie in its input, in pixels.  [default: ArcFace's]",
)
@click.option(
    "--device",
    type=click.Choice(list(TARGET_FOR)),
    help="What the engines are for, if you do not name a --target: cpu stands for --target onnxruntime, and cuda for "
    "--target cuda.",
)
@click.option(
    "--target",
    type=click.Choice([*get_args(TargetName), "auto"]),
    help="What runs the engines: onnxruntime and openvino on processors; cuda is onnxruntime on any NVIDIA GPU, and "
    "tensorrt and tensorrt-rtx are for one GPU. auto measures a part of the model with onnxruntime and OpenVINO and "
    "takes the faster one; both give the same images.  [default: onnxruntime]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Precision of text encoder and UNet; fp16-weights halves the files and computes in fp32. With --target "
    "openvino, int8 makes the UNet about twice as fast on processors, and its images others: the build calibrates it, "
    "measures what it costs, and fails if that is too much. int8-bf16 has bfloat16 for what int8 leaves, and is "
    "faster on processors that have it; bf16 has it for everything. int8-weights quarters the UNet's file and "
    "computes in fp32. Face engines stay fp32.  [default: fp16 for --target cuda, otherwise fp32]",
)
@click.option(
    "--vae-precision",
    type=click.Choice(get_args(FloatPrecision)),
    default="fp32",
    show_default=True,
    help="Precision of the VAE's decoder. The VAE of Stable Diffusion 1.5 overflows in fp16.",
)
@click.option("--vae", metavar="MODEL", help="Use this VAE: a hub name, a folder or a .safetensors file.")
@click.option(
    "--revision",
    help="Commit, tag or branch of a MODEL that is named as owner/model; realistic-vision is pinned to a commit.  "
    "[default: the main branch]",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read weights that are Python pickles. They can run code: use this only if you trust their author.",
)
@click.option("--height", type=int, metavar="PIXELS", help="Height of the images.  [default: the model's]")
@click.option("--width", type=int, metavar="PIXELS", help="Width of the images.  [default: the model's]")
@click.option("--static", is_flag=True, help="Fix height and width in the graphs.")
@click.option(
    "--winograd/--no-winograd",
    default=None,
    help="Write 3 x 3 convolutions with fewer multiplications. This is faster on processors and slower on GPUs, and "
    "takes more memory.  [default: for arithmetic in fp32 with --target onnxruntime]",
)
@click.option(
    "--deepcache",
    is_flag=True,
    help="Also build the part of the UNet that `anon-run --fast 2` and 3 need. Optimum cannot open such a bundle.",
)
@click.option(
    "--cache-branch",
    type=click.IntRange(0, 2),
    metavar="0|1|2",
    help="Where --deepcache cuts the UNet: with 0, evaluations that reuse features do the least work; with 2 they do "
    "the most, and are closest to exact ones.  [default: 0]",
)
@click.option("--deep-reuse", is_flag=True, hidden=True)
@click.option(
    "--batch-size",
    callback=_parse_range,
    default="1:1:4",
    show_default=True,
    metavar="[1:OPT:]MAX",
    help="Images generated at once: the most frequent number and the highest. TensorRT's engines are fastest for the "
    "first and refuse more than the second.",
)
@click.option(
    "--text-windows",
    callback=_parse_range,
    default="1:2:3",
    show_default=True,
    metavar="[1:OPT:]MAX",
    help="Windows of 77 tokens that a prompt takes: the most frequent number and the highest. TensorRT's engines are "
    "fastest for the first and refuse more than the second.",
)
@click.option(
    "--gpu",
    metavar="SM",
    help="GPU architecture to build for, such as sm_89. Only --target tensorrt-rtx can build for the GPU of another "
    "machine.  [default: this machine's; rtx: sm_89]",
)
@click.option(
    "--timestep-spacing",
    type=click.Choice(get_args(TimestepSpacing)),
    help="Override the spacing in the model's scheduler config.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be built, with sizes, and build nothing. A model on the hub is downloaded for this.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress and no summary.")
def build_command(
    model: str,
    name: str | None,
    output: Path,
    faces: FaceNetworks | None,
    identity: Path | None,
    identity_size: int,
    identity_mean: float,
    identity_std: float,
    identity_template: tuple[Point, ...] | None,
    device: Literal["cpu", "cuda"] | None,
    target: TargetName | Literal["auto"] | None,
    precision: Precision | None,
    vae_precision: FloatPrecision,
    vae: str | None,
    revision: str | None,
    allow_pickle: bool,
    height: int | None,
    width: int | None,
    static: bool,
    winograd: bool | None,
    deepcache: bool,
    cache_branch: int | None,
    deep_reuse: bool,
    batch_size: Range,
    text_windows: Range,
    gpu: str | None,
    timestep_spacing: TimestepSpacing | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build a bundle from MODEL.

    MODEL is `demo`, `realistic-vision`, a name on the Hugging Face hub such as owner/model, a folder in diffusers'
    layout, or a checkpoint file. The build ends by comparing every engine with PyTorch and an image with diffusers'.
    If they differ, the build fails, and an existing bundle is not changed.
    """
    from .build.builder import build
    from .build.choice import choose_target
    from .build.plan import prepare

    if deep_reuse:
        click.echo("anon-export: --deep-reuse is called --deepcache now; version 0.4 will not know it", err=True)
    if device and target:
        raise UsageError(
            f"`device` {device}", f"`target` {target} says already what the engines are for", "leave one out"
        )
    target = target or TARGET_FOR[device or "cpu"]
    options = BuildOptions(
        model=model,
        name=name,
        output=output,
        faces=faces,
        identity=identity,
        identity_size=identity_size,
        identity_mean=identity_mean,
        identity_std=identity_std,
        identity_template=identity_template,
        target="onnxruntime" if target == "auto" else target,
        precision=precision or ("fp16" if target == "cuda" else "fp32"),
        vae_precision=vae_precision,
        timestep_spacing=timestep_spacing,
        vae=vae,
        revision=revision,
        allow_pickle=allow_pickle,
        height=height,
        width=width,
        static=static,
        winograd=winograd,
        deepcache=deepcache or deep_reuse,
        cache_branch=cache_branch,
        batch_size=batch_size,
        text_windows=text_windows,
        gpu=gpu,
    )
    with Progress(quiet=quiet) as progress:
        if target == "auto":
            options = choose_target(options, progress.report)
        bundle = None if dry_run else build(options, progress.report)
    if bundle is None:
        with tempfile.TemporaryDirectory() as scratch:
            show_plan(prepare(options, Path(scratch)), as_json=as_json)
        return
    show_build(bundle, progress.states, as_json=as_json, quiet=quiet)


@command.command("verify")
@click.argument("bundle", type=PATH)
@click.option("--device", type=click.Choice(get_args(Device)), help="Device that runs the engines.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def verify_command(bundle: Path, device: Device | None, as_json: bool) -> None:
    """Compare BUNDLE's engines with the outputs that PyTorch computed when the bundle was built.

    A bundle carries the inputs, PyTorch's outputs and an image by diffusers, so that neither torch nor the model is
    needed. Run this command on the machine that the engines were built for.
    """
    from .build.verify import verify

    opened = Bundle.open(bundle)
    with Progress(quiet=as_json) as progress, Engines(opened, device=device) as engines:
        measured = verify(engines, lambda role: progress.report("verification", role))
    show_verification(opened.manifest, measured, as_json=as_json)


@command.command("inspect")
@click.argument("bundle", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect_command(bundle: Path, as_json: bool) -> None:
    """Check BUNDLE's files and show what it holds."""
    show_bundle(Bundle.open(bundle).manifest, as_json=as_json)


@command.command("calibrate-guard")
@click.argument("bundle", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--name", help="Name of the set of faces, for reports.  [default: the folder's]")
def calibrate_guard_command(bundle: Path, folder: Path, name: str | None) -> None:
    """Find the thresholds of BUNDLE's guard on the faces in FOLDER.

    The biggest face of each photo is compared with those of all other people. Near copies of a photo count as one
    person, and so do the photos of a folder inside FOLDER. At least 100 people are needed. The result replaces the
    calibration in the bundle's manifest; a build that changes the bundle puts the original calibration back.
    """
    from .calibrate_guard import measure

    with Engines(Bundle.open(bundle)) as engines:
        with counting_bar("photo") as report:
            measured = measure(engines, folder, name, report)
        manifest = engines.bundle.manifest
        assert manifest.identity is not None  # otherwise nothing could be measured
        identity = replace(manifest.identity, calibration=measured.calibration)
        replace_manifest(engines.bundle, replace(manifest, identity=identity))
    show_calibration(measured.calibration, measured.left_out)


@command.command("measure-levels")
@click.argument("bundle", type=PATH)
@click.option("--images", type=click.IntRange(1), default=16, show_default=True, help="Images of each level.")
def measure_levels_command(bundle: Path, images: int) -> None:
    """Measure what each level of `anon-run --fast` saves and costs with BUNDLE.

    The same people with random attributes are generated exactly, with each level, and exactly with other seeds. That
    takes as long as 3.4 exact images for each of --images, or 2.9 without --deepcache. The result goes into the
    bundle's manifest, and `anon-run --engines BUNDLE --help` shows it; a build that changes the bundle removes it.
    """
    from .measure_levels import measure

    with Engines(Bundle.open(bundle)) as engines:
        with counting_bar("image") as report:
            costs = measure(engines, images, report)
        replace_manifest(engines.bundle, replace(engines.bundle.manifest, levels=costs))
    show_levels(costs)


# How messages of the library, which name settings, show them to users of the command.
FLAGS = {
    str(option.name): max(option.opts, key=len)
    for subcommand in command.commands.values()
    for option in subcommand.params
    if isinstance(option, click.Option)
}


class _Stopped(BaseException):
    """A signal that ends the program, after the open blocks have cleaned up."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """End the block at Ctrl-C and SIGTERM, unless the program was started with these signals ignored."""

    def stop(number: int, _frame: object) -> None:
        raise _Stopped(128 + number)

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: an expected error becomes one line and an exit code."""
    try:
        with _stoppable():
            command(arguments)
    except AnonError as error:
        _fail(f"error: {error}", error.exit_code)
    except Exception as error:
        if (explained := explain_import_error(error)) is None:
            raise
        _fail(f"error: {explained}", explained.exit_code)
    except _Stopped as stop:
        _fail("interrupted", stop.args[0])


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"anon-export: {in_flags(message, FLAGS)}", err=True)
    sys.exit(code)
