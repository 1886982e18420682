"""The command ``anon-run``: options to settings, results to files, errors to messages and exit codes."""

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from .attributes import load_attributes
from .console import advance, logging_to_stderr, progress_bar, report, show_description
from .economy import LEVELS
from .errors import AnonError, UsageError
from .folder import Job, describe_batch, is_file_name, plan_outputs, prepare_folder, run_batch, save
from .pipeline import Anonymizer
from .portrait import Request
from .prompt import STYLES
from .schedule import SAMPLERS
from .settings import MAX_SEED, Settings

log = logging.getLogger(__name__)

EPILOG = """\b
Examples:
  anon-run portrait.jpg -o out/                 one photo, out/portrait.png
  anon-run photos/*.jpg -o out/ --json          many photos, a JSON line each
  anon-run photo.jpg --prompt-only              what would be painted
  anon-run --prompt "portrait of a woman" --seed 7 -o out.png
                                                the generator alone

\b
Exit codes:
  0  every photo came out
  1  the run could not go on (engines, output folder)
  2  wrong usage
  3  one or more photos failed; the others are done
"""


PATH: Any = click.Path(path_type=Path)


# fmt: off
@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("photos", nargs=-1, type=PATH)
@click.option("-o", "--output", type=PATH, metavar="OUT",
              help="Folder for the portraits, or a .png file when there is one to write.")
@click.option("--engines", default=Path("engines/demo"), show_default=True, type=PATH,
              help="The bundle to use, made by `anon-export build`.")
@click.option("--checksum/--no-checksum", default=True,
              help="Compare the engines' files with their sha256, or only with their sizes, which starts faster.")
@click.option("--device", type=click.Choice(("cpu", "cuda", "tensorrt")),
              help="What the engines run on; never replaced by another one.  "
                   "[default: the GPU if onnxruntime-gpu is installed, else the CPU; tensorrt for its own bundles]")
@click.option("--prompt", help="Paint this prompt; no photo and no face engines are needed.")
@click.option("--negative-prompt", help="What to avoid; only with --prompt.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True,
              help="The same seed, photo and engines give the same picture.")
@click.option("--steps", type=click.IntRange(1), help="Steps of the sampler.  [default: the bundle's, 15]")
@click.option("--guidance-scale", type=float,
              help="How closely to follow the prompt; 1 turns guidance off.  [default: the bundle's, 7.5]")
@click.option("--sampler", type=click.Choice(SAMPLERS), help="[default: the bundle's, dpmpp_sde]")
@click.option("--fast", type=click.IntRange(0, len(LEVELS) - 1), default=0, show_default=True,
              help="Save work at a cost in fidelity that has not been measured yet; 0 is exact.")
@click.option("--batch-size", type=click.IntRange(1),
              help="Photos worked on at once; a picture does not depend on it.  [default: the bundle's]")
@click.option("--prompt-truncate", is_flag=True, help="Cut prompts at 77 tokens, as diffusers does.")
@click.option("--prompt-style", type=click.Choice(STYLES), default="paper", show_default=True,
              help="Write labels as the paper does (Wavy_Hair) or as words (wavy hair).")
@click.option("--ignore", metavar="A,B", default="", help="Attributes that no prompt mentions: Attractive,Young")
@click.option("--attributes", "attributes_file", type=PATH, metavar="FILE.json",
              help="Use these attributes (the `attributes` object of --json) instead of reading the face; "
                   "may stand without a photo.")
@click.option("--prompt-only", is_flag=True, help="Print what is read from the photos, and paint nothing.")
@click.option("--no-face", type=click.Choice(("error", "skip")), default="error", show_default=True,
              help="Whether a photo without a face counts as failed; it never gives a picture.")
@click.option("--min-face", type=click.IntRange(0), default=0, metavar="PIXELS",
              help="Faces with a shorter side below this are not seen.")
@click.option("--detection-threshold", type=float,
              help="Lowest score of a face, 0 to 1.  [default: the detector's own]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a photo on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no notes; errors still show.")
@click.version_option(package_name="anon-engines", prog_name="anon-run")
def command(
    photos: tuple[Path, ...], output: Path | None, engines: Path, checksum: bool, device: str | None,
    prompt: str | None, negative_prompt: str | None, fast: int, ignore: str, attributes_file: Path | None,
    prompt_only: bool, as_json: bool, quiet: bool, **choices: Any,
) -> None:
    """Turn PHOTOS of people into portraits of people who do not exist.

    The biggest face of each photo is described in words, and a new portrait is painted from the words. No pixel of a
    photo reaches an output.
    """
    # fmt: on
    if bool(photos or attributes_file) == (prompt is not None):
        raise click.UsageError("name photos or --attributes, or give a --prompt, and not both")
    if negative_prompt is not None and prompt is None:
        raise click.UsageError("--negative-prompt goes with --prompt; a photo writes its own")
    if prompt_only and prompt is not None:
        raise click.UsageError("--prompt-only shows what is read from photos; it does not go with --prompt")
    if (output is None) != prompt_only:
        raise click.UsageError("give --output, or --prompt-only to paint nothing, and not both")
    names = tuple(name.strip() for name in ignore.split(",") if name.strip())
    attributes = load_attributes(attributes_file) if attributes_file else None
    settings = Settings(ignore=names, attributes=attributes, economy=LEVELS[fast], **choices)
    load = partial(Anonymizer.load, engines, settings, checksum=checksum, device=device)
    with logging_to_stderr(quiet=quiet):
        if output is None:
            failed = _describe_photos(load(), photos, as_json=as_json)
        elif prompt is not None:
            request = Request(prompt, negative_prompt or "", settings.seed)
            failed = _run_prompt(load(), request, _one_file(output, "portrait"), as_json, quiet)
        else:
            single = [Job(None, _one_file(output, attributes_file.stem))] if attributes_file else []
            jobs = plan_outputs(photos, output) if photos else single
            failed = _run_photos(load(), jobs, as_json, quiet)
    sys.exit(3 if failed else 0)


def _one_file(output: Path, name: str) -> Path:
    """Where a single picture without a photo goes: the file named, or into the folder named."""
    return output if is_file_name(output) else output / f"{name}.png"


def _run_photos(anonymizer: Anonymizer, jobs: Sequence[Job], as_json: bool, quiet: bool) -> int:
    """Anonymize photos batch by batch; returns how many failed."""
    total = anonymizer.check(anonymizer.settings).evaluations
    prepare_folder(jobs[0].output.parent)
    batches = _batches(jobs, anonymizer.batch_size)
    counts: Counter[str] = Counter()
    with progress_bar(len(batches) * total, quiet=quiet) as bar:
        for index, batch in enumerate(batches):
            for record in run_batch(anonymizer, batch, advance(bar, index * total)):
                counts[record.status] += 1
                report(record, as_json=as_json)
    summary = ", ".join(f"{counts[status]} {status}" for status in ("ok", "skipped", "error") if counts[status])
    log.info("%s, in %s", summary, jobs[0].output.parent)
    return counts["error"]


def _describe_photos(anonymizer: Anonymizer, photos: Sequence[Path], *, as_json: bool) -> int:
    """Print what is read from photos; returns how many failed."""
    jobs = [Job(photo, photo) for photo in photos] or [Job(None, Path())]
    failed = 0
    for batch in _batches(jobs, anonymizer.batch_size):
        for record in describe_batch(anonymizer, batch):
            failed += record.status == "error"
            show_description(record, as_json=as_json)
    return failed


def _batches(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def _run_prompt(anonymizer: Anonymizer, request: Request, output: Path, as_json: bool, quiet: bool) -> int:
    """Paint one prompt; an error ends the run."""
    if not request.prompt.strip():
        raise UsageError("--prompt", "it is empty", "describe the picture")
    total = anonymizer.check(anonymizer.settings).evaluations
    prepare_folder(output.parent)
    with progress_bar(total, quiet=quiet) as bar:
        portrait = anonymizer.generate([request], progress=advance(bar, 0))[0]
    report(save(portrait, output, None), as_json=as_json)
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: an error that was foreseen becomes one line and an exit code."""
    try:
        command(arguments)
    except AnonError as error:
        click.echo(f"anon-run: error: {error}", err=True)
        sys.exit(error.exit_code)
