"""The command that makes the demo's weights."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import click
import torch
from transformers import CLIPTokenizer

from anon_runtime.errors import AnonError

from ..generator import DEMO, Parts, make_parts, make_scheduler, write_tokenizer
from ..networks import PAIR, AttributeNet, DemographyNet, FaceNet
from ..weights import FACES, FOLDER, GENERATOR, save_faces, save_generator
from .autoencoder import train_autoencoder
from .captions import Mixture
from .data import Photos, load_photos, split
from .denoiser import Generator, Windows, train_denoiser
from .face_networks import (
    CUTS,
    Lesson,
    attribute_crop,
    balanced,
    demography_crop,
    disguised_lesson,
    plain_lesson,
    train_face_network,
)
from .loop import Recipe, cached
from .reader import train_reader
from .teachers import Teachers, load_teachers

AUTOENCODER = Recipe("autoencoder", 3000, 1e-3)
ATTRIBUTES = Recipe("attributes", 1250, 2e-3, decay=0.05), Recipe("attributes-surrounded", 1800, 2e-3, decay=0.05)
DISGUISED = Recipe("disguised", 2000, 1.5e-3, decay=0.05), Recipe("disguised-surrounded", 2000, 1.5e-3, decay=0.05)
DEMOGRAPHY = Recipe("demography", 600, 2e-3, decay=0.05)
READER = Recipe("reader", 700, 2e-3)
DENOISER = Recipe("denoiser", 12000, 6e-4)
PARTS = ("faces", "generator")
# The share of smiling faces in a batch. In the demo's photos it is a fifth, and in people's own photos about half.
SMILING = 0.4


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(str(FOLDER)),
    help="Folder that the weights are written to.",
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path),
    default=Path("engines/training"),
    show_default=True,
    help="Folder of the trainings' checkpoints, from which an interrupted run continues.",
)
@click.option(
    "--teachers",
    type=click.Path(path_type=Path),
    help="The folder package/model of `npm pack @vladmandic/face-api@1.7.15`; the part `faces` needs it.",
)
@click.option("--parts", multiple=True, type=click.Choice(PARTS), default=PARTS, show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Factor on the numbers of steps, for trials.")
@click.option("--threads", default=0, help="Threads of torch; 0 is torch's own choice.")
def main(
    data: Path,
    output: Path,
    checkpoints: Path,
    teachers: Path,
    parts: tuple[str, ...],
    scale: float,
    threads: int,
) -> None:
    """Train the demo's networks on labelled photos and write their weights.

    DATA holds labels.csv (attributes, age, ethnicity, box and landmarks of each photo) and photos/. The demo's are
    450 faces of the Synthetic Faces High Quality dataset (SFHQ, David Beniaguev, 2022, MIT licence:
    https://github.com/SelfishGene/SFHQ-dataset), labelled by eye. A fifth of the photos is held out and never trained
    on. The command can be interrupted at any time and started again: it continues from its last checkpoint.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # arithmetic with the tiny activations of new networks is slow otherwise
    try:
        photos, held_out = split(load_photos(data))
        judges = load_teachers(teachers) if "faces" in parts else None
    except AnonError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{len(photos)} photos to train on, {len(held_out)} held out", err=True)
    output.mkdir(parents=True, exist_ok=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    if "generator" in parts:
        make_generator(photos, output / GENERATOR, checkpoints, scale)
    if judges:
        make_faces(photos, judges, output / FACES, checkpoints, scale)


def make_generator(photos: Photos, path: Path, checkpoints: Path, scale: float) -> None:
    """Train autoencoder, text encoder, then UNet and text encoder together, and write them."""
    parts = make_parts(DEMO)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer")
        tokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "tokenizer")
    train_autoencoder(parts.vae, photos, DEMO.height, _scaled(AUTOENCODER, scale), checkpoints)
    generator = Generator(parts.unet, parts.text_encoder, parts.vae, Windows(tokenizer), make_scheduler())
    train_reader(parts.text_encoder, generator.windows, _scaled(READER, scale), checkpoints)
    train_denoiser(generator, photos, DEMO.height, Mixture(), _scaled(DENOISER, scale), checkpoints)
    save_generator(path, Parts(parts.unet, parts.vae, parts.text_encoder), tokenizer)


def make_faces(photos: Photos, teachers: Teachers, path: Path, checkpoints: Path, scale: float) -> None:
    """Train the attribute network's members, then the age and ethnicity network, and write them."""
    torch.manual_seed(DEMO.seed)
    start, demography, attributes = FaceNet(closeup=True), DemographyNet(), AttributeNet()
    members = cast(list[FaceNet], list(attributes.nets))
    first, second = members[:PAIR], members[PAIR:]
    for net in first:  # both begin with the same weights and differ by their training data
        net.load_state_dict(start.state_dict())
    for net, recipe, crop, count, surrounded in (
        (first[0], ATTRIBUTES[0], attribute_crop, 6, False),
        (first[1], ATTRIBUTES[1], attribute_crop, CUTS, True),
        (demography.net, DEMOGRAPHY, demography_crop, CUTS, True),
    ):
        make = partial(plain_lesson, photos, crop, count, surrounded=surrounded)
        lesson = _lesson(checkpoints / f"{recipe.name}.lesson", make)
        train_face_network(net, lesson, None, _scaled(recipe, scale), checkpoints, seed=3)
    lesson = _lesson(checkpoints / "disguised.lesson", partial(disguised_lesson, photos, attribute_crop, teachers))
    chances = balanced(photos, "Smiling", SMILING)
    for net, before, recipe, seed in zip(second, first, DISGUISED, (3, 4), strict=True):
        net.load_state_dict(before.state_dict())
        train_face_network(net, lesson, chances, _scaled(recipe, scale), checkpoints, seed)
    save_faces(path, attributes, demography)


def _lesson(path: Path, make: Callable[[], Lesson]) -> Lesson:
    return Lesson(*cached(path, lambda: tuple(make())))


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    return replace(recipe, steps=max(1, round(recipe.steps * scale)))


if __name__ == "__main__":
    main()
