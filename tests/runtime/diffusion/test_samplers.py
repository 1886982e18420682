from pathlib import Path

import numpy as np
import pytest

from anon_runtime.diffusion.samplers import LOOPS
from anon_runtime.diffusion.schedule import load_schedule
from anon_runtime.types import SAMPLERS, Floats, Sampler


@pytest.mark.parametrize("steps", [1, 2, 15])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_loop_ends_at_what_all_evaluations_predict(demo_bundle: Path, sampler: Sampler, steps: int) -> None:
    """This does not depend on the noise, because the last update adds none."""
    schedule = load_schedule(demo_bundle / "scheduler" / "tables.npz", sampler, steps)
    rng = np.random.default_rng(0)
    start, goal = (rng.standard_normal((2, 4, 3, 3)).astype(np.float32) for _ in range(2))

    def denoise(sample: Floats, k: int) -> Floats:
        epsilon: Floats = (sample * schedule.input_scales[k] - schedule.alphas[k] * goal) / schedule.sigmas[k]
        return epsilon

    def noise(_k: int) -> Floats:
        return rng.standard_normal(start.shape).astype(np.float32)

    states = list(LOOPS[sampler](start * schedule.init_noise_sigma, schedule, noise, denoise))
    assert [state.evaluation for state in states] == list(range(1, schedule.evaluations + 1))
    for state in states:
        np.testing.assert_allclose(state.denoised, goal, atol=1e-3)
    np.testing.assert_allclose(states[-1].latents, goal, atol=1e-3)
