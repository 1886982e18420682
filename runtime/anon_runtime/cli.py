"""The command ``anon-run``: its options, and the conversion of errors into messages and exit codes."""

import json
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
from .fast_help import DEFAULT_BUNDLE, FastOption
from .folder.discovery import find_photos
from .folder.identity import read_seed
from .folder.options import RUN_MODES
from .folder.ray_cluster import LOCAL, connect
from .folder.remote import is_url
from .folder.report import REPORT_HTML, write_report
from .folder.writer import ENDINGS
from .guard.options import MODES, GuardOptions
from .types import MAX_SEED, SAMPLERS, Box, Request

EPILOG = """\b
Examples:
  anon-run portrait.jpg -o out/                 one photo, out/portrait.png
  anon-run photos/ -r -o out/                   a folder with all folders in it; after an
                                                interruption, run the same command again
  find . -name "*.jpg" | anon-run - -o out/     the photos in a list
  anon-run "photos/*.jpg" -o out/ --json        one JSON line for each photo
  anon-run s3://bucket/photos -r -o /mnt/out --ray 10.0.0.1:6379
                                                on all machines of a Ray cluster
  anon-run street.jpg -o out/ --mode in-place   the photo, with other faces in it
  anon-run photo.jpg --prompt-only              only the attributes and the prompt
  anon-run report out/                          the report of a folder, made again
  anon-run --prompt "portrait of a woman" --seed 7 -o out.png
                                                an image from a prompt, without a photo

\b
Exit codes:
  0  no photo failed (with --no-face skip, some may have been skipped)
  1  the run could not continue (engines, output folder, --max-failures)
  2  wrong usage
  3  one or more photos failed or were refused; the others are done
  130  interrupted; what was generated is kept
"""
PATH: Any = click.Path(path_type=Path)
REPORT = "report"  # the first argument that stands for the report of a folder
log = logging.getLogger(__name__)


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]
    """A parameter type for paths and URLs.

    A URL or a single dash is returned as text, because a path would change it.
    """

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or the text of a URL or a single dash."""
        if str(value) == "":
            self.fail("it is empty", param, ctx)
        return str(value) if is_url(str(value)) or value == "-" else Path(value)


class BoxType(click.ParamType):  # type: ignore[type-arg]
    """A parameter type for boxes: x, y, width and height in pixels, separated by commas."""

    name = "box"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Box:
        """Return the four numbers."""
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not X,Y,W,H in pixels, such as 120,80,64,64", param, ctx)
        return x, y, width, height


# fmt: off
@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("inputs", nargs=-1, type=PathOrUrl(), metavar="[INPUT]...")
@click.option("-o", "--output", type=PathOrUrl(), metavar="OUT",
              help="The folder for the portraits and their journal, or a .png, .jpg or .webp file for one portrait.")
@click.option("-r", "--recursive", is_flag=True,
              help="Search the folders inside a folder as well; OUT gets the same tree of folders.")
@click.option("--mode", type=click.Choice(RUN_MODES), default="portrait", show_default=True,
              help="What is made of a photo. portrait: a portrait of its biggest face, with no pixel of the photo. "
                   "faces: such a portrait of each of its faces (NAME-1.png, the biggest, and so on). in-place: the "
                   "photo itself, in which every face that is found is replaced by another one or, if it is too small, "
                   "filled: no pixel of a face's region is kept, and all others are. The photo fails otherwise.")
@click.option("--keep", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
              help="Photos of people who agreed to be shown: --mode in-place leaves their faces as they are.")
@click.option("--only-box", type=BoxType(), multiple=True, metavar="X,Y,W,H",
              help="A face that another tool has found in the only photo, in pixels of the upright photo. --mode "
                   "in-place then replaces only such faces, and keeps all others; give it once for each face.")
@click.option("--keep-metadata", metavar="A,B", multiple=True,
              help="What --mode in-place keeps of a photo's metadata: orientation, icc (the colour profile, without "
                   "the names in it) and datetime. Nothing else ever stays, such as positions or serial numbers.  "
                   "[default: nothing]")
@click.option("--format", type=click.Choice(tuple(ENDINGS)), help="The file format of the portraits.  [default: png]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True,
              help="The quality of JPEG and WebP files.")
@click.option("--suffix", default="", metavar="TEXT",
              help="Text to add to the name of each portrait, before the ending.")
@click.option("--rename", type=click.Choice(("none", "hash")), default="none", show_default=True,
              help="Name each portrait like its photo (none), or by a pseudonym made from the photo's content and a "
                   "secret seed (hash; see --seed-file). With hash, the journal has no names of photos either.")
@click.option("--overwrite", is_flag=True,
              help="Process photos again that are done, and replace all files that have the names of their "
                   "portraits. In a folder, photos of earlier runs no longer count as done.")
@click.option("--max-failures", type=click.IntRange(0), metavar="N",
              help="End the run when more than N photos have failed.")
@click.option("--log-attributes", is_flag=True,
              help="Write the attributes and the prompt of each face into the journal. They are personal data.")
@click.option("--engines", default=DEFAULT_BUNDLE, show_default=True, type=PATH, is_eager=True,
              help="The folder of the bundle, made by `anon-export build`.")
@click.option("--checksum/--no-checksum", default=True,
              help="Compare the sha256 of the bundle's files, or only their sizes, which starts faster.")
@click.option("--device", type=click.Choice(("cpu", "cuda", "tensorrt")),
              help="The device that the engines run on. It is never replaced by another one.  "
                   "[default: the GPU if onnxruntime-gpu is installed, else the CPU; tensorrt for its own bundles]")
@click.option("--prompt", help="Generate an image from this prompt; no photo and no face engines are needed.")
@click.option("--negative-prompt", help="What the image does not show; only with --prompt.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), envvar="ANON_RUN_SEED", show_envvar=True,
              help="The seed of the run. The seed of each photo is made from it and the photo's content, and does not "
                   "depend on the photo's name or folder; --prompt uses it directly. Other users of the machine "
                   "can see the options of a command.  [default: 0]")
@click.option("--seed-file", type=PATH, metavar="FILE",
              help="Read the seed from this file; if there is no such file, create it with a secret seed. Keep the "
                   "file, but not in the same place as the portraits: a person who has it and a photo can find the "
                   "photo's portrait.")
@click.option("--steps", type=click.IntRange(1),
              help="The number of steps of the sampler.  [default: the bundle's, 15]")
@click.option("--guidance-scale", type=float,
              help="How closely to follow the prompt; 1 turns guidance off.  [default: the bundle's, 7.5]")
@click.option("--sampler", type=click.Choice(SAMPLERS), help="The sampler.  [default: the bundle's, dpmpp_sde]")
@click.option("--fast", cls=FastOption, type=click.IntRange(0, len(FAST_LEVELS) - 1), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1),
              help="The number of photos that are processed together. Images do not depend on it, except for last "
                   "digits if it is 1.  [default: the bundle's]")
@click.option("--threads", type=click.IntRange(1),
              help="The number of threads of an engine on the CPU. The last digits of an image depend on it.  "
                   "[default: one for each core]")
@click.option("--ray", is_flag=False, flag_value=LOCAL, metavar="[ADDRESS]",
              help="Run on a Ray cluster, with one actor for each GPU, or for each group of as many cores as --threads "
                   "says. Without ADDRESS, run on this machine.  Put this option last, or write --ray=ADDRESS.")
@click.option("--prompt-truncate", is_flag=True, help="Cut prompts at 77 tokens, as diffusers does.")
@click.option("--prompt-style", type=click.Choice(STYLES), default="paper", show_default=True,
              help="Write the labels of attributes as in the paper (Wavy_Hair) or as words (wavy hair).")
@click.option("--ignore", metavar="A,B", multiple=True,
              help="Attributes that no prompt mentions, for example Attractive,Young.")
@click.option("--attributes", type=PATH, metavar="FILE.json",
              help="Use the attributes in this file (the `attributes` object of --json) instead of those of the face. "
                   "No photo is needed then.")
@click.option("--prompt-only", is_flag=True,
              help="Print the attributes and the prompt of each photo, and generate nothing.")
@click.option("--more-formats", is_flag=True, help="Read BMP, GIF, PPM and TIFF as well.")
@click.option("--no-face", type=click.Choice(("error", "skip")), default="error", show_default=True,
              help="Count a photo without a face as failed (error) or as skipped (skip). It never gives a portrait.")
@click.option("--min-face", type=click.IntRange(0), default=0, metavar="PIXELS",
              help="Ignore faces whose shorter side has fewer pixels. --mode in-place fills them instead.")
@click.option("--detection-threshold", type=float,
              help="The lowest score of a face, between 0 and 1.  [default: the detector's, and a lower one with "
                   "--mode in-place]")
@click.option("--guard", type=click.Choice(MODES),
              help="Compare each portrait with all photos of the run, by face recognition. strict: paint a portrait "
                   "again that resembles somebody, with coarser words, and refuse the photo if no attempt passes. "
                   "report: only measure. off: do nothing.  [default: strict if the bundle can recognize faces]")
@click.option("--fmr", type=float, default=GuardOptions.fmr, show_default=True, metavar="RATE",
              help="The false match rate of the guard's threshold: how often two different people may count as the "
                   "same person. A higher rate refuses more portraits.")
@click.option("--min-rank", type=click.IntRange(0), default=GuardOptions.min_rank, show_default=True, metavar="K",
              help="Refuse a portrait if its own photo is among the K photos that resemble it most. It takes 20 "
                   "photos for each unit of K.")
@click.option("--attempts", type=click.IntRange(1), default=GuardOptions.attempts, show_default=True, metavar="N",
              help="The largest number of portraits that are painted for a photo.")
@click.option("--best-of", type=click.IntRange(1), default=GuardOptions.best_of, show_default=True, metavar="N",
              help="Keep the best of N portraits that pass the guard: the one whose attributes agree best with its "
                   "words. It takes N times as long.")
@click.option("--gallery", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
              help="Photos of people whom no portrait may resemble either, for example those of a training set, or "
                   "the whole folder of which this run is a part.")
@click.option("--report/--no-report", default=True,
              help="Write OUT/report.html and OUT/report.json at the end: how similar the portraits are to their "
                   "photos, what was refused, and what that means for privacy. `anon-run report OUT` does it again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line for each photo on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Show only errors: no progress bar and no notes.")
@click.version_option(package_name="anon-engines", prog_name="anon-run")
def command(**options: Any) -> None:
    """Turn photos of people into portraits of people who do not exist.

    INPUT is a photo, a folder of photos, a pattern in quotes, a URL such as s3://bucket/folder, or - for a list of
    names on standard input. The biggest face of each photo is described by attributes and a prompt, and a new portrait
    is generated from the prompt. No pixel of a photo reaches an output, unless you choose --mode in-place, which keeps
    everything but the faces.
    """
    # fmt: on
    chosen = CommandLine(**options)
    chosen.check()
    with logging_to_stderr(quiet=chosen.quiet, flags=FLAGS):
        sys.exit(execute(chosen, Reporter(as_json=chosen.as_json, quiet=chosen.quiet, flags=FLAGS)))


# The options by the Python names of the settings, because errors of the library name settings.
FLAGS: Mapping[str, str] = {str(param.name): max(param.opts, key=len) for param in command.params if param.opts}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("out", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output as well.")
def report_command(out: Path, as_json: bool) -> None:
    """Write the report of an output folder again, from its journal: OUT/report.html and OUT/report.json.

    To anonymize a folder of photos that is called report, write ./report.
    """
    report = write_report(out)
    click.echo(json.dumps(report.to_dict(), allow_nan=False) if as_json else out / REPORT_HTML)


def execute(chosen: CommandLine, reporter: Reporter) -> int:
    """Do what a command line asks for.

    Args:
        chosen: the values of the options.
        reporter: reports the progress and the records.

    Returns:
        The exit code.

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
        gallery, keep = (
            list(find_photos([folder], recursive=True)) if folder else [] for folder in (chosen.gallery, chosen.keep)
        )
        connected = None
        if chosen.ray is not None:
            device = anonymizer.engines.device
            connected = connect(chosen.ray, load, device=device, threads=chosen.threads)
        return run_photos(
            anonymizer, photos, output, options, reporter, connected=connected, gallery=gallery, keep=keep
        )


def _choose_seed(chosen: CommandLine) -> int:
    """Return the seed of the run, from the option or from the seed file, which is created if it is missing."""
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
    """Run the command; this is the entry point, which turns errors and Ctrl-C into one line and an exit code.

    Args:
        arguments: the arguments of the command; None means those of the process.
    """
    warnings.filterwarnings("ignore", module="PIL")  # about slightly damaged photos, which are decoded nevertheless
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        if given[:1] == [REPORT]:
            sys.exit(report_command(given[1:], prog_name=f"anon-run {REPORT}", standalone_mode=False))
        sys.exit(command(given, prog_name="anon-run", standalone_mode=False))
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
    except BaseException as error:  # noqa: BLE001 - a panic of a native extension is not an Exception
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        click.echo(f"anon-run: internal error ({type(error).__name__} in {where}: {error}); please report it", err=True)
        sys.exit(1)
