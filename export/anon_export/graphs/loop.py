"""The graphs of the sampling loop on a GPU; `anon_runtime.diffusion.device_loop` says what they are for.

All of them have a free number of images, and the noise and the table have a free number of evaluations.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.diffusion.device_loop import COLUMNS

from .export import export_graph, seeded_normal

LARGEST = torch.finfo(torch.float32).max
BATCH = {0: "batch"}


class ScaleModelInput(nn.Module):
    """What comes before the first evaluation: the first sample, for both prompts, and the start of the state."""

    def forward(self, x: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """Return ``sample``, ``timestep``, ``base``, ``denoised``, ``evaluation`` and ``finite``."""
        timestep, scale = (column[0] for column in table[0].split(1)[:2])
        scaled = x / scale
        # A constant would not be computed, and some libraries do not copy constants to the outputs of a graph.
        none = (table[0, :1] * 0).to(torch.int64)
        return torch.cat([scaled, scaled]), timestep, x.clone(), x * 0, none, none.clone()


class SchedulerStep(nn.Module):
    """What comes after each evaluation: guidance, the update, and the next sample, for both prompts.

    The order of operations is that of `anon_runtime.diffusion.samplers` and of `anon_runtime.diffusion.guidance`.
    """

    def forward(
        self,
        x_in: Tensor,
        base_in: Tensor,
        denoised_in: Tensor,
        evaluation_in: Tensor,
        finite_in: Tensor,
        positive: Tensor,
        negative: Tensor,
        noise: Tensor,
        table: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return ``x``, ``base``, ``denoised``, ``evaluation``, ``finite``, ``sample`` and ``timestep``."""
        row = dict(zip(COLUMNS, table.index_select(0, evaluation_in).split(1, dim=1), strict=True))
        evaluation = evaluation_in + 1
        timestep, next_scale = table.index_select(0, evaluation)[:, :2].split(1, dim=1)
        epsilon = negative + row["guidance_scale"] * (positive - negative)
        denoised = (x_in - row["sigma"] * epsilon) / row["alpha"]
        x = row["sample_coef"] * base_in + row["denoised_coef"] * denoised
        x = x + row["correction_coef"] * (row["correction_scale"] * (denoised - denoised_in))
        x = x + row["noise_coef"] * noise.index_select(0, evaluation_in)[0]
        base = torch.where(row["keeps"] > 0.5, x, base_in)
        scaled = x / next_scale
        # It counts the evaluations until the first one that gives NaN or infinity.
        unbroken = (finite_in == evaluation_in).to(torch.int64)
        finite = finite_in + unbroken * _is_finite(x)
        return x, base, denoised, evaluation, finite, torch.cat([scaled, scaled]), timestep.reshape(())


class Postprocess(nn.Module):
    """What comes after the decoder: images of 8 bits as diffusers' ``VaeImageProcessor`` makes them, and the checks."""

    def forward(self, sample: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``pixels`` and ``checks``: the number of finite evaluations, and 1 if the sample is finite."""
        unit = (sample * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return (unit * 255).round().to(torch.uint8), torch.cat([finite, _is_finite(sample)])


def _is_finite(values: Tensor) -> Tensor:
    """int64 (1,): 1, or 0 if there is NaN, for which every comparison is false, or infinity."""
    return (values.abs() <= LARGEST).to(torch.float32).flatten().amin(0, keepdim=True).to(torch.int64)


def _gradient(image_shape: Sequence[int]) -> Tensor:
    """Two images of all levels and some beyond them; none is near the middle of two, where libraries may differ."""
    channels, height, width = image_shape
    levels = (torch.arange(height)[:, None] * 2 + torch.arange(width)) % 280 - 12.25
    return (levels / 255 * 2 - 1).expand(2, channels, height, width).contiguous()


def export_loop(folder: Path, latent_shape: Sequence[int], image_shape: Sequence[int]) -> dict[str, EngineSpec]:
    """Write the graphs of the loop.

    Args:
        folder: each graph goes into a folder of its own in it.
        latent_shape: channels, height and width of an image's latents.
        image_shape: channels, height and width of an image.
    """
    latents, table = seeded_normal(2, *latent_shape), seeded_normal(4, len(COLUMNS)).abs() + 0.5
    rows, batches = {"table": {0: "rows"}}, {"x_in", "base_in", "denoised_in", "positive", "negative"}
    first, second = torch.ones(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)  # one tensor would be one input
    start = {"x": latents, "table": table}
    step = {
        "x_in": latents,
        "base_in": latents * 0.5,
        "denoised_in": latents * 0.25,
        "evaluation_in": first,
        "finite_in": second,
        "positive": seeded_normal(4, *latent_shape)[2:],
        "negative": seeded_normal(4, *latent_shape)[:2] * 0.75,
        "noise": seeded_normal(3, 2, *latent_shape),
        "table": table,
    }
    state = ("x", "base", "denoised", "evaluation", "finite")
    free = {name: BATCH if name in batches else {} for name in step} | {"noise": {0: "evaluations", 1: "batch"}}
    image = {"sample": _gradient(image_shape), "finite": first}

    def path(role: str) -> Path:
        return folder / role / "model.onnx"

    return {
        "scale_model_input": export_graph(
            ScaleModelInput(), start, {"x": BATCH} | rows, ("sample", "timestep", *state[1:]), path("scale_model_input")
        ),
        "scheduler_step": export_graph(
            SchedulerStep(), step, free | rows, (*state, "sample", "timestep"), path("scheduler_step")
        ),
        "postprocess": export_graph(
            Postprocess(), image, {"sample": BATCH, "finite": {}}, ("pixels", "checks"), path("postprocess")
        ),
    }
