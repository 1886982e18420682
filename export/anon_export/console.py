"""The output of ``anon-export``: progress on standard error, results as text or as JSON."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
from tqdm import tqdm

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.identity import Calibration
from anon_runtime.bundle.manifest import Choice, Damage, LevelCosts, Manifest, Verification
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.faces.detection import SECOND_DETECTOR_ROLE
from anon_runtime.fast_help import describe_levels
from anon_runtime.guard.thresholds import find_threshold, lowest_carried_rate

from .build.plan import BuildPlan
from .disk import free_space, gigabytes

# A component's progress in steps. A step is one call of a library, which reports no progress of its own.
STAGES = {"unchanged": 3, "exporting": 0, "checking the graph": 1, "converting": 2}


class Progress:
    """Shows one progress bar for each component on a terminal, and otherwise one line.

    Attributes:
        states: the outcome of each component: ``unchanged``, or the seconds that it took.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.states: dict[str, str | float] = {}
        self._quiet, self._bars = quiet, not quiet and sys.stderr.isatty()
        self._bar: Any = None
        self._name, self._start = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._finish(done=kind is None)

    def report(self, component: str, state: str) -> None:
        """Show that a component has a new state."""
        if component != self._name:
            self._finish(done=True)
            self._name, self._start = component, time.perf_counter()
            self.states[component] = state
            if self._bars:
                layout = "{desc:<24} {bar:20} {elapsed} {postfix}"
                self._bar = tqdm(total=3, desc=component, bar_format=layout, postfix=state)
            elif not self._quiet:
                click.echo(f"anon-export: {component}: {state}", err=True)
        if self._bar is not None:
            self._bar.set_postfix_str(state)
            self._bar.update(STAGES.get(state, 1) - self._bar.n)

    def _finish(self, *, done: bool) -> None:
        if self._name and self.states[self._name] != "unchanged":
            self.states[self._name] = round(time.perf_counter() - self._start, 2)
        if self._bar is not None:
            if done:
                self._bar.update(3 - self._bar.n)
            self._bar.close()
            self._bar = None


@contextmanager
def counting_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; the block gets a function of the photos or images that are done and of all."""
    with tqdm(unit=unit, disable=None, dynamic_ncols=True) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def show_calibration(calibration: Calibration, left_out: Mapping[Path, str]) -> None:
    """Show the thresholds that follow from a calibration, and on standard error the photos that were left out."""
    for name, why in left_out.items():
        click.echo(f"anon-export: {name} was left out: {why}", err=True)
    click.echo(f"{calibration.data}: {calibration.people:,} people, {calibration.pairs:,} pairs of different people")
    click.echo(f"{'false match rate':<18}{'threshold':>10}   95 % interval")
    for power in range(2, 6):
        found = find_threshold(calibration, 10.0**-power)
        note = "" if found.carried else "   too far from the data"
        click.echo(f"{f'1e-{power}':<18}{found.value:>10.3f}   {found.low:.3f} to {found.high:.3f}{note}")
    click.echo(f"the lowest rate that these faces can carry is {lowest_carried_rate(calibration):.1e}")


def show_levels(costs: LevelCosts) -> None:
    """Show what the levels of fast mode save and cost."""
    click.echo(f"{costs.images} images of each, on {costs.machine}")
    click.echo(f"{'--fast':<12}{'UNet':>8}{'PSNR':>10}{'attributes alike':>18}{'one face':>10}")
    for name, cost in {**costs.levels, "other seeds": costs.other_seeds}.items():
        faces = (f"{100 * share:.1f} %" if share is not None else "-" for share in (cost.agreement, cost.one_face))
        alike, one_face = faces
        click.echo(f"{name:<12}{cost.speed:>6.2f} x{cost.psnr:>7.1f} dB{alike:>18}{one_face:>10}")
    if missing := [str(level) for level in range(1, len(FAST_LEVELS)) if str(level) not in costs.levels]:
        click.echo(f"the bundle lacks what levels {', '.join(missing)} need; build it with --deepcache", err=True)


def show_plan(plan: BuildPlan, *, as_json: bool) -> None:
    """Show what a build would do."""
    target, generator = plan.options.target, plan.generator
    components: dict[str, dict[str, Any]] = {
        step.component.name: {
            "action": step.action,
            "precision": step.component.precision,
            "bytes": step.estimate(target),
            "key": step.key,
        }
        for step in plan.steps
    }
    free = free_space(plan.options.output)
    if as_json:
        result: dict[str, Any] = {
            "bundle": str(plan.folder),
            "target": target,
            "gpu": plan.gpu,
            "components": components,
            "unchanged": plan.unchanged,
            "bytes": plan.size,
            "free_bytes": free,
            "source": asdict(plan.source),
        }
        click.echo(json.dumps(result, indent=2))
        return
    where = f"{target}, {plan.gpu}" if plan.gpu else target
    click.echo(f"{plan.folder} from {plan.source.model}, for {where}, {generator.width} x {generator.height} images")
    for name, facts in components.items():
        click.echo(f"  {facts['action']:<6}{name:<23}{facts['precision']:<13}about {gigabytes(facts['bytes'])}")
    state = "nothing to do" if plan.unchanged else f"about {gigabytes(plan.size)} to write"
    click.echo(f"{state}, {gigabytes(free)} free")


def show_build(bundle: Bundle, states: dict[str, str | float], *, as_json: bool, quiet: bool) -> None:
    """Show what a build did."""
    manifest = bundle.manifest
    if as_json:
        measured = asdict(manifest.verification) if manifest.verification else None
        facts = {"bundle": str(bundle.path), "bytes": size(manifest), "components": states, "verification": measured}
        parts = {"damage": manifest.damage, "choice": manifest.choice}
        facts |= {name: asdict(part) for name, part in parts.items() if part is not None}
        click.echo(json.dumps(facts))
    if quiet:
        return
    g = manifest.generator
    spacing = manifest.tables.timestep_spacing
    facts_line = f"{gigabytes(size(manifest))}, {g.width} x {g.height} images, timestep spacing {spacing}"
    click.echo(f"{bundle.path}: {facts_line}", err=True)
    kept = [name for name, state in states.items() if state == "unchanged"]
    if "bundle" in kept:
        click.echo("nothing has changed since it was built, and nothing was built", err=True)
    elif kept:
        click.echo(f"unchanged and not built again: {', '.join(kept)}", err=True)
    if manifest.verification is None:
        here = "the graphs agree with PyTorch, but the engines have not run: this machine has no such GPU"
        click.echo(f"{here}; run `anon-export verify {bundle.path}` where there is one ({manifest.gpu})", err=True)
    else:
        click.echo(f"an image agrees with diffusers' to {manifest.verification.image_psnr:.1f} dB", err=True)
    if "face_detector" in manifest.engines and SECOND_DETECTOR_ROLE not in manifest.engines:
        click.echo("no second face detector: it needs package facer and its file mobilenet0.25_Final.pth", err=True)
    if manifest.damage is not None:
        click.echo(f"the UNet in {manifest.engines['unet'].precision}: {describe_damage(manifest.damage)}", err=True)
    if manifest.choice is not None:
        click.echo(f"the target: {describe_choice(manifest.choice)}", err=True)


def describe_damage(damage: Damage) -> str:
    """What a UNet in bf16 or int8 costs, in one line."""
    noisy, clean = damage.rms[0][1], damage.rms[-1][1]
    faces = "" if damage.agreement is None else f", {100 * damage.agreement:.1f} % of attributes the same"
    images = f"{damage.images} images {damage.psnr:.1f} dB from exact ones (worst {damage.worst_psnr:.1f}){faces}"
    return f"{images}; outputs off by {100 * noisy:.1f} % at the first step, {100 * clean:.1f} % at the last"


def describe_choice(choice: Choice) -> str:
    """How a target was chosen, in one line; for targets that change the images, what they would save."""
    measured = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in choice.seconds.items())
    return f"{choice.target}, chosen by the time of a part of the UNet: {measured} ({choice.machine})"


def show_verification(manifest: Manifest, measured: Verification, *, as_json: bool) -> None:
    """Show the differences of each engine from PyTorch."""
    if as_json:
        click.echo(json.dumps(asdict(measured), indent=2))
        return
    click.echo(f"{'engine':<22}{'largest':>10}{'99.9 %':>10}{'mean':>10}{'relative':>10}")
    for role, e in measured.engines.items():
        click.echo(f"{role:<22}{e.max:>10.1e}{e.p999:>10.1e}{e.mean:>10.1e}{e.relative:>10.1e}")
    click.echo(f"an image agrees with diffusers' to {measured.image_psnr:.1f} dB")


def show_bundle(manifest: Manifest, *, as_json: bool) -> None:
    """Show what a bundle holds."""
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    g, t, d, s = manifest.generator, manifest.tables, manifest.defaults, manifest.source
    measured = manifest.verification
    where = f"{manifest.target}, {manifest.gpu}" if manifest.gpu else manifest.target
    origin = f"{s.model}{f' at {s.revision[:12]}' if s.revision else ''}{f', VAE {s.vae}' if s.vae else ''}"
    facts = {
        "bundle": f"{manifest.name}, {gigabytes(size(manifest))}, for {where}",
        "source": f"{origin}, {len(s.files)} weight files",
        "images": f"{g.width} x {g.height}, latents {' x '.join(map(str, g.latent_shape))}",
        "samplers": f"{', '.join(t.samplers)}; 1 to {t.max_steps} steps; timestep spacing {t.timestep_spacing}",
        "defaults": f"{d.sampler}, {d.steps} steps, guidance scale {d.guidance_scale}",
        "built with": ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items()),
        "image": f"{measured.image_psnr:.1f} dB from diffusers'" if measured else "not compared with diffusers'",
    }
    if manifest.damage is not None:
        facts["damage"] = describe_damage(manifest.damage)
    if manifest.choice is not None:
        facts["target"] = describe_choice(manifest.choice)
    if manifest.levels is not None:
        facts["levels"] = describe_levels(manifest.levels)
    for title, text in facts.items():
        click.echo(f"{title + ':':<12}{text}")
    for role, spec in manifest.engines.items():
        error = measured.engines.get(role) if measured else None
        note = f", {error.relative:.0e} from PyTorch" if error else ""
        click.echo(f"{role}: {spec.path}, {spec.signature}, {spec.precision}{note}")


def size(manifest: Manifest) -> int:
    """The size of a bundle's files in bytes."""
    return sum(record.size for record in manifest.files.values())
