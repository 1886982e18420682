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
def test_values_without_meaning_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        RunOptions(**bad)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    options = RunOptions(seed=np.int64(7), batch_size=np.uint8(3))  # type: ignore[arg-type]
    assert (type(options.seed), type(options.batch_size)) == (int, int)


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert RunOptions(seed=2**64 - 1, batch_size=1).seed == 2**64 - 1
