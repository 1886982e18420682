"""The sampling loops: pure generators over tables, noise and a denoiser.

The caller advances the loop, so progress, previews and cancelling are the caller's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schedule import Schedule

Floats = NDArray[np.float32]
# The noise of the k-th update, (n, channels, height, width), unit variance.
NoiseSource = Callable[[int], Floats]
# Predicted noise for a scaled sample (n, channels, height, width) at the k-th evaluation.
Denoiser = Callable[[Floats, int], Floats]


@dataclass(frozen=True)
class State:
    """Where a loop stands after an evaluation of the denoiser.

    Attributes:
        evaluation: how many evaluations are done.
        latents: the current sample, float32 (n, channels, height, width).
        denoised: the denoiser's current guess of the final latents.
    """

    evaluation: int
    latents: Floats
    denoised: Floats


def dpmpp_sde(latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser) -> Iterator[State]:
    """DPM-Solver++ (2S) with Brownian noise, two evaluations a step and one for the last step.

    k-diffusion's ``sample_dpmpp_sde`` (r = 1/2, eta = s_noise = 1) as diffusers' ``DPMSolverSDEScheduler`` computes it.

    Args:
        latents: initial sample, already scaled by ``init_noise_sigma``; (n, channels, height, width).
        schedule: tables of sampler ``dpmpp_sde``.
        noise: asked for update 0 .. 2 * steps - 3, in order.
        denoise: predicts noise.

    Yields:
        The state after each evaluation; the last one holds the result.
    """
    s, x, base = schedule, latents, latents
    last = s.evaluations - 1
    for k in range(last):
        denoised = _denoised(s, k, x, denoise)
        # The first half step starts from x; the second one starts there again, with the midpoint's prediction.
        x = s.sample_coefs[k] * base + s.denoised_coefs[k] * denoised + noise(k) * s.noise_coefs[k]
        if k % 2 == 1:
            base = x
        yield State(k + 1, x, denoised)
    denoised = _denoised(s, last, x, denoise)
    derivative = (x - denoised) / s.sigmas[last]
    yield State(last + 1, x + derivative * -s.sigmas[last], denoised)


def dpmpp_2m_sde(latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser) -> Iterator[State]:
    """SDE-DPM-Solver++ (2M), one evaluation a step.

    diffusers' ``DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)``.

    Args and yields are those of `dpmpp_sde`, and the noise is asked for update 0 .. steps - 1.
    """
    s, x = schedule, latents
    previous = np.zeros_like(latents)
    for k in range(s.evaluations):
        denoised = _denoised(s, k, x, denoise)
        x = s.sample_coefs[k] * x + s.denoised_coefs[k] * denoised
        if s.correction_coefs[k]:
            x = x + s.correction_coefs[k] * (s.correction_scales[k] * (denoised - previous))
        x = x + s.noise_coefs[k] * noise(k)
        previous = denoised
        yield State(k + 1, x, denoised)


def _denoised(schedule: Schedule, k: int, x: Floats, denoise: Denoiser) -> Floats:
    epsilon = denoise(x / schedule.input_scales[k], k)
    return (x - schedule.sigmas[k] * epsilon) / schedule.alphas[k]


LOOPS = {"dpmpp_sde": dpmpp_sde, "dpmpp_2m_sde": dpmpp_2m_sde}
