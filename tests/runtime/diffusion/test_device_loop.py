"""The table of the loop on a device, and the loops that are kept; tests/export/targets/test_cuda.py runs the loop."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anon_runtime import Anonymizer
from anon_runtime.backends.onnxruntime import OrtMemory
from anon_runtime.bundle.manifest import TensorSpec
from anon_runtime.diffusion import device_loop
from anon_runtime.diffusion.device_loop import COLUMNS, KEPT, ROLES, DeviceLoops, make_table
from anon_runtime.diffusion.samplers import LOOPS
from anon_runtime.diffusion.schedule import Schedule, evaluations, load_schedule
from anon_runtime.types import SAMPLERS, Floats, Sampler


def run_table(table: Floats, noise: Floats) -> float:
    """The loop on one number, with a denoiser that halves its input, as the docstring of the table says."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table]
    x = base = np.float32(3)
    previous = np.float32(0)
    for k, (row, following) in enumerate(pairwise(rows)):
        denoised = (x - row["sigma"] * (x / row["input_scale"] / 2)) / row["alpha"]
        x = row["sample_coef"] * base + row["denoised_coef"] * denoised + row["noise_coef"] * noise[k]
        x += row["correction_coef"] * (row["correction_scale"] * (denoised - previous))
        base, previous = (x if row["keeps"] else base), denoised
        scaled = x / following["input_scale"]
    return float(scaled)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 15, 50])
def test_the_table_holds_a_whole_loop(anonymizer: Anonymizer, sampler: Sampler, steps: int) -> None:
    bundle = anonymizer.engines.bundle
    schedule: Schedule = load_schedule(bundle.path / bundle.manifest.tables.path, sampler, steps)
    noise = np.random.default_rng(0).standard_normal(schedule.evaluations + 1).astype(np.float32)
    *_, state = LOOPS[sampler](
        np.full((1, 1, 1, 1), 3, np.float32), schedule, lambda k: noise[k], lambda sample, _: sample * np.float32(0.5)
    )
    table = make_table(schedule, 7.5, 0.5)
    assert table.shape == (evaluations(sampler, steps) + 1, len(COLUMNS))
    assert np.isfinite(table).all()
    assert run_table(table, noise) == pytest.approx(float(state.latents.item()) / 0.5, rel=1e-5)


def test_few_loops_are_kept_and_one_that_failed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = OrtMemory("cpu")
    outputs = {
        "text_encoder": TensorSpec("last_hidden_state", "float32", ("batch", 77, 8)),
        "unet": TensorSpec("out_sample", "float32", ("batch", 4, 8, 8)),
        "vae_decoder": TensorSpec("sample", "float32", ("batch", 3, 16, 16)),
        "postprocess": TensorSpec("pixels", "uint8", ("batch", 16, 16, 3)),
    }
    engines: Any = {
        role: SimpleNamespace(memory=memory, outputs={spec.name: spec}) for role, spec in outputs.items()
    } | dict.fromkeys(ROLES[:2])
    loops = DeviceLoops(engines, (4, 8, 8))
    made: list[object] = []
    real = device_loop.DeviceLoop

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(arguments[2])
        return real(*arguments, **options)

    monkeypatch.setattr(device_loop, "DeviceLoop", make)

    def use(count: int) -> None:
        with loops.borrow(count, 1, 7, caches=False):
            pass

    for count in (1, 1, *range(1, KEPT + 2), KEPT + 1, 1):
        use(count)
    assert made == [*range(1, KEPT + 2), 1], "the one that was not used for longest went"
    with pytest.raises(RuntimeError), loops.borrow(1, 1, 7, caches=False):
        raise RuntimeError("CUDA error")
    use(1)
    assert made[KEPT + 2 :] == [1]
