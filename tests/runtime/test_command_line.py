from dataclasses import fields
from pathlib import Path

import click
import pytest

from anon_runtime.bundle.manifest import Defaults
from anon_runtime.cli import command
from anon_runtime.command_line import CommandLine
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.errors import UsageError
from anon_runtime.folder.discovery import Photo
from anon_runtime.folder.options import RunOptions
from anon_runtime.settings import Settings


def parsed(*arguments: str) -> CommandLine:
    """The values of the options after click has parsed the arguments."""
    context = command.make_context("anon-run", list(arguments))
    return CommandLine(**context.params)


def test_every_option_is_a_field() -> None:
    options = {param.name for param in command.params if param.expose_value}
    assert options == {field.name for field in fields(CommandLine)}


def test_what_is_left_out_is_left_open() -> None:
    """These values are chosen later, with the defaults of the bundle."""
    chosen = parsed("a.jpg", "-o", "out")
    chosen.check()
    assert (chosen.inputs, chosen.folder) == ((Path("a.jpg"),), Path("out"))
    assert chosen.settings == Settings()
    assert (chosen.device, chosen.threads, chosen.ray) == (None, None, None)
    assert chosen.options(7, Defaults(batch_size=4)) == RunOptions(seed=7, batch_size=4)


def test_what_is_chosen_reaches_the_settings() -> None:
    more = ["--steps", "3", "--guidance-scale", "1", "--fast", "3", "--ignore", " Young,Bangs ,", "--min-face", "9"]
    chosen = parsed("a.jpg", "-o", "out", *more, "--batch-size", "2", "--no-face", "skip", "--max-failures", "5")
    assert chosen.settings == Settings(
        steps=3, guidance_scale=1, acceleration=FAST_LEVELS[3], ignore=("Young", "Bangs"), min_face=9
    )
    options = chosen.options(7, Defaults(batch_size=4))
    assert options == RunOptions(seed=7, batch_size=2, no_face="skip", max_failures=5)


def test_a_list_that_is_given_again_adds_to_the_first_one() -> None:
    """Nothing that somebody wanted to hide is forgotten without a word."""
    chosen = parsed("a.jpg", "-o", "out", "--ignore", "Young", "--ignore", "Bangs,Bald")
    assert chosen.settings.ignore == ("Young", "Bangs", "Bald")
    kept = ["--keep-metadata", "icc", "--keep-metadata", "datetime"]
    chosen = parsed("a.jpg", "-o", "out", "--mode", "in-place", *kept)
    assert chosen.options(7, Defaults(batch_size=4)).keep_metadata == ("icc", "datetime")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-o", "out"], "name photos"),
        (["a.jpg", "--prompt", "x", "-o", "out"], "not both"),
        (["a.jpg", "-o", "out", "--negative-prompt", "x"], "--negative-prompt goes with --prompt"),
        (["--prompt", "x", "--prompt-only"], "--prompt-only"),
        (["a.jpg"], "--output"),
        (["a.jpg", "-o", "out", "--prompt-only"], "--output"),
        (["--prompt", "x", "-o", "out", "--ray"], "--ray"),
        (["--prompt", "x", "-o", "out", "--rename", "hash"], "--rename hash"),
        (["a.jpg", "-o", "out", "--seed", "7", "--seed-file", "secret"], "--seed-file"),
    ],
)
def test_options_that_contradict_each_other(arguments: list[str], word: str) -> None:
    with pytest.raises(click.UsageError, match=word):
        parsed(*arguments).check()


def test_a_bucket_is_no_place_for_portraits() -> None:
    with pytest.raises(UsageError, match="it has to be a folder or a file"):
        parsed("a.jpg", "-o", "s3://bucket/out").check()


@pytest.mark.parametrize("more", [["--suffix", "x"], ["--rename", "hash"], ["--log-attributes"]])
def test_options_of_a_folder_do_not_go_with_a_file(tmp_path: Path, more: list[str]) -> None:
    chosen, photos = parsed("a.jpg", "-o", "out.png", *more), [Photo(Path("a.jpg"), Path("a.jpg"))]
    with pytest.raises(click.UsageError, match="--output names a file"):
        chosen.place(tmp_path / "out.png", photos)
    assert chosen.place(tmp_path / "out", photos).file is None


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="it is empty"):
        parsed("", "-o", "out")
