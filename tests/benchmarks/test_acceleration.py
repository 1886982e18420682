from dataclasses import replace

import numpy as np
import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration
from benchmarks.acceleration import EXACT, VARIANTS, Cost, count_samples, frechet_distance, table


@pytest.mark.parametrize(
    ("acceleration", "samples", "work"),
    [
        (Acceleration(), 58, 58),
        (Acceleration(cache_interval=2), 58, 2 * (15 + 14 * 0.25)),
        (FAST_LEVELS[1], 49, 49),
        (FAST_LEVELS[3], 24, 3 + 2 * 5 + 0.25 * (3 + 2 * 4)),
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
    assert next(iter(VARIANTS.values())) == EXACT, "the others are compared with it"
    assert all(level in measured for level in FAST_LEVELS)


def test_the_table() -> None:
    costs = [
        Cost("exact", "exact", 0, 58, 58.0, 99.0, 0.889, 1.0, 0.0),
        Cost("int8", "less", None, 29, 14.5, 20.0, 0.88, 1.0, 0.01),
    ]
    lines = table(costs)
    assert lines[2] == "| exact | exact | 0 | 58 | 1.00 x |  | 0.8890 | 1.000 | 0.0000 |"
    assert lines[3] == "| int8 | less |  | 29 | 4.00 x | 20.0 dB | 0.8800 | 1.000 | 0.0100 |"


def test_the_distance_of_two_normal_distributions() -> None:
    """Both are normal, so that FID's formula can be written out."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40_000, 2)), rng.standard_normal((40_000, 2)) * (2, 3) + (1, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(1 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=0.03)
