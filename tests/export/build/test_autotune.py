import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from anon_export.build import autotune
from anon_runtime.bundle.manifest import Defaults, EngineSpec, TensorSpec
from anon_runtime.types import Array, Arrays

SPEC = EngineSpec("unet/model.onnx", "unet", "fp32", (TensorSpec("encoder_hidden_states", "float32", (0, 0, 8)),), ())


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        (lambda count: 1.0, 16),
        (lambda count: 1.0 * count, 1),
        (lambda count: 1 + 0.01 * count, 16),
        (lambda count: 1.0 if count <= 4 else count / 4, 4),
        (lambda count: 1 + 5 * count, 2),
    ],
)
def test_the_batch_grows_while_it_pays(seconds: Callable[[int], float], best: int) -> None:
    """Costs that do not depend on the number, grow with it, or begin to grow."""
    assert autotune.best_batch(seconds) == best


class Network:
    """A network with a clock of its own, which advances by some seconds per call and per sample."""

    def __init__(self, patch: pytest.MonkeyPatch, call: float, sample: float) -> None:
        self.now, self.call, self.sample = 0.0, call, sample
        self.shapes = set[tuple[int, ...]]()
        patch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        count = len(inputs["sample"])
        self.shapes.add(inputs["encoder_hidden_states"].shape[1:])
        self.now += self.call + self.sample * count + self.extra(count)
        return {"out_sample": np.zeros(1)}

    def extra(self, count: int) -> float:
        return 0.0


def test_a_network_that_is_busy_with_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, call=0.1, sample=0.001)
    assert autotune.autotune(network, SPEC, (4, 8, 8)) == Defaults(guidance_batch=True, batch_size=16)
    assert network.shapes == {(77, 8)}


def test_a_network_that_is_slower_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, call=0.0, sample=0.1)
    monkeypatch.setattr(network, "extra", lambda count: 0.05 * (count > 1))
    assert autotune.autotune(network, SPEC, (4, 8, 8)).guidance_batch is False


def test_a_large_network_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, call=0.0, sample=2.0)
    assert autotune.autotune(network, SPEC, (4, 8, 8)) == Defaults()
    assert network.now == 2.0
