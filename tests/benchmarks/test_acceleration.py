from dataclasses import replace

import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration
from benchmarks.acceleration import VARIANTS, Cost, count_samples, table


@pytest.mark.parametrize(
    ("acceleration", "samples", "work"),
    [
        (Acceleration(), 58, 58),
        (Acceleration(cache_interval=2), 58, 2 * (15 + 14 * 0.25)),
        (FAST_LEVELS[1], 49, 49),
        (FAST_LEVELS[3], 23, 23),
    ],
)
def test_samples_are_counted(anonymizer: Anonymizer, acceleration: Acceleration, samples: int, work: float) -> None:
    """15 steps of 2S are 29 evaluations, and 58 samples with guidance. A cached sample counts as a quarter here."""
    manifest = anonymizer.engines.bundle.manifest
    engines = manifest.engines | {"unet_cached": manifest.engines["unet"]}  # it is never loaded
    bundle = replace(anonymizer.engines.bundle, manifest=replace(manifest, engines=engines))
    anonymizer = Anonymizer.of(Engines(bundle))
    counted, relative_time = count_samples(anonymizer, Settings(acceleration=acceleration), 0.25)
    assert counted == samples
    assert relative_time == pytest.approx(work)


def test_every_level_is_measured() -> None:
    measured = [settings.acceleration for settings in VARIANTS.values()]
    assert next(iter(VARIANTS.values())) == Settings(), "the others are compared with it"
    assert all(level in measured for level in FAST_LEVELS)


def test_the_table() -> None:
    costs = [Cost("exact", 0, 58, [1.0, 1.0], 99.0, 0.889, 1.0), Cost("less", None, 29, [0.5, 0.25], 20.0, 0.88, 1.0)]
    lines = table(costs)
    assert lines[2] == "| exact | 0 | 58 | 1.00 x | 1.00 x |  | 0.889 | 1.000 |"
    assert lines[3] == "| less |  | 29 | 2.00 x | 4.00 x | 20.0 dB | 0.880 | 1.000 |"
