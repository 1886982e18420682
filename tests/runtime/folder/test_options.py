from typing import Any

import numpy as np
import pytest

from anon_runtime.errors import UsageError
from anon_runtime.folder.options import RunOptions


@pytest.mark.parametrize(
    "bad",
    [
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 7.5},
        {"seed": "7"},
        {"seed": True},
        {"seed": None},
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"no_face": "maybe"},
    ],
)
def test_values_without_meaning_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RunOptions(**bad)


def test_numbers_of_numpy_are_numbers() -> None:
    numbers: dict[str, Any] = {"seed": np.int64(7), "batch_size": np.uint8(3)}
    options = RunOptions(**numbers)
    assert (type(options.seed), type(options.batch_size)) == (int, int)


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert RunOptions(seed=2**64 - 1, batch_size=1).seed == 2**64 - 1
