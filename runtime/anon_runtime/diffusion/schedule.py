"""The sampler tables of a bundle, read only.

They are baked from diffusers' own schedulers when the bundle is built (`anon_export.tables`), because the last digits
of a logarithm or an exponential differ between libraries and one flipped digit in a Brownian query changes an image.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..errors import BundleError, UsageError
from ..types import Doubles, Floats, Sampler


@dataclass(frozen=True)
class Schedule:
    """Everything a sampler needs to know for one number of steps; E evaluations of the denoiser, E updates.

    With ``x`` the sample that evaluation k sees and ``eps`` the denoiser's output for ``x / input_scales[k]`` at
    ``timesteps[k]``:  ``denoised = (x - sigmas[k] * eps) / alphas[k]``, and the update adds up
    ``sample_coefs[k] * base``, ``denoised_coefs[k] * denoised``, ``correction_coefs[k] * (denoised - previous)`` and
    ``noise_coefs[k] * noise[k]``.

    Attributes:
        sampler: ``dpmpp_sde`` or ``dpmpp_2m_sde``.
        steps: number of steps.
        init_noise_sigma: float32; standard deviation of the initial latents.
        timesteps: float64, (E,), in 0..999.
        input_scales, sigmas, alphas, sample_coefs, denoised_coefs, correction_coefs, noise_coefs: float32, (E,).
        correction_scales: float32, (E,); ``1 / r0`` of the multistep update, applied to ``denoised - previous``.
        query_from, query_to: float64, (E,); the noise interval of update k in the Brownian tree; NaN where none.
        query_scales: float32, (E,); square root of the interval's length.
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
        """How often the denoiser is called for an image."""
        return len(self.timesteps)


def evaluations(sampler: Sampler, steps: int) -> int:
    """How often a sampler calls the denoiser: 2 * steps - 1 for dpmpp_sde, steps for dpmpp_2m_sde."""
    return 2 * steps - 1 if sampler == "dpmpp_sde" else steps


TABLE_FIELDS = tuple(field.name for field in fields(Schedule) if field.name not in ("sampler", "steps"))


def load_schedule(path: Path, sampler: Sampler, steps: int) -> Schedule:
    """Read the tables of one sampler and number of steps.

    The file holds, for every sampler and field of `Schedule`, one array ``sampler.field`` with a row a number of steps
    (row 0 for one step), padded at the end.

    Raises:
        UsageError: the file has no such sampler or number of steps.
        BundleError: the file is not a table file.
    """
    try:
        with np.load(path, allow_pickle=False) as tables:
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
