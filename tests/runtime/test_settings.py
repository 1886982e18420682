import math

import pytest

from anon_runtime import Settings
from anon_runtime.errors import UsageError


@pytest.mark.parametrize(
    "bad",
    [
        {"seed": -1}, {"seed": 2**64}, {"steps": 0}, {"guidance_scale": 0.0}, {"guidance_scale": -1.0},
        {"guidance_scale": math.nan}, {"guidance_scale": math.inf}, {"guidance_scale": 0.99}, {"sampler": "euler"},
        {"detection_threshold": 0.0}, {"detection_threshold": 1.0}, {"detection_threshold": math.nan},
    ],
)  # fmt: skip
def test_values_without_meaning_are_refused(bad: dict) -> None:
    with pytest.raises(UsageError):
        Settings(**bad)


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert Settings(seed=2**64 - 1, steps=1, guidance_scale=1.0, sampler="dpmpp_2m_sde").seed == 2**64 - 1
