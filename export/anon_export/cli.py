"""The command ``anon-export``: options to a plan, progress, errors to messages."""

import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from anon_runtime import Anonymizer
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import AnonError

from .build.options import BuildOptions
from .build.packages import explain
from .console import Progress, show_build, show_bundle, show_plan, show_verification
from .targets.shapes import Range

EPILOG = """\b
Examples:
  anon-export build demo                        the embedded model, to engines/demo
  anon-export build realistic-vision            the paper's model and VAE, from the hub
  anon-export build v1-5.safetensors --faces demo --vae stabilityai/sd-vae-ft-mse
                                                a checkpoint file with another VAE
  anon-export build realistic-vision --target tensorrt --precision fp16 --batch-size 1:4:8
                                                for this machine's GPU
  anon-export build demo --dry-run              what would be built, and how large it is
  anon-export verify engines/demo               compare a bundle with PyTorch's answers
  anon-export inspect engines/demo              what a bundle holds

\b
Exit codes:
  0  done
  1  it could not be done, or an engine differs from PyTorch; the bundle that was there stays
  2  wrong usage
  130, 143  interrupted (Ctrl-C, SIGTERM); likewise
"""
PATH: Any = click.Path(path_type=Path)
PRECISIONS = click.Choice(("fp32", "fp16", "fp16-weights"))


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="anon-engines", prog_name="anon-export")
def command() -> None:
    """Turn Stable Diffusion 1.5 models and face networks into bundles of engines for `anon-run`."""


# fmt: off
@command.command("build", epilog=EPILOG)
@click.argument("model")
@click.option("--name", help="Name of the bundle.  [default: the model's]")
@click.option("--output", default=Path("engines"), show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder that bundles are put in. An unchanged part of the bundle that is there is not built again.")
@click.option("--faces", type=click.Choice(("facer+deepface", "demo", "none")),
              help="Face engines: the paper's, the demo's, or none for generating from prompts only.  "
                   "[default: demo for demo, otherwise facer+deepface]")
@click.option("--target", type=click.Choice(("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")),
              default="onnxruntime", show_default=True, help="What runs the engines.")
@click.option("--precision", type=PRECISIONS, default="fp32", show_default=True,
              help="Of text encoder and UNet; fp16-weights halves the files and computes in fp32. Face engines stay "
                   "fp32.")
@click.option("--vae-precision", type=PRECISIONS, default="fp32", show_default=True,
              help="Of the VAE's decoder, which overflows in fp16 with the VAE of Stable Diffusion 1.5.")
@click.option("--vae", metavar="MODEL", help="Use this VAE: a hub name, a folder or a .safetensors file.")
@click.option("--revision", help="Commit, tag or branch of a MODEL that is named as owner/model; realistic-vision is "
                                 "pinned to one.  [default: the main branch]")
@click.option("--allow-pickle", is_flag=True,
              help="Read weights that are Python pickles. They can run code: only for files whose maker you trust.")
@click.option("--height", type=int, metavar="PIXELS", help="Height of the images.  [default: the model's]")
@click.option("--width", type=int, metavar="PIXELS", help="Width of the images.  [default: the model's]")
@click.option("--static", is_flag=True, help="Fix height and width in the graphs.")
@click.option("--winograd/--no-winograd", default=None,
              help="Write 3 x 3 convolutions with fewer multiplications: faster on processors, slower on GPUs, more "
                   "memory.  [default: for arithmetic in fp32 with onnxruntime]")
@click.option("--deepcache", is_flag=True,
              help="Also build the part of the UNet that `anon-run --fast 2` needs; Optimum cannot open such a bundle.")
@click.option("--deep-reuse", is_flag=True, hidden=True)
@click.option("--batch-size", default="1:1:4", show_default=True, metavar="[1:OPT:]MAX",
              help="Images generated at once: the most frequent number and the highest; TensorRT's engines take no "
                   "more.")
@click.option("--text-windows", default="1:2:3", show_default=True, metavar="[1:OPT:]MAX",
              help="Windows of 77 tokens that a prompt takes: the most frequent number and the highest; TensorRT's "
                   "engines take no more.")
@click.option("--gpu", metavar="SM", help="Architecture to build for, such as sm_89; only --target tensorrt-rtx can "
                                          "build for a GPU that is elsewhere.  [default: this machine's; rtx: sm_89]")
@click.option("--timestep-spacing", type=click.Choice(("linspace", "leading", "trailing")),
              help="Override the spacing in the model's scheduler config.")
@click.option("--dry-run", is_flag=True,
              help="Print what would be built, with sizes, and build nothing. A model on the hub is downloaded for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars and no summary.")
# fmt: on
def build_command(
    quiet: bool, as_json: bool, dry_run: bool, name: str | None, faces: str | None, batch_size: str,
    deepcache: bool, deep_reuse: bool, text_windows: str, **choices: Any,
) -> None:  # fmt: skip
    """Build a bundle from MODEL.

    MODEL is `demo`, `realistic-vision`, a name on the Hugging Face hub such as owner/model, a folder in diffusers'
    layout, or a checkpoint file. The build ends by comparing every engine with PyTorch and an image with diffusers';
    where they differ, it fails and the bundle that was there stays.
    """
    from .build.builder import build, prepare

    if deep_reuse:
        click.echo("anon-export: --deep-reuse is called --deepcache now; version 0.4 will not know it", err=True)

    model: str = choices["model"]
    # Paths come from the user's shell; a name such as "." would put the bundle in the wrong place.
    name = name or (Path(model).resolve().stem if Path(model).is_file() else Path(model).resolve().name)
    if not name or Path(name).name != name or name.startswith("."):
        raise click.UsageError(f"--name {name!r} is not a plain folder name; hidden folders are for builds at work")
    plan = BuildOptions(
        name=name, deepcache=deepcache or deep_reuse, faces=faces or ("demo" if model == "demo" else "facer+deepface"),
        batch_size=Range.parse(batch_size, "--batch-size"), text_windows=Range.parse(text_windows, "--text-windows"),
        **choices,
    )  # fmt: skip
    if dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            show_plan(prepare(plan, Path(scratch)), as_json=as_json)
        return
    with Progress(quiet=quiet) as progress:
        bundle = build(plan, progress.report)
    show_build(bundle, progress.states, as_json=as_json, quiet=quiet)


@command.command("verify")
@click.argument("bundle", type=PATH)
@click.option("--device", type=click.Choice(("cpu", "cuda", "tensorrt")), help="What the engines run on.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def verify_command(bundle: Path, device: str | None, as_json: bool) -> None:
    """Compare BUNDLE's engines with the answers that PyTorch gave when it was built.

    A bundle carries the inputs, PyTorch's outputs and an image by diffusers, so neither torch nor the model is needed:
    run it on the machine that the engines are for.
    """
    from .build.verify import verify

    opened = Bundle.open(bundle)
    with Progress(quiet=as_json) as progress:
        measured = verify(Anonymizer(opened, device=device), lambda role: progress.report("verification", role))
    show_verification(opened.manifest, measured, as_json=as_json)


@command.command("inspect")
@click.argument("bundle", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect_command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds, after checking its files."""
    show_bundle(Bundle.open(bundle).manifest, as_json=as_json)


class _Stopped(BaseException):
    """A signal that ends the program, on its way through the blocks that clear up."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, unless whoever started the program wants them ignored."""

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
    """Entry point: an error that was foreseen becomes one line and an exit code."""
    try:
        with _stoppable():
            command(arguments)
    except AnonError as error:
        _fail(f"error: {error}", error.exit_code)
    except Exception as error:
        if (explained := explain(error)) is None:
            raise
        _fail(f"error: {explained}", explained.exit_code)
    except _Stopped as stop:
        _fail("interrupted", stop.args[0])


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"anon-export: {message}", err=True)
    sys.exit(code)
