"""The sampler tables of a bundle.

`anon_export.tables` computes the tables with diffusers' own schedulers when a bundle is built. The runtime does not
compute them, because the last digits of logarithms and exponentials differ between libraries, and one changed digit in
a Brownian query changes the image.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..errors import BundleError, UsageError
from ..types import Doubles, Floats, Sampler


@dataclass(frozen=True)
class Schedule:
    """The tables of one sampler for one number of steps, with E evaluations of the denoiser and E updates.

    With ``x`` the sample at evaluation k and ``eps`` the denoiser's output for ``x / input_scales[k]`` at
    ``timesteps[k]``, the prediction is ``denoised = (x - sigmas[k] * eps) / alphas[k]``, and the update is the sum of
    ``sample_coefs[k] * base``, ``denoised_coefs[k] * denoised``, ``correction_coefs[k] * correction_scales[k] *
    (denoised - previous)`` and ``noise_coefs[k] * noise[k]``. The module `anon_runtime.diffusion.samplers` gives the
    formulas of the coefficients.

    Attributes:
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        steps: the number of steps.
        init_noise_sigma: float32, the standard deviation of the initial latents.
        timesteps: float64 (E,), in 0..999.
        input_scales: float32 (E,), the numbers that samples are divided by before the denoiser.
        sigmas: float32 (E,), the noise levels.
        alphas: float32 (E,), the scales of the signal.
        sample_coefs: float32 (E,).
        denoised_coefs: float32 (E,).
        correction_coefs: float32 (E,).
        correction_scales: float32 (E,), ``1 / r0`` of the multistep update.
        noise_coefs: float32 (E,).
        query_from: float64 (E,), the start of update k's noise interval in the Brownian tree; NaN if the update has
            none.
        query_to: float64 (E,), the end of that interval; NaN if the update has none.
        query_scales: float32 (E,), the square root of the interval's length.
    """

    sampler: Sampler
    steps: int
    init_noise_sigma: np.float32
    timesteps: Doubles
    input_scales: Floats
    sigmas: Floats
    alphas: Floats
    sample_coefs: Floats
    denoised_coefs: Floats
    correction_coefs: Floats
    correction_scales: Floats
    noise_coefs: Floats
    query_from: Doubles
    query_to: Doubles
    query_scales: Floats

    @property
    def evaluations(self) -> int:
        """The number of evaluations of the denoiser for one image."""
        return len(self.timesteps)


def evaluations(sampler: Sampler, steps: int) -> int:
    """Return the number of evaluations of a sampler: 2 * steps - 1 for dpmpp_sde, steps for dpmpp_2m_sde."""
    return 2 * steps - 1 if sampler == "dpmpp_sde" else steps


TABLE_FIELDS = tuple(field.name for field in fields(Schedule) if field.name not in ("sampler", "steps"))


def load_schedule(path: Path, sampler: Sampler, steps: int) -> Schedule:
    """Return the tables of one sampler and number of steps.

    The file holds one array ``sampler.field`` for every sampler and every field of `Schedule`. Each row of an array
    belongs to a number of steps, beginning with one step, and is padded at the end.

    Args:
        path: the file of the tables.
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        steps: the number of steps, from 1 to the number of rows.

    Raises:
        UsageError: the file has no tables for this sampler or number of steps.
        BundleError: the file is not a table file.
    """
    try:
        # numpy would leave a damaged file open if it had opened it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as tables:
            names = {name.split(".")[0] for name in tables.files}
            if sampler not in names:
                fix = f"use one of: {', '.join(sorted(names))}"
                raise UsageError(f"sampler {sampler!r}", "the bundle has no tables for it", fix)
            rows = {name: tables[f"{sampler}.{name}"] for name in TABLE_FIELDS}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BundleError(str(path), f"not a table file ({error})", "build the bundle again") from None
    most = len(rows["timesteps"])
    if not 1 <= steps <= most:
        raise UsageError(f"{steps} steps", "the bundle has no tables for it", f"use 1 to {most} steps")
    count = evaluations(sampler, steps)
    row = {name: array[steps - 1] if array.ndim == 1 else array[steps - 1, :count] for name, array in rows.items()}
    return Schedule(sampler=sampler, steps=steps, **row)
