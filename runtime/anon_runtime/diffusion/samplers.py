"""The sampling loops: generators that use tables, noise and a denoiser.

The caller advances the loop, so that it can show progress and previews, and can stop at any time.

The coefficients of an update are tables (`anon_runtime.diffusion.schedule.Schedule`), computed when a bundle is built.
In the following, ``t = -log(sigma)``, eta = s_noise = 1, and (sigma_down, sigma_up) is the result of k-diffusion's
``get_ancestral_step`` from sigma to the update's end. The tables hold these terms of k-diffusion's formulas:

==================  ===================================  ========================================================
table               ``sample_dpmpp_sde``, r = 1/2        ``sample_dpmpp_2m_sde``, h = t_next - t, solver midpoint
==================  ===================================  ========================================================
sample_coefs        sigma_down / sigma                   sigma_next / sigma * exp(-h)
denoised_coefs      -expm1(t - t_down)                   alpha_next * (1 - exp(-2 h))
noise_coefs         sigma_up                             sigma_next * sqrt(1 - exp(-2 h))
correction_coefs    0                                    denoised_coefs / 2
correction_scales   1                                    1 / r, the ratio of the last h to this one
==================  ===================================  ========================================================

With r = 1/2, k-diffusion's ``fac = 1 / (2 r)`` is 1, so that its second half step uses only the prediction at the
midpoint.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..types import Floats, Sampler
from .schedule import Schedule

# Returns the noise of update k: float32 (n, channels, height, width) with unit variance.
NoiseSource = Callable[[int], Floats]
# Returns the sample after evaluation k with a part of it replaced: float32 (n, channels, height, width).
Blend = Callable[[int, Floats], Floats]
# Predicts the noise in a scaled sample (n, channels, height, width) at evaluation k.
Denoiser = Callable[[Floats, int], Floats]


class State(Protocol):
    """The state of a sampling loop after an evaluation of the denoiser; see `HostState` for the attributes."""

    @property
    def evaluation(self) -> int:
        """The number of evaluations that are done."""
        ...

    @property
    def latents(self) -> Floats:
        """The current sample."""
        ...

    @property
    def denoised(self) -> Floats:
        """The current prediction of the final latents."""
        ...


@dataclass(frozen=True)
class HostState:
    """The state of a loop in the memory of the processor.

    Attributes:
        evaluation: the number of evaluations that are done.
        latents: float32 (n, channels, height, width), the current sample.
        denoised: float32 of the same shape, the current prediction of the final latents.
    """

    evaluation: int
    latents: Floats
    denoised: Floats


def keep(_: int, x: Floats) -> Floats:
    """Return a sample as it is."""
    return x


def sample_dpmpp_sde(
    latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser, blend: Blend = keep
) -> Iterator[HostState]:
    """Run DPM-Solver++ (2S) with Brownian noise: two evaluations for each step, and one for the last step.

    This is k-diffusion's ``sample_dpmpp_sde`` (after Lu et al., 2022) as diffusers' ``DPMSolverSDEScheduler`` computes
    it.

    Args:
        latents: float32 (n, channels, height, width), the initial sample, already multiplied by ``init_noise_sigma``.
        schedule: the tables of the sampler ``dpmpp_sde``.
        noise: a function that returns the noise of an update; it is called for the updates 0 .. 2 * steps - 3, in
            order.
        denoise: a function that predicts the noise in a sample.
        blend: a function that replaces a part of the sample after each evaluation.

    Yields:
        The state after each evaluation; the last one holds the final latents.
    """
    s, x, base = schedule, latents, latents
    last = s.evaluations - 1
    for k in range(last):
        denoised = predict_denoised(s, k, x, denoise)
        # The first half step leads from `base` to the midpoint; the second half step starts from `base` again.
        x = blend(k, s.sample_coefs[k] * base + s.denoised_coefs[k] * denoised + noise(k) * s.noise_coefs[k])
        if k % 2 == 1:
            base = x
        yield HostState(k + 1, x, denoised)
    # The last step uses Euler's method and ends at sigma = 0.
    denoised = predict_denoised(s, last, x, denoise)
    derivative = (x - denoised) / s.sigmas[last]
    yield HostState(last + 1, blend(last, x + derivative * -s.sigmas[last]), denoised)


def sample_dpmpp_2m_sde(
    latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser, blend: Blend = keep
) -> Iterator[HostState]:
    """Run SDE-DPM-Solver++ (2M): one evaluation for each step.

    This is k-diffusion's ``sample_dpmpp_2m_sde`` (solver midpoint) as diffusers'
    ``DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)`` computes it.

    Args:
        latents: float32 (n, channels, height, width), the initial sample, already multiplied by ``init_noise_sigma``.
        schedule: the tables of the sampler ``dpmpp_2m_sde``.
        noise: a function that returns the noise of an update; it is called for the updates 0 .. steps - 1, in order.
        denoise: a function that predicts the noise in a sample.
        blend: a function that replaces a part of the sample after each evaluation.

    Yields:
        The state after each evaluation; the last one holds the final latents.
    """
    s, x = schedule, latents
    previous = np.zeros_like(latents)
    for k in range(s.evaluations):
        denoised = predict_denoised(s, k, x, denoise)
        x = s.sample_coefs[k] * x + s.denoised_coefs[k] * denoised
        if s.correction_coefs[k]:  # the second-order term, from the change since the previous evaluation
            x = x + s.correction_coefs[k] * (s.correction_scales[k] * (denoised - previous))
        x = blend(k, x + s.noise_coefs[k] * noise(k))
        previous = denoised
        yield HostState(k + 1, x, denoised)


def predict_denoised(schedule: Schedule, k: int, x: Floats, denoise: Denoiser) -> Floats:
    """Return the prediction of the final latents that follows from the predicted noise at evaluation k.

    Args:
        schedule: the tables of the sampler.
        k: the index of the evaluation, 0 .. E - 1.
        x: float32 (n, channels, height, width), the current sample.
        denoise: a function that predicts the noise in a sample.

    Returns:
        float32 of the same shape.
    """
    epsilon = denoise(x / schedule.input_scales[k], k)
    denoised: Floats = (x - schedule.sigmas[k] * epsilon) / schedule.alphas[k]
    return denoised


class SamplingLoop(Protocol):
    """The interface of a sampling loop; see `sample_dpmpp_sde` for the arguments."""

    def __call__(
        self, latents: Floats, schedule: Schedule, noise: NoiseSource, denoise: Denoiser, blend: Blend = keep
    ) -> Iterator[HostState]:
        """Run the loop."""
        ...


LOOPS: dict[Sampler, SamplingLoop] = {"dpmpp_sde": sample_dpmpp_sde, "dpmpp_2m_sde": sample_dpmpp_2m_sde}
