"""The command ``anon-export``: options to a plan, progress, errors to messages."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from anon_runtime.bundle import Bundle, Manifest
from anon_runtime.errors import AnonError

STEPS = ("model", "text_encoder", "unet", "vae_decoder", "guidance", "faces", "tables", "hashing", "verifying")

EPILOG = """\b
Examples:
  anon-export build demo                        the embedded model, to engines/demo
  anon-export inspect engines/demo              what a bundle holds
  anon-export build ~/models/rv51 --name rv51 --output engines --faces demo
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that bundles are put in.",
)
@click.option(
    "--faces",
    type=click.Choice(("facer+deepface", "demo", "none")),
    help="Face engines: the paper's, the demo's, or none for painting from prompts only.  "
    "[default: demo for demo, otherwise facer+deepface]",
)
@click.option(
    "--target",
    type=click.Choice(("onnxruntime", "openvino")),
    default="onnxruntime",
    show_default=True,
    help="What runs the engines.",
)
@click.option(
    "--timestep-spacing",
    type=click.Choice(("linspace", "leading", "trailing")),
    help="Override the spacing in the model's scheduler config.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def build_command(quiet: bool, name: str | None, faces: str | None, **choices: Any) -> None:
    """Build a bundle from MODEL: `demo`, or a local folder in diffusers' layout."""
    model: str = choices["model"]
    # Paths come from the user's shell; a name such as "." would put the bundle in the wrong place.
    name = name or (model if model == "demo" else Path(model).resolve().name)
    if Path(name).name != name or name == "..":
        raise click.UsageError(f"--name {name!r} is not a plain folder name")
    try:
        from .build import Plan, build
    except ImportError as error:
        fix = "run `pip install anon-engines[cpu,export,demo]`"
        raise AnonError("anon-export", f"package {error.name} is not installed", fix) from None
    plan = Plan(name=name, faces=faces or ("demo" if model == "demo" else "facer+deepface"), **choices)
    with tqdm(total=len(STEPS), unit="step", disable=quiet or not sys.stderr.isatty()) as bar:

        def report(step: str) -> None:
            bar.set_description(step)
            bar.update(STEPS.index(step) - bar.n)
            if bar.disable and not quiet:
                click.echo(f"anon-export: {step}", err=True)

        bundle = build(plan, report)
        bar.update(len(STEPS) - bar.n)
    if not quiet:
        manifest = bundle.manifest
        picture = f"{manifest.generator.width} x {manifest.generator.height}"
        spacing = manifest.tables.timestep_spacing
        click.echo(
            f"{bundle.path}: {_megabytes(manifest):.1f} MB, {picture} pictures, timestep spacing {spacing}", err=True
        )
        if manifest.verification is not None:
            click.echo(f"a picture agrees with diffusers' to {manifest.verification.picture_psnr:.1f} dB", err=True)


@command.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect_command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds, after checking its files."""
    manifest = Bundle.open(bundle).manifest
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    g, t, d = manifest.generator, manifest.tables, manifest.defaults
    measured = manifest.verification
    facts = {
        "bundle": f"{manifest.name}, {_megabytes(manifest):.1f} MB, for {manifest.target}",
        "source": f"{manifest.source.model}, {len(manifest.source.files)} weight files",
        "pictures": f"{g.width} x {g.height}, latents {' x '.join(map(str, g.latent_shape))}",
        "samplers": f"{', '.join(t.samplers)}; 1 to {t.max_steps} steps; timestep spacing {t.timestep_spacing}",
        "defaults": f"{d.sampler}, {d.steps} steps, guidance scale {d.guidance_scale}",
        "built with": ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items()),
        "picture": f"{measured.picture_psnr:.1f} dB from diffusers'" if measured else "not compared with diffusers'",
    }
    for title, text in facts.items():
        click.echo(f"{title + ':':<12}{text}")
    for role, spec in manifest.engines.items():
        error = measured.engines.get(role) if measured else None
        note = f", {error.relative:.0e} from PyTorch" if error else ""
        click.echo(f"{role}: {spec.path}, {spec.contract}, {spec.precision}{note}")


def _megabytes(manifest: Manifest) -> float:
    return sum(record.size for record in manifest.files.values()) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: an error that was foreseen becomes one line and an exit code."""
    try:
        command(arguments)
    except AnonError as error:
        click.echo(f"anon-export: error: {error}", err=True)
        sys.exit(error.exit_code)
