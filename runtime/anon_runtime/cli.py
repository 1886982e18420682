"""The command ``anon-run``: options to settings, results to files, errors to messages and exit codes."""

import logging
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from .anonymizer import Anonymizer
from .command_line import CommandLine
from .commands import INTERRUPTED, describe_photos, run_photos, run_request
from .console import Reporter, logging_to_stderr
from .diffusion.acceleration import FAST_LEVELS
from .errors import AnonError, UsageError, in_flags
from .faces.prompt import STYLES
from .folder.discovery import find_photos
from .folder.identity import read_seed
from .folder.ray_cluster import LOCAL, connect
from .folder.remote import is_url
from .folder.writer import ENDINGS
from .types import MAX_SEED, SAMPLERS, Request

EPILOG = """\b
Examples:
  anon-run portrait.jpg -o out/                 one photo, out/portrait.png
  anon-run photos/ -r -o out/                   a folder with all folders in it; the same
                                                command goes on after an interruption
  find . -name "*.jpg" | anon-run - -o out/     the photos of a list
  anon-run "photos/*.jpg" -o out/ --json        a JSON line each
  anon-run s3://bucket/photos -r -o /mnt/out --ray 10.0.0.1:6379
                                                on all machines of a Ray cluster
  anon-run photo.jpg --prompt-only              what would be generated
  anon-run --prompt "portrait of a woman" --seed 7 -o out.png
                                                the generator alone

\b
Exit codes:
  0  no photo failed (with --no-face skip, some may have been skipped)
  1  the run could not go on (engines, output folder, --max-failures)
  2  wrong usage
  3  one or more photos failed; the others are done
  130  interrupted; what was generated is kept
"""
PATH: Any = click.Path(path_type=Path)
log = logging.getLogger(__name__)


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]
    """A path, or the text of a URL or of a lone dash, which a path would spoil."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Tell one from the other."""
        if str(value) == "":
            self.fail("it is empty", param, ctx)
        return str(value) if is_url(str(value)) or value == "-" else Path(value)


# fmt: off
@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("inputs", nargs=-1, type=PathOrUrl(), metavar="[INPUT]...")
@click.option("-o", "--output", type=PathOrUrl(), metavar="OUT",
              help="Folder for the portraits and their journal, or a .png, .jpg or .webp file for a single one.")
@click.option("-r", "--recursive", is_flag=True,
              help="Look into the folders of a folder, too; OUT gets the same tree.")
@click.option("--format", type=click.Choice(tuple(ENDINGS)), help="Of portraits.  [default: png]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG and WebP.")
@click.option("--suffix", default="", metavar="TEXT", help="Put between a photo's name and the ending.")
@click.option("--rename", type=click.Choice(("none", "hash")), default="none", show_default=True,
              help="Name portraits like their photos, or by pseudonyms made from the photo's content and a secret seed "
                   "(see --seed-file); then no name of a photo is in the journal, either.")
@click.option("--overwrite", is_flag=True,
              help="Do the photos again, and replace whatever lies under their portraits' names. In a folder, what "
                   "earlier runs made of other photos counts as done no more.")
@click.option("--max-failures", type=click.IntRange(0), metavar="N", help="End the run when more photos have failed.")
@click.option("--log-attributes", is_flag=True,
              help="Write what is read from faces into the journal; it is personal data.")
@click.option("--engines", default=Path("engines/demo"), show_default=True, type=PATH,
              help="The bundle to use, made by `anon-export build`.")
@click.option("--checksum/--no-checksum", default=True,
              help="Compare the engines' files with their sha256, or only with their sizes, which starts faster.")
@click.option("--device", type=click.Choice(("cpu", "cuda", "tensorrt")),
              help="What the engines run on; never replaced by another one.  "
                   "[default: the GPU if onnxruntime-gpu is installed, else the CPU; tensorrt for its own bundles]")
@click.option("--prompt", help="Generate an image from this prompt; no photo and no face engines are needed.")
@click.option("--negative-prompt", help="What to avoid; only with --prompt.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), envvar="ANON_RUN_SEED", show_envvar=True,
              help="A photo's own seed is made from this one and its content, whatever its name and place; "
                   "--prompt takes it as it is. Others on the machine can see a command's options.  [default: 0]")
@click.option("--seed-file", type=PATH, metavar="FILE",
              help="Read --seed from this file; if there is none, make it, with a secret seed in it. Keep it, and keep "
                   "it away from the portraits: whoever has it and a photo can find the photo's portrait.")
@click.option("--steps", type=click.IntRange(1), help="Steps of the sampler.  [default: the bundle's, 15]")
@click.option("--guidance-scale", type=float,
              help="How closely to follow the prompt; 1 turns guidance off.  [default: the bundle's, 7.5]")
@click.option("--sampler", type=click.Choice(SAMPLERS), help="[default: the bundle's, dpmpp_sde]")
@click.option("--fast", type=click.IntRange(0, len(FAST_LEVELS) - 1), default=0, show_default=True,
              help="Other images of nearly the same worth for less of the UNet's time at full size (AUC: demo): "
                   "1 is 1.2 times less (attribute AUC 0.884, exact 0.889), 2 is 1.8 times (0.889; needs a bundle "
                   "built with --deepcache), 3 is 2.5 times (0.881). 0 is exact.")
@click.option("--batch-size", type=click.IntRange(1),
              help="Photos worked on at once; an image does not depend on it.  [default: the bundle's]")
@click.option("--threads", type=click.IntRange(1),
              help="Of an engine on the CPU; an image depends on it in its last digit.  [default: one for each core]")
@click.option("--ray", is_flag=False, flag_value=LOCAL, metavar="[ADDRESS]",
              help="Spread the run over a Ray cluster, with one engine for each GPU, or for as many cores as --threads "
                   "says; without ADDRESS over this machine.  Put it last, or write --ray=ADDRESS.")
@click.option("--prompt-truncate", is_flag=True, help="Cut prompts at 77 tokens, as diffusers does.")
@click.option("--prompt-style", type=click.Choice(STYLES), default="paper", show_default=True,
              help="Write labels as the paper does (Wavy_Hair) or as words (wavy hair).")
@click.option("--ignore", metavar="A,B", default="", help="Attributes that no prompt mentions: Attractive,Young")
@click.option("--attributes", type=PATH, metavar="FILE.json",
              help="Use these attributes (the `attributes` object of --json) instead of reading the face; "
                   "may stand without a photo.")
@click.option("--prompt-only", is_flag=True, help="Print what is read from the photos, and generate nothing.")
@click.option("--more-formats", is_flag=True, help="Read BMP, GIF, PPM and TIFF, too.")
@click.option("--no-face", type=click.Choice(("error", "skip")), default="error", show_default=True,
              help="Whether a photo without a face counts as failed; it never gives an image.")
@click.option("--min-face", type=click.IntRange(0), default=0, metavar="PIXELS",
              help="Faces with a shorter side below this are not seen.")
@click.option("--detection-threshold", type=float,
              help="Lowest score of a face, 0 to 1.  [default: the detector's own]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a photo on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no notes; errors still show.")
@click.version_option(package_name="anon-engines", prog_name="anon-run")
def command(**options: Any) -> None:
    """Turn photos of people into portraits of people who do not exist.

    INPUT is a photo, a folder of photos, a pattern in quotes, a URL such as s3://bucket/folder, or - for a list of
    names on standard input. The biggest face of each photo is described in words, and a new portrait is generated from
    the words. No pixel of a photo reaches an output.
    """
    # fmt: on
    chosen = CommandLine(**options)
    chosen.check()
    with logging_to_stderr(quiet=chosen.quiet, flags=FLAGS):
        sys.exit(execute(chosen, Reporter(as_json=chosen.as_json, quiet=chosen.quiet, flags=FLAGS)))


# Settings by their Python names, as options: errors of the library name settings.
FLAGS: Mapping[str, str] = {str(param.name): max(param.opts, key=len) for param in command.params if param.opts}


def execute(chosen: CommandLine, reporter: Reporter) -> int:
    """Do what a command line asks for; returns the exit code.

    Raises:
        AnonError: it cannot be done.
    """
    settings, seed = chosen.settings, _choose_seed(chosen)
    photos = list(
        find_photos(chosen.inputs, recursive=chosen.recursive, avoid=chosen.folder, listed=sys.stdin.buffer)
    )
    load = partial(
        Anonymizer.load,
        chosen.engines,
        settings,
        device=chosen.device,
        threads=chosen.threads,
        checksum=chosen.checksum,
    )
    output = None if chosen.folder is None else chosen.place(chosen.folder, photos)
    with load() as anonymizer:
        options = chosen.options(seed, anonymizer.engines.bundle.manifest.defaults)
        if output is None:
            return describe_photos(anonymizer, photos, options, reporter)
        if not photos:
            request = None if chosen.prompt is None else Request(chosen.prompt, chosen.negative_prompt or "", seed)
            name = chosen.attributes.name if chosen.attributes else "portrait"
            return run_request(anonymizer, request, output, name, options, reporter)
        connected = None
        if chosen.ray is not None:
            device = anonymizer.engines.device
            connected = connect(chosen.ray, load, device=device, threads=chosen.threads)
        return run_photos(anonymizer, photos, output, options, reporter, connected=connected)


def _choose_seed(chosen: CommandLine) -> int:
    """The seed of a run, from where it is kept."""
    file, folder = chosen.seed_file, chosen.folder
    if file is None:
        return chosen.seed or 0
    if folder is not None and file.resolve().is_relative_to(folder.resolve()):
        why = "it would lie among the portraits, and tell whose they are"
        raise UsageError(f"seed file {file}", why, "keep it somewhere else")
    seed, made = read_seed(file)
    if made:
        log.info("made a secret seed in %s; keep it, and keep it away from the portraits", file)
    return seed


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors and Ctrl-C become one line and an exit code."""
    warnings.filterwarnings("ignore", module="PIL")  # of photos that are damaged a little, and decoded all the same
    try:
        sys.exit(command(arguments, standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AnonError as error:
        click.echo(f"anon-run: error: {in_flags(str(error), FLAGS)}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("anon-run: interrupted; what was generated is kept", err=True)
        sys.exit(INTERRUPTED)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of a native extension is no Exception
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        click.echo(f"anon-run: internal error ({type(error).__name__} in {where}: {error}); please report it", err=True)
        sys.exit(1)
