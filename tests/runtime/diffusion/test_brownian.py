from pathlib import Path

import numpy as np

from anon_runtime.diffusion.brownian import draw_initial, draw_noise, specify_noise
from anon_runtime.diffusion.schedule import load_schedule
from anon_runtime.diffusion.torch_rng import NormalStream

SHAPE = 4, 8, 8


def test_noise_of_the_multistep_sampler_follows_the_initial_latents(demo_bundle: Path) -> None:
    """The initial latents and the noise come from one generator, as in diffusers."""
    spec = specify_noise(load_schedule(demo_bundle / "scheduler" / "tables.npz", "dpmpp_2m_sde", 5))
    numbers = NormalStream(7).draw(8 * 256).reshape(8, *SHAPE)
    np.testing.assert_array_equal(draw_initial(7, SHAPE), numbers[:1])
    np.testing.assert_array_equal(draw_noise(spec, 7, SHAPE), numbers[1:6])
    np.testing.assert_array_equal(draw_initial(7, SHAPE, 3), numbers[:3])
    np.testing.assert_array_equal(draw_noise(spec, 7, SHAPE, before=3), numbers[3:])


def test_noise_of_a_brownian_path_is_standard_normal_and_new_for_each_update(demo_bundle: Path) -> None:
    schedule = load_schedule(demo_bundle / "scheduler" / "tables.npz", "dpmpp_sde", 5)
    noise = draw_noise(specify_noise(schedule), 7, (4, 32, 32))
    assert noise.shape == (schedule.evaluations - 1, 4, 32, 32)
    everything = np.concatenate([draw_initial(7, (4, 32, 32)), noise]).reshape(len(noise) + 1, -1)
    np.testing.assert_allclose(everything.mean(axis=1), 0, atol=0.1)
    np.testing.assert_allclose(everything.std(axis=1), 1, atol=0.1)
    assert not np.array_equal(noise, draw_noise(specify_noise(schedule), 8, (4, 32, 32)))
