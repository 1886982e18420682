from typing import Any

import numpy as np
import pytest

from anon_runtime.errors import UsageError
from anon_runtime.guard.options import GuardOptions


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "lax"},
        {"fmr": 0.0},
        {"fmr": 1.0},
        {"fmr": -0.01},
        {"fmr": float("nan")},
        {"fmr": "0.01"},
        {"fmr": True},
        {"attempts": 0},
        {"attempts": 1.5},
        {"min_rank": -1},
        {"min_rank": None},
        {"best_of": 0},
        {"best_of": 7},
        {"best_of": 2, "attempts": 1},
    ],
)
def test_values_without_meaning_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        GuardOptions(**bad)
    assert "guard" in str(caught.value) if "mode" in bad else next(iter(bad)) in str(caught.value)


def test_the_ends_of_the_ranges_are_fine() -> None:
    options = GuardOptions("report", 1e-300, attempts=1, min_rank=0, best_of=1)
    assert (options.fmr, options.attempts, options.min_rank, options.best_of) == (1e-300, 1, 0, 1)
    assert GuardOptions(attempts=6, best_of=6).best_of == 6


def test_numbers_of_numpy_are_numbers() -> None:
    numbers: dict[str, Any] = {"fmr": np.float32(0.5), "attempts": np.uint8(3), "min_rank": np.int64(2)}
    options = GuardOptions(**numbers)
    assert (type(options.fmr), type(options.attempts), type(options.min_rank)) == (float, int, int)
