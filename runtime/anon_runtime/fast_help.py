"""The help of ``--fast``, which names the price of each level: the bundle's own where it was measured."""

from copy import copy
from pathlib import Path

import click

from .bundle.bundle import Bundle
from .bundle.manifest import LevelCost, LevelCosts
from .errors import AnonError

DEFAULT_BUNDLE = Path("engines/demo")
LEVELS = "The level of fast mode. 0 is exact. The other levels generate other images of nearly the same quality. "
# These figures are those of docs/speed.md: the speeds at full size, the attributes on the demo.
UNMEASURED = (
    "The UNet has a sixth less to do with 1, and is about 3 times as fast with 2 and 4 times with 3 (full size, on "
    "processors). Attributes are found in its images with an AUC of 0.889 with 0, 0.888 with 1, 0.886 with 2 and 0.878 "
    "with 3 (the demo; with other seeds 0.882). `anon-export measure-levels BUNDLE` measures a bundle of yours, and "
    "`anon-run --engines BUNDLE --help` then says it here. "
)
NEEDS = "Levels 2 and 3 need a bundle built with --deepcache."


class FastOption(click.Option):
    """The option ``--fast``. Its help depends on the bundle that ``--engines`` names before ``--help``."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line of the help."""
        own = copy(self)
        own.help = write_help(ctx.params.get("engines") or DEFAULT_BUNDLE)
        return click.Option.get_help_record(own, ctx)


def write_help(bundle: Path) -> str:
    """The help of ``--fast``, with the prices of the bundle, or those of docs/speed.md if it has none or is none."""
    try:
        costs = Bundle.read(bundle).manifest.levels
    except AnonError:
        costs = None
    return LEVELS + (UNMEASURED if costs is None else f"Measured with {bundle}: {describe_levels(costs)}. ") + NEEDS


def describe_levels(costs: LevelCosts) -> str:
    """What the levels of fast mode save and cost with a bundle, in a sentence."""
    parts = [f"{level} is {cost.speed:.1f} times as fast, {_nearness(cost)}" for level, cost in costs.levels.items()]
    parts.append(f"exact images of other seeds, {_nearness(costs.other_seeds)}")
    measure = "PSNR to" if costs.other_seeds.agreement is None else "attributes that are read alike from"
    return f"{'; '.join(parts)} (the UNet's time; {measure} the exact images; {costs.images} of each; {costs.machine})"


def _nearness(cost: LevelCost) -> str:
    return f"{cost.psnr:.1f} dB" if cost.agreement is None else f"{100 * cost.agreement:.1f} % alike"
