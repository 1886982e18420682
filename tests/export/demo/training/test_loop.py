import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anon_export.demo.training import loop


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)  # after every step

    def fit(folder: Path, most: int) -> nn.Linear:
        """Train a line; the power fails before step ``most``."""
        torch.manual_seed(0)
        model, calls = nn.Linear(4, 1), []

        def loss(rng: np.random.Generator) -> torch.Tensor:
            calls.append(1)
            if len(calls) > most:
                raise KeyboardInterrupt
            predicted: torch.Tensor = model(torch.randn(8, 4) + rng.random())
            return (predicted**2).mean()

        with contextlib.suppress(KeyboardInterrupt):
            loop.train(model, loss, loop.Recipe("line", 12, 0.01), folder, 5)
        return model

    whole = fit(tmp_path / "a", 99)
    fit(tmp_path / "b", 5)
    resumed = fit(tmp_path / "b", 99)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    assert resumed.weight.abs().max() < 1
