import math

import numpy as np
import pytest

from anon_runtime import Request, Settings
from anon_runtime.errors import UsageError


@pytest.mark.parametrize(
    "bad",
    [
        {"seed": -1}, {"seed": 2**64}, {"steps": 0}, {"guidance_scale": 0.0}, {"guidance_scale": -1.0},
        {"guidance_scale": math.nan}, {"guidance_scale": math.inf}, {"guidance_scale": 0.99}, {"sampler": "euler"},
        {"seed": 7.5}, {"seed": "7"}, {"seed": True}, {"seed": None}, {"steps": 1.5}, {"steps": True}, {"steps": "2"},
        {"guidance_scale": "7"}, {"min_face": math.nan}, {"min_face": None}, {"batch_size": 2.0}, {"threads": False},
        {"detection_threshold": 0.0}, {"detection_threshold": 1.0}, {"detection_threshold": math.nan},
    ],
)  # fmt: skip
def test_values_without_meaning_are_refused(bad: dict) -> None:
    with pytest.raises(UsageError):
        Settings(**bad)


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert Settings(seed=2**64 - 1, steps=1, guidance_scale=1.0, sampler="dpmpp_2m_sde").seed == 2**64 - 1


def test_settings_are_their_own() -> None:
    """An iterator is read once, and a dict may change."""
    assert Settings(ignore=(name for name in ("Young", "Bangs"))).ignore == ("Young", "Bangs")  # type: ignore[arg-type]
    person: dict = {"Ethnic": "white", "Age": 34, "Male": 1}
    settings = Settings(attributes=person)
    person["Age"] = 80
    assert settings.attributes is not None and settings.attributes["Age"] == 34


def test_numbers_of_numpy_are_numbers() -> None:
    settings = Settings(seed=np.int64(7), steps=np.uint8(3), guidance_scale=np.float32(7.5))
    assert (type(settings.seed), type(settings.steps), type(settings.guidance_scale)) == (int, int, float)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": 2**70}, {"seed": True}, {"prompt": "\udcff"}, {"prompt": b"a"}])
def test_requests_without_meaning_are_refused(bad: dict) -> None:
    with pytest.raises(UsageError):
        Request(**{"prompt": "a"} | bad)
