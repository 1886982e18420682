"""The options of ``anon-run`` as one frozen dataclass, and the settings and options of a run that follow from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import click

from .bundle.manifest import Defaults
from .diffusion.acceleration import FAST_LEVELS
from .errors import UsageError
from .faces.attributes import load_attributes
from .faces.prompt import PromptStyle
from .folder.discovery import Photo
from .folder.options import RunMode, RunOptions
from .folder.writer import ImageFormat, Output, Rename
from .guard.options import Mode
from .settings import Settings
from .types import Box, Sampler


@dataclass(frozen=True)
class CommandLine:
    """The values of all options and arguments of ``anon-run``; None means that the user has left out the option."""

    inputs: tuple[Path | str, ...]
    output: Path | str | None
    recursive: bool
    mode: RunMode
    keep: Path | None
    only_box: tuple[Box, ...]
    keep_metadata: tuple[str, ...]
    format: ImageFormat | None
    quality: int
    suffix: str
    rename: Rename
    overwrite: bool
    max_failures: int | None
    log_attributes: bool
    engines: Path
    checksum: bool
    device: str | None
    prompt: str | None
    negative_prompt: str | None
    seed: int | None
    seed_file: Path | None
    steps: int | None
    guidance_scale: float | None
    sampler: Sampler | None
    fast: int
    batch_size: int | None
    threads: int | None
    ray: str | None
    prompt_truncate: bool
    prompt_style: PromptStyle
    ignore: tuple[str, ...]
    attributes: Path | None
    prompt_only: bool
    more_formats: bool
    no_face: Literal["error", "skip"]
    min_face: int
    detection_threshold: float | None
    guard: Mode | None
    fmr: float
    attempts: int
    min_rank: int
    best_of: int
    gallery: Path | None
    report: bool
    as_json: bool
    quiet: bool

    def check(self) -> None:
        """Check that the options can be used together.

        Raises:
            UsageError: some options cannot be used together; the message names them.
        """
        if bool(self.inputs or self.attributes) == (self.prompt is not None):
            raise click.UsageError("name photos or --attributes, or give a --prompt, and not both")
        if self.negative_prompt is not None and self.prompt is None:
            raise click.UsageError("--negative-prompt goes with --prompt; a photo writes its own")
        if self.prompt_only and self.prompt is not None:
            raise click.UsageError("--prompt-only shows what is read from photos; it does not go with --prompt")
        if (self.output is None) != self.prompt_only:
            raise click.UsageError("give --output, or --prompt-only to generate nothing, and not both")
        if self.ray is not None and not (self.inputs and self.output):
            raise click.UsageError("--ray spreads photos over machines: name photos and --output, and put --ray last")
        if (self.gallery or self.guard in ("strict", "report")) and not (self.inputs and self.output):
            raise click.UsageError("--guard and --gallery are for portraits of photos: name photos and --output")
        if isinstance(self.output, str):
            raise UsageError(
                f"output {self.output}", "it has to be a folder or a file", "name a path, or mount the bucket"
            )
        if self.mode != "portrait" and not self.inputs:
            raise click.UsageError("--mode says what is made of photos; name some")
        if (self.keep or self.only_box) and self.mode != "in-place":
            raise click.UsageError("--keep and --only-box choose faces for --mode in-place")
        if self.keep_metadata and self.mode != "in-place":
            raise click.UsageError("--keep-metadata goes with --mode in-place; a portrait has none of its photo")
        if self.keep and not self.output:
            raise click.UsageError("--keep is for a run: name an --output")
        if self.rename == "hash" and not self.inputs:
            raise click.UsageError("--rename hash hides names of photos; name some")
        if self.seed is not None and self.seed_file is not None:
            raise click.UsageError("give --seed (or ANON_RUN_SEED) or --seed-file, and not both")

    @property
    def folder(self) -> Path | None:
        """The path of the output; None if nothing is generated."""
        return None if self.output is None else Path(self.output)

    @cached_property
    def settings(self) -> Settings:
        """The settings for reading photos and generating images."""
        return Settings(
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            sampler=self.sampler,
            acceleration=FAST_LEVELS[self.fast],
            prompt_truncate=self.prompt_truncate,
            prompt_style=self.prompt_style,
            ignore=tuple(_split(self.ignore)),
            attributes=load_attributes(self.attributes) if self.attributes else None,
            detection_threshold=self.detection_threshold,
            min_face=self.min_face,
            more_formats=self.more_formats,
            guard=self.guard if self.inputs and self.output else "off",
            fmr=self.fmr,
            attempts=self.attempts,
            min_rank=self.min_rank,
            best_of=self.best_of,
        )

    def options(self, seed: int, defaults: Defaults) -> RunOptions:
        """Return the options of the run.

        Args:
            seed: the seed of the run.
            defaults: the defaults of the bundle.
        """
        return RunOptions(
            seed=seed,
            batch_size=defaults.batch_size if self.batch_size is None else self.batch_size,
            no_face=self.no_face,
            overwrite=self.overwrite,
            max_failures=self.max_failures,
            log_attributes=self.log_attributes,
            report=self.report,
            mode=self.mode,
            boxes=self.only_box or None,
            keep_metadata=tuple(_split(self.keep_metadata)),  # type: ignore[arg-type]  # checked there
        )

    def place(self, folder: Path, photos: Sequence[Photo]) -> Output:
        """Return the place and the format of the portraits.

        Args:
            folder: the path of the output.
            photos: all photos of the run.

        Raises:
            UsageError: the output cannot be used for these photos or with these options.
        """
        output = Output.parse(folder, format=self.format, quality=self.quality, suffix=self.suffix, rename=self.rename)
        output.check(photos, each_face=self.mode == "faces")
        if self.only_box and len(photos) > 1:
            raise click.UsageError(f"--only-box is for one photo, and there are {len(photos)}")
        if output.file is not None and (self.suffix or self.rename != "none" or self.log_attributes):
            raise click.UsageError("--suffix, --rename and --log-attributes are for a folder; --output names a file")
        return output


def _split(lists: tuple[str, ...]) -> Iterator[str]:
    """The names of an option that has a list and can be given again."""
    return filter(None, map(str.strip, ",".join(lists).split(",")))
