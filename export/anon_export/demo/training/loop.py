"""The training loop that all networks share: seeded, resumable, with averaged weights."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

SAVE_EVERY = 60  # seconds
# Whether to compute in bfloat16: 1.4 to 2 times as fast on processors with its instructions, and slower on others.
HALF = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
Loss = Callable[[np.random.Generator], Tensor]
Saved = TypeVar("Saved", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Recipe:
    """Number of steps and rates of a training.

    Attributes:
        name: of the progress bar and the checkpoint.
        steps: updates.
        rate: learning rate of AdamW. It warms up, stays constant, and falls to 0 in the last third.
        decay: AdamW's weight decay.
        average: decay of the averaged weights.
    """

    name: str
    steps: int
    rate: float
    decay: float = 0.01
    average: float = 0.998


def train(model: nn.Module, loss: Loss, recipe: Recipe, checkpoints: Path, seed: int) -> None:
    """Minimise a loss; afterwards the model holds the averaged weights.

    The random numbers of a step depend only on the seed and the step's number. A run that was interrupted and
    continued therefore gives the same weights as one without interruption.

    Args:
        model: trained in place.
        loss: makes a batch from a random number generator and returns its loss.
        recipe: steps and learning rate.
        checkpoints: the folder in which the state is kept.
        seed: of the random numbers.
    """
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.99), fused=True
    )
    average = copy.deepcopy(model).requires_grad_(False)
    path = checkpoints / f"{recipe.name}.pt"
    step = _resume(path, model, average, optimizer)
    bar = tqdm(total=recipe.steps, initial=step, desc=recipe.name, unit="step", mininterval=2)
    saved, running, first = time.monotonic(), 0.0, step
    while step < recipe.steps:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1.0, (step + 1) / 100, 3 * (1 - step / recipe.steps))
        torch.manual_seed(hash((seed, step)))
        value = loss(np.random.default_rng([seed, step]))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        _follow(average, model, min(recipe.average, (1 + step) / (10 + step)))
        running += (float(value.detach()) - running) / min(step - first, 100)
        bar.set_postfix(loss=f"{running:.4f}", refresh=False)
        bar.update()
        if time.monotonic() - saved > SAVE_EVERY or step == recipe.steps:
            _save(path, model, average, optimizer, step)
            saved = time.monotonic()
    bar.close()
    model.load_state_dict(average.state_dict())
    model.eval().requires_grad_(False)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _save(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _resume(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint, if there is one; returns the number of steps done."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def cached(path: Path, make: Callable[[], Saved]) -> Saved:
    """Read tensors that take long to make from beside the checkpoints, or make and save them."""
    if path.is_file():
        kept: Saved = torch.load(path, weights_only=True)
        return kept
    tensors = make()
    torch.save(tensors, path)
    return tensors
