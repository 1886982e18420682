"""The command ``anon-run``: options to settings, results to files, errors to messages and exit codes."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .errors import AnonError, UsageError
from .folder import Record, is_file_name, plan_outputs, prepare_folder, run_batch, save
from .pipeline import Anonymizer, Progress, Request
from .schedule import SAMPLERS
from .settings import MAX_SEED, Settings

log = logging.getLogger(__name__)

EPILOG = """\b
Examples:
  anon-run portrait.jpg -o out/                 one photo, out/portrait.png
  anon-run photos/*.jpg -o out/ --json          many photos, a JSON line each
  anon-run --prompt "portrait of a woman" --seed 7 -o out.png
                                                the generator alone

\b
Exit codes:
  0  every photo came out
  1  the run could not go on (engines, output folder)
  2  wrong usage
  3  one or more photos failed; the others are done
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder for the portraits, or a .png file when there is one to write.",
)
@click.option(
    "--engines",
    default=Path("engines/demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The bundle to use, made by `anon-export build`.",
)
@click.option("--prompt", help="Paint this prompt; no photo and no face engines are needed.")
@click.option("--negative-prompt", default=None, help="What to avoid; only with --prompt.")
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    help="The same seed, photo and engines give the same picture.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps of the sampler.  [default: the bundle's, 15]")
@click.option(
    "--guidance-scale",
    type=float,
    help="How closely to follow the prompt; 1 turns guidance off.  [default: the bundle's, 7.5]",
)
@click.option("--sampler", type=click.Choice(SAMPLERS), help="[default: the bundle's, dpmpp_sde]")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Pictures painted at once; a picture does not depend on it.",
)
@click.option("--prompt-truncate", is_flag=True, help="Cut prompts at 77 tokens, as diffusers does.")
@click.option(
    "--detection-threshold", type=float, help="Lowest score of a face, 0 to 1.  [default: the detector's own]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a photo on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no notes; errors still show.")
@click.version_option(package_name="anon-engines", prog_name="anon-run")
def command(
    photos: tuple[Path, ...], output: Path, engines: Path, prompt: str | None, negative_prompt: str | None,
    as_json: bool, quiet: bool, **choices: Any,
) -> None:  # fmt: skip
    """Turn PHOTOS of people into portraits of people who do not exist.

    The biggest face of each photo is described in words, and a new portrait is painted from the words. No pixel of a
    photo reaches an output.
    """
    if bool(photos) == (prompt is not None):
        raise click.UsageError("name photos, or give a --prompt, and not both")
    if negative_prompt is not None and prompt is None:
        raise click.UsageError("--negative-prompt goes with --prompt; a photo writes its own")
    settings = Settings(**choices)
    with _logging(quiet):
        if prompt is None:
            failed = _run_photos(photos, output, engines, settings, as_json=as_json, quiet=quiet)
        else:
            request = Request(prompt, negative_prompt or "", settings.seed)
            failed = _run_prompt(request, output, engines, settings, as_json=as_json, quiet=quiet)
    sys.exit(3 if failed else 0)


def _run_photos(
    photos: Sequence[Path], output: Path, engines: Path, settings: Settings, *, as_json: bool, quiet: bool
) -> int:
    """Anonymize photos batch by batch; returns how many failed."""
    jobs = plan_outputs(photos, output)
    anonymizer = Anonymizer.load(engines, settings)
    total = anonymizer.check(settings).evaluations
    prepare_folder(jobs[0].output.parent)
    batches = [jobs[i : i + settings.batch_size] for i in range(0, len(jobs), settings.batch_size)]
    failed = 0
    with _progress_bar(len(batches) * total, quiet) as bar:
        for index, batch in enumerate(batches):
            for record in run_batch(anonymizer, batch, _reporter(bar, index * total)):
                failed += record.status == "error"
                _report(record, as_json)
    log.info("%d of %d photos done, in %s", len(jobs) - failed, len(jobs), jobs[0].output.parent)
    return failed


def _run_prompt(
    request: Request, output: Path, engines: Path, settings: Settings, *, as_json: bool, quiet: bool
) -> int:
    """Paint one prompt; an error ends the run."""
    if not request.prompt.strip():
        raise UsageError("--prompt", "it is empty", "describe the picture")
    path = output if is_file_name(output) else output / "portrait.png"
    anonymizer = Anonymizer.load(engines, settings)
    total = anonymizer.check(settings).evaluations
    prepare_folder(path.parent)
    with _progress_bar(total, quiet) as bar:
        portrait = anonymizer.generate([request], settings, progress=_reporter(bar, 0))[0]
    _report(save(portrait, path, None), as_json)
    return 0


def _report(record: Record, as_json: bool) -> None:
    if record.status == "error":
        log.error("%s", record.reason)
    else:
        log.info("%s -> %s (%.1f s)", record.input or "prompt", record.output, record.seconds["total"])
    if as_json:
        click.echo(json.dumps(record.to_dict(), ensure_ascii=False))


@contextmanager
def _progress_bar(total: int, quiet: bool) -> Iterator["tqdm[Any]"]:
    """A bar of denoiser evaluations on a terminal; nothing in a log file."""
    hidden = quiet or not sys.stderr.isatty()
    with (
        tqdm(total=total, unit="eval", disable=hidden, dynamic_ncols=True) as bar,
        logging_redirect_tqdm([logging.getLogger(__package__)]),
    ):
        yield bar


def _reporter(bar: "tqdm[Any]", done_before: int) -> Progress:
    def report(done: int, _total: int) -> None:
        bar.update(done_before + done - bar.n)

    return report


@contextmanager
def _logging(quiet: bool) -> Iterator[None]:
    """Messages of this package go to stderr, plain."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("anon-run: %(message)s"))
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: an error that was foreseen becomes one line and an exit code."""
    try:
        command(arguments)
    except AnonError as error:
        click.echo(f"anon-run: error: {error}", err=True)
        sys.exit(error.exit_code)
