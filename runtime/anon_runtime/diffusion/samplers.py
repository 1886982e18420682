"""The sampling loops: generators over tables, noise and a denoiser.

The caller advances the loop, so that progress, previews and cancelling are the caller's business.

The coefficients of an update are tables (`anon_runtime.diffusion.schedule.Schedule`), computed when a bundle is built.
With ``t = -log(sigma)``, eta = s_noise = 1, and (sigma_down, sigma_up) of k-diffusion's ``get_ancestral_step`` from
sigma to the update's end, the tables hold these terms of k-diffusion's formulas:

==================  ===================================  ========================================================
table               ``sample_dpmpp_sde``, r = 1/2        ``sample_dpmpp_2m_sde``, h = t_next - t, solver midpoint
==================  ===================================  ========================================================
sample_coefs        sigma_down / sigma                   sigma_next / sigma * exp(-h)
denoised_coefs      -expm1(t - t_down)                   alpha_next * (1 - exp(-2 h))
noise_coefs         sigma_up                             sigma_next * sqrt(1 - exp(-2 h))
correction_coefs    0                                    denoised_coefs / 2
correction_scales   1                                    1 / r, the ratio of the last h to this one
==================  ===================================  ========================================================

With r = 1/2, k-diffusion's ``fac = 1 / (2 r)`` is 1, so that its second half step uses the midpoint's prediction alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..types import Floats, Sampler
from .schedule import Schedule

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


def sample_dpmpp_sde(latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser) -> Iterator[State]:
    """DPM-Solver++ (2S) with Brownian noise: two evaluations a step, and one for the last step.

    k-diffusion's ``sample_dpmpp_sde`` (after Lu et al., 2022) as diffusers' ``DPMSolverSDEScheduler`` computes it.

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
        denoised = predict_denoised(s, k, x, denoise)
        # The first half step leads from base to the midpoint; the second one starts from base again.
        x = s.sample_coefs[k] * base + s.denoised_coefs[k] * denoised + noise(k) * s.noise_coefs[k]
        if k % 2 == 1:
            base = x
        yield State(k + 1, x, denoised)
    # The last step goes to sigma = 0 by Euler's method.
    denoised = predict_denoised(s, last, x, denoise)
    derivative = (x - denoised) / s.sigmas[last]
    yield State(last + 1, x + derivative * -s.sigmas[last], denoised)


def sample_dpmpp_2m_sde(latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser) -> Iterator[State]:
    """SDE-DPM-Solver++ (2M): one evaluation a step.

    k-diffusion's ``sample_dpmpp_2m_sde`` (solver midpoint) as diffusers'
    ``DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)`` computes it.

    Args and yields are those of `sample_dpmpp_sde`, and the noise is asked for update 0 .. steps - 1.
    """
    s, x = schedule, latents
    previous = np.zeros_like(latents)
    for k in range(s.evaluations):
        denoised = predict_denoised(s, k, x, denoise)
        x = s.sample_coefs[k] * x + s.denoised_coefs[k] * denoised
        if s.correction_coefs[k]:  # the second order's share, from the change since the last step
            x = x + s.correction_coefs[k] * (s.correction_scales[k] * (denoised - previous))
        x = x + s.noise_coefs[k] * noise(k)
        previous = denoised
        yield State(k + 1, x, denoised)


def predict_denoised(schedule: Schedule, k: int, x: Floats, denoise: Denoiser) -> Floats:
    """The denoiser's guess of the final latents, from the noise that it predicts at evaluation k."""
    epsilon = denoise(x / schedule.input_scales[k], k)
    denoised: Floats = (x - schedule.sigmas[k] * epsilon) / schedule.alphas[k]
    return denoised


SamplingLoop = Callable[[Floats, Schedule, NoiseSource, Denoiser], Iterator[State]]
LOOPS: dict[Sampler, SamplingLoop] = {"dpmpp_sde": sample_dpmpp_sde, "dpmpp_2m_sde": sample_dpmpp_2m_sde}
