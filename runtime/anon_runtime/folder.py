"""Many photos: where each result goes, and one record a photo whatever happens to it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .attributes import Attributes
from .errors import AnonError, GenerationError, NoFaceError, OutputError, PhotoError, UsageError
from .images import encode_png, write_file
from .pipeline import Anonymizer, Progress
from .portrait import Description, Portrait
from .settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One photo and the file that its portrait is written to; without a photo, given attributes are painted."""

    photo: Path | None
    output: Path


@dataclass(frozen=True)
class Record:
    """What became of a photo or a prompt: one line of ``--json``.

    Attributes:
        status: ``ok``, ``skipped`` or ``error``; only ``ok`` has an output.
        reason: why there is no output.
        face: x, y, width, height in pixels of the upright photo.
        seconds: time by stage, and ``total``.
    """

    input: str | None
    output: str | None
    status: str
    reason: str | None
    seed: int
    prompt: str | None = None
    negative_prompt: str | None = None
    attributes: Attributes | None = None
    face: tuple[float, float, float, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types, with seconds rounded to milliseconds."""
        return asdict(self) | {"seconds": {stage: round(value, 3) for stage, value in self.seconds.items()}}


def plan_outputs(photos: Sequence[Path], out: Path) -> list[Job]:
    """Decide where each portrait goes: into the folder ``out`` as ``<photo's name>.png``, or to the file ``out``.

    Raises:
        UsageError: two results would share a file, a result would overwrite a photo, or ``out`` cannot hold them.
    """
    if is_file_name(out):
        if len(photos) > 1:
            why = f"it names one file, and there are {len(photos)} photos"
            raise UsageError(f"output {out}", why, "name a folder instead")
        jobs = [Job(photos[0], out)]
    else:
        jobs = [Job(photo, out / f"{photo.stem}.png") for photo in photos]
    taken: dict[Path, Path | None] = {}
    originals = {photo.resolve() for photo in photos}
    for job in jobs:
        if job.output in taken:
            fix = "rename one, or run them into different folders"
            raise UsageError(f"output {job.output}", f"{taken[job.output]} and {job.photo} would both go there", fix)
        if job.output.resolve() in originals:
            raise UsageError(f"output {job.output}", "it would overwrite a photo", "choose another folder")
        taken[job.output] = job.photo
    return jobs


def is_file_name(out: Path) -> bool:
    """Whether an output path names a PNG file rather than a folder.

    Raises:
        UsageError: it names a picture of another kind.
    """
    if out.is_dir():
        return False
    if out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"):
        raise UsageError(f"output {out}", "portraits are written as PNG", f"name {out.with_suffix('.png')}")
    return out.suffix.lower() == ".png"


def prepare_folder(folder: Path) -> None:
    """Make sure, before any work, that a folder exists and can be written.

    Raises:
        OutputError: it cannot.
    """
    probe = folder / ".anon-run-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        why, fix = error.strerror or str(error), "choose a folder that can be written"
        raise OutputError(f"output folder {folder}", why, fix) from None


def run_batch(anonymizer: Anonymizer, jobs: Sequence[Job], progress: Progress | None = None) -> list[Record]:
    """Anonymize photos as one batch; a photo that cannot be done gives a record that says why, and no output.

    Raises:
        AnonError: the run itself cannot go on (bundle, engines, output folder).
    """
    found = _describe(anonymizer, jobs)
    described = [(job, d) for job, d in zip(jobs, found, strict=True) if isinstance(d, Description)]
    painted = dict(zip([job for job, _ in described], _paint(anonymizer, described, progress), strict=True))
    records = []
    for job, description in zip(jobs, found, strict=True):
        result = painted.get(job, description)
        if isinstance(result, Portrait):
            records.append(save(result, job.output, job.photo))
        else:
            assert isinstance(result, PhotoError)
            records.append(_failure(job, result, anonymizer.settings))
    return records


def describe_batch(anonymizer: Anonymizer, jobs: Sequence[Job]) -> list[Record]:
    """Only the first half of `run_batch`: what the photos would be painted from.

    Raises:
        AnonError: the run itself cannot go on.
    """
    records = []
    for job, result in zip(jobs, _describe(anonymizer, jobs), strict=True):
        if isinstance(result, Description):
            r, seconds = result.request, result.seconds | {"total": sum(result.seconds.values())}
            prompts, facts = (r.seed, r.prompt, r.negative_prompt), (result.attributes, result.face, seconds)
            records.append(Record(_name(job.photo), None, "ok", None, *prompts, *facts))
        else:
            records.append(_failure(job, result, anonymizer.settings))
    return records


def _describe(anonymizer: Anonymizer, jobs: Sequence[Job]) -> Sequence[Description | PhotoError]:
    photos = [job.photo for job in jobs if job.photo is not None]
    if not photos:
        return [anonymizer.describe(None)]
    try:
        return anonymizer.describe_all(photos)
    except AnonError:
        raise
    except Exception:
        # One photo must not take the others of its batch down: each is described alone, and fails alone.
        return [_attempt(job, partial(anonymizer.describe, job.photo)) for job in jobs]


def _paint(
    anonymizer: Anonymizer, described: Sequence[tuple[Job, Description]], progress: Progress | None
) -> list[Portrait | PhotoError]:
    """A portrait, or the reason why there is none, for each description."""
    if not described:
        return []
    try:
        portraits = anonymizer.generate([d.request for _, d in described], progress=progress)
        return [portrait.of(d) for portrait, (_, d) in zip(portraits, described, strict=True)]
    except Exception:
        return [_attempt(job, partial(_paint_one, anonymizer, d)) for job, d in described]


def _paint_one(anonymizer: Anonymizer, description: Description) -> Portrait:
    return anonymizer.generate([description.request])[0].of(description)


def _attempt(job: Job, work: Callable[[], T]) -> T | PhotoError:
    """The result of some work on a photo, or the reason why there is none."""
    try:
        return work()
    except GenerationError as error:
        return PhotoError(f"{job.photo}: {error.what}", error.why, error.fix)
    except PhotoError as error:
        return error
    except AnonError:
        raise
    except Exception as error:  # One photo must never end a run of many.
        return PhotoError(str(job.photo), f"internal error ({type(error).__name__}: {error})", "please report it")


def _failure(job: Job, error: PhotoError, settings: Settings) -> Record:
    skipped = isinstance(error, NoFaceError) and settings.no_face == "skip"
    return Record(_name(job.photo), None, "skipped" if skipped else "error", str(error), settings.seed)


def _name(photo: Path | None) -> str | None:
    return None if photo is None else str(photo)


def save(portrait: Portrait, output: Path, photo: Path | None) -> Record:
    """Write a portrait and make its record."""
    p, start = portrait, time.perf_counter()
    write_file(output, encode_png(p.image))
    seconds = p.seconds | {"png": time.perf_counter() - start}
    seconds["total"] = sum(seconds.values())
    prompts, facts = (p.seed, p.prompt, p.negative_prompt), (p.attributes, p.face, seconds)
    return Record(_name(photo), str(output), "ok", None, *prompts, *facts)
