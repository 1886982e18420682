import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration, Evaluation, choose_evaluations
from anon_runtime.diffusion.schedule import Schedule, load_schedule
from anon_runtime.errors import BundleError
from anon_runtime.types import SAMPLERS, Sampler


@pytest.fixture(scope="module")
def reusing(export_packages: None, demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    """The demo, built with `--deepcache`; everything but the UNet is taken from the demo bundle."""
    from anon_export.build.builder import build
    from anon_export.build.options import BuildOptions

    output = tmp_path_factory.mktemp("reusing")
    shutil.copytree(demo_bundle, output / "demo")
    return Anonymizer.of(Engines(build(BuildOptions("demo", "demo", output, "demo", deepcache=True))))


REQUEST = Request("closeup portrait photo of a white 34 woman, Smiling , Young , ", " Bald , Mustache , ", seed=7)


def schedule(bundle: Path, sampler: Sampler = "dpmpp_sde", steps: int = 15) -> Schedule:
    return load_schedule(bundle / "scheduler" / "tables.npz", sampler, steps)


def test_level_0_saves_nothing(demo_bundle: Path) -> None:
    assert choose_evaluations(schedule(demo_bundle), FAST_LEVELS[0]) == (Evaluation(),) * 29


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(SAMPLERS), st.integers(1, 50), st.floats(0, 20), st.floats(0, 20), st.integers(1, 6))
def test_choices_of_evaluations(
    demo_bundle: Path, sampler: Sampler, steps: int, low: float, high: float, cache_interval: int
) -> None:
    tables = schedule(demo_bundle, sampler, steps)
    plan = choose_evaluations(tables, Acceleration(guidance_interval=(low, high), cache_interval=cache_interval))
    assert [e.guided for e in plan] == [low <= s <= high for s in tables.sigmas / tables.alphas]
    kept: Evaluation | None = None
    since = 0
    for evaluation in plan:
        if evaluation.full:
            kept, since = evaluation, 1
            continue
        since += 1
        assert kept is not None
        assert since <= cache_interval, "features are never older than the interval"
        assert kept.guided or not evaluation.guided, "there are no features of the negative prompt"
    unguided = choose_evaluations(
        tables, Acceleration(guidance_interval=(low, high), cache_interval=cache_interval), guidance=False
    )
    assert not any(e.guided for e in unguided)
    assert [e.full for e in unguided] == [k % cache_interval == 0 for k in range(len(unguided))]


@pytest.mark.parametrize("level", range(1, len(FAST_LEVELS)))
def test_a_level_changes_the_image_but_not_much(reusing: Anonymizer, level: int) -> None:
    exact, fast = (
        np.asarray(reusing.using(Settings(acceleration=FAST_LEVELS[k])).generate([REQUEST])[0].image, int)
        for k in (0, level)
    )
    assert 0 < np.abs(exact - fast).mean() < 60


def test_an_image_does_not_depend_on_its_batch(reusing: Anonymizer) -> None:
    requests = [REQUEST, Request(REQUEST.prompt, REQUEST.negative_prompt, seed=8)]
    fast = reusing.using(Settings(acceleration=FAST_LEVELS[-1]))
    together = np.asarray(fast.generate(requests)[1].image, int)
    alone = np.asarray(fast.generate(requests[1:])[0].image, int)
    assert np.abs(together - alone).max() <= 1


def test_a_named_sampler_wins(anonymizer: Anonymizer) -> None:
    level = Acceleration(sampler="dpmpp_2m_sde")
    for chosen, expected in (
        (Settings(acceleration=level), "dpmpp_2m_sde"),
        (Settings(acceleration=level, sampler="dpmpp_sde"), "dpmpp_sde"),
    ):
        assert anonymizer.using(chosen).generator.schedule.sampler == expected


def test_a_bundle_without_deepcache(anonymizer: Anonymizer) -> None:
    level = next(level for level in FAST_LEVELS if level.cache_interval > 1)
    with pytest.raises(BundleError, match="--deepcache"):
        anonymizer.using(Settings(acceleration=level)).generate([REQUEST])
