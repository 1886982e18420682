"""diffusers' schedulers -> baked sampler tables.

Every number is read from diffusers' own scheduler objects or computed with the same torch operations in the same
order. The runtime only reads them, and so agrees with diffusers to the last bit.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, DPMSolverSDEScheduler
from numpy.typing import NDArray

from anon_runtime.diffusion.schedule import TABLE_FIELDS, Schedule, evaluations
from anon_runtime.errors import AnonError
from anon_runtime.types import SAMPLERS, Sampler

from .models.model import read_json

MAX_STEPS = 50


def load_config(folder: Path) -> Mapping[str, Any]:
    """A model's scheduler config, with the defaults of the scheduler's own class filled in.

    Raises:
        AnonError: diffusers has no such scheduler.
    """
    name = read_json(folder / "scheduler_config.json").get("_class_name", "")
    kind = getattr(diffusers, str(name), None)
    if kind is None:
        raise AnonError(str(folder), f"diffusers has no scheduler {name!r}", "get an intact copy of the model")
    config: Mapping[str, Any] = kind.from_pretrained(folder).config
    return config


def make_scheduler(config: Mapping[str, Any], sampler: Sampler, timestep_spacing: str | None = None) -> Any:
    """The diffusers scheduler that a sampler reproduces, made from a model's scheduler config as users make it.

    Raises:
        AnonError: the config asks for something that the samplers do not support.
    """
    override = {} if timestep_spacing is None else {"timestep_spacing": timestep_spacing}
    if sampler == "dpmpp_sde":
        scheduler = DPMSolverSDEScheduler.from_config(dict(config), use_karras_sigmas=True, **override)
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(
            dict(config), algorithm_type="sde-dpmsolver++", use_karras_sigmas=True, **override
        )
        for key, allowed in {"solver_order": (1, 2), "solver_type": ("midpoint",), "thresholding": (False,)}.items():
            _require(scheduler.config, key, allowed)
    _require(scheduler.config, "prediction_type", ("epsilon",))
    return scheduler


def _require(config: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> None:
    if config[key] not in allowed:
        why = f"its {key} is {config[key]!r}, the samplers need {' or '.join(map(repr, allowed))}"
        raise AnonError("the model's scheduler config", why, "use a Stable Diffusion 1.5 model")


def bake_schedule(scheduler: Any, sampler: Sampler, steps: int) -> Schedule:
    """Tables of one sampler and number of steps (see `anon_runtime.diffusion.schedule.Schedule`)."""
    scheduler.set_timesteps(steps)
    bake = _bake_dpmpp_sde if sampler == "dpmpp_sde" else _bake_dpmpp_2m_sde
    columns: dict[str, Any] = {
        name: np.full(evaluations(sampler, steps), np.nan, np.float64 if "query_" in name else np.float32)
        for name in TABLE_FIELDS
    }
    columns["query_scales"] = columns["query_scales"].astype(np.float32)
    columns["init_noise_sigma"] = np.float32(float(scheduler.init_noise_sigma))
    columns["timesteps"] = scheduler.timesteps.numpy().astype(np.float64)
    bake(scheduler, columns)
    return Schedule(sampler=sampler, steps=steps, **columns)


def _bake_dpmpp_sde(scheduler: Any, columns: dict[str, Any]) -> None:
    """The arithmetic of ``DPMSolverSDEScheduler.step`` and ``scale_model_input``."""
    sigmas = scheduler.sigmas
    for name, value in {"alphas": 1, "correction_coefs": 0, "correction_scales": 0}.items():
        columns[name][:] = value
    for k in range(len(columns["timesteps"])):
        first = k % 2 == 0
        start, end = (sigmas[k], sigmas[k + 1]) if first else (sigmas[k - 1], sigmas[k])
        t, t_end = start.log().neg(), end.log().neg()
        t_middle = t + (t_end - t) * 0.5
        at = start if first else t_middle.neg().exp()
        columns["sigmas"][k] = at.item()
        columns["input_scales"][k] = ((at**2 + 1) ** 0.5).item()
        if end == 0:
            continue
        t_to = t_middle if first else t_end
        sigma_from, sigma_to = t.neg().exp(), t_to.neg().exp()
        up = min(sigma_to, (sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2) ** 0.5)
        t_down = ((sigma_to**2 - up**2) ** 0.5).log().neg()
        columns["sample_coefs"][k] = (t_down.neg().exp() / t.neg().exp()).item()
        columns["denoised_coefs"][k] = -(t - t_down).expm1().item()
        columns["noise_coefs"][k] = up.item()
        columns["query_from"][k], columns["query_to"][k] = sigma_from.item(), sigma_to.item()
        columns["query_scales"][k] = (sigma_to - sigma_from).abs().sqrt().item()


def _bake_dpmpp_2m_sde(scheduler: Any, columns: dict[str, Any]) -> None:
    """The arithmetic of ``DPMSolverMultistepScheduler``: first and second order updates with ``sde-dpmsolver++``."""
    columns["input_scales"][:] = 1
    levels = [_alpha_sigma_lambda(scheduler, sigma) for sigma in scheduler.sigmas]
    for k in range(len(columns["timesteps"])):
        (alpha, sigma, log_snr), (alpha_to, sigma_to, log_snr_to) = levels[k], levels[k + 1]
        h = log_snr_to - log_snr
        columns["alphas"][k], columns["sigmas"][k] = alpha.item(), sigma.item()
        columns["sample_coefs"][k] = (sigma_to / sigma * torch.exp(-h)).item()
        gain = alpha_to * (1 - torch.exp(-2.0 * h))
        columns["denoised_coefs"][k] = gain.item()
        columns["noise_coefs"][k] = (sigma_to * torch.sqrt(1.0 - torch.exp(-2 * h))).item()
        second_order = scheduler.config.solver_order == 2 and k > 0 and not _ends_first_order(scheduler, k)
        ratio = (log_snr - levels[k - 1][2]) / h if second_order else torch.tensor(math.inf)
        columns["correction_coefs"][k] = (0.5 * gain).item() if second_order else 0.0
        columns["correction_scales"][k] = (1.0 / ratio).item()


def _ends_first_order(scheduler: Any, k: int) -> bool:
    """``lower_order_final`` of ``DPMSolverMultistepScheduler.step``."""
    config, count = scheduler.config, len(scheduler.timesteps)
    few = config.lower_order_final and count < 15
    return k == count - 1 and (config.euler_at_final or few or config.final_sigmas_type == "zero")


def _alpha_sigma_lambda(scheduler: Any, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    alpha, scaled = scheduler._sigma_to_alpha_sigma_t(sigma)  # noqa: SLF001 (its own arithmetic, to the last bit)
    return alpha, scaled, torch.log(alpha) - torch.log(scaled)


def write_tables(config: Mapping[str, Any], path: Path, timestep_spacing: str | None = None) -> str:
    """Bake all samplers for 1 to 50 steps into one file; returns the timestep spacing that was used."""
    arrays: dict[str, NDArray[np.generic]] = {}
    spacing = ""
    for sampler in SAMPLERS:
        scheduler = make_scheduler(config, sampler, timestep_spacing)
        # The manifest records one spacing: that of the paper's sampler, which is the first one.
        spacing = spacing or scheduler.config.timestep_spacing
        schedules = [bake_schedule(scheduler, sampler, steps) for steps in range(1, MAX_STEPS + 1)]
        for name in TABLE_FIELDS:
            arrays[f"{sampler}.{name}"] = _pad([np.asarray(getattr(schedule, name)) for schedule in schedules])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return spacing


def _pad(rows: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Schedules of different lengths as one array, filled up with zeros."""
    if rows[0].ndim == 0:
        return np.array(rows)
    width = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
