import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime.diffusion.schedule import load_schedule
from anon_runtime.errors import BundleError, UsageError
from anon_runtime.types import Sampler


class Harmful:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_no_pickle_is_opened(own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = own_bundle / "scheduler" / "tables.npz"
    for content in (pickle.dumps(Harmful()), b"", b"PK\x03\x04" + bytes(100), tables.read_bytes()[:500]):
        tables.write_bytes(content)
        with pytest.raises(BundleError, match="not a table file"):
            load_schedule(tables, "dpmpp_sde", 15)
    arrays: dict[str, Any] = {"dpmpp_sde.timesteps": np.array([Harmful()], dtype=object)}
    np.savez(tables, **arrays)
    with pytest.raises(BundleError, match="not a table file"):
        load_schedule(tables, "dpmpp_sde", 15)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("steps", [0, -1, 51])
def test_steps_outside_of_the_tables_are_refused(demo_bundle: Path, steps: int) -> None:
    with pytest.raises(UsageError, match=f"{steps} steps: the bundle has no tables for it; use 1 to 50 steps"):
        load_schedule(demo_bundle / "scheduler" / "tables.npz", "dpmpp_sde", steps)


def test_a_sampler_without_tables_is_refused(demo_bundle: Path, tmp_path: Path) -> None:
    with np.load(demo_bundle / "scheduler" / "tables.npz") as tables:
        one: dict[str, Any] = {name: tables[name] for name in tables.files if name.startswith("dpmpp_sde.")}
    np.savez(tmp_path / "tables.npz", **one)
    with pytest.raises(UsageError, match=r"sampler 'dpmpp_2m_sde': the bundle has no tables for it; use .*dpmpp_sde"):
        load_schedule(tmp_path / "tables.npz", "dpmpp_2m_sde", 15)


@pytest.mark.parametrize(("sampler", "evaluations"), [("dpmpp_sde", 29), ("dpmpp_2m_sde", 15)])
def test_a_row_has_one_value_for_each_evaluation(demo_bundle: Path, sampler: Sampler, evaluations: int) -> None:
    schedule = load_schedule(demo_bundle / "scheduler" / "tables.npz", sampler, 15)
    assert schedule.evaluations == evaluations
    assert schedule.timesteps.shape == schedule.sigmas.shape == schedule.noise_coefs.shape == (evaluations,)
