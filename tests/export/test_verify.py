import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_export.verify import CHECK, PICTURE, measure, merge_checks, verify, write_check
from anon_runtime import Anonymizer
from anon_runtime.bundle import Bundle
from anon_runtime.errors import AnonError


def test_the_manifest_holds_what_was_measured(demo_bundle: Path) -> None:
    recorded = Bundle.open(demo_bundle).manifest.verification
    roles = {"text_encoder", "unet", "vae_decoder", "face_detector", "face_attributes", "face_age", "face_race"}
    assert recorded is not None and set(recorded.engines) == roles
    assert recorded.picture_psnr >= 60
    again = verify(Anonymizer.load(demo_bundle))
    assert again.picture_psnr == pytest.approx(recorded.picture_psnr, abs=6)
    for role, error in recorded.engines.items():
        assert 0 < error.mean <= error.p999 <= error.max and error.relative <= 1e-4, role


@pytest.mark.parametrize("role", ["text_encoder", "unet", "vae_decoder", "face_detector", "face_attributes"])
@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_an_engine_that_is_off_is_noticed(demo_bundle: Path, role: str, factor: float) -> None:
    anonymizer = Anonymizer.load(demo_bundle)
    right = anonymizer.engine(role)

    def wrong(inputs: Any) -> dict:
        return {name: array * np.float32(factor) for name, array in right(inputs).items()}

    anonymizer._engines[str(anonymizer.bundle.engine_path(role))] = wrong
    with pytest.raises(AnonError, match=f"the {role} engine.*differs from PyTorch"):
        verify(anonymizer)


def test_a_loop_that_is_off_is_noticed(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anon_runtime import pipeline as runtime

    draw = runtime.draw_noise
    monkeypatch.setattr(runtime, "draw_noise", lambda plan, seed, shape: draw(plan, seed + 1, shape))
    with pytest.raises(AnonError, match="a picture of the bundle.*PSNR"):
        verify(Anonymizer.load(demo_bundle))


def test_answers_that_are_missing_are_named(own_bundle: Path) -> None:
    anonymizer = Anonymizer.load(own_bundle)
    (own_bundle / "unet" / CHECK).unlink()
    with pytest.raises(AnonError, match=r"unet/check.npz.*build the bundle again"):
        verify(anonymizer)
    shutil.copy(own_bundle / "vae_decoder" / CHECK, own_bundle / "unet")
    (own_bundle / PICTURE).unlink()
    with pytest.raises(AnonError):
        verify(anonymizer)


def test_measure() -> None:
    theirs = np.linspace(-2, 2, 1000, dtype=np.float32)
    ours = theirs.copy()
    ours[3] += 0.5
    error = measure(ours, theirs)
    assert (error.max, error.relative) == (0.5, 0.25) and error.mean == pytest.approx(0.0005)
    ours[3] = np.nan
    assert np.isnan(measure(ours, theirs).relative)


def test_checks_of_several_networks_are_kept_together(tmp_path: Path) -> None:
    image = np.ones(3, np.float32)
    for name in ("age", "race"):
        write_check(tmp_path / f"{name}.npz", {"image": image}, {name: image})
    merge_checks([tmp_path / "age.npz", tmp_path / "race.npz"], tmp_path / "both.npz")
    with np.load(tmp_path / "both.npz") as arrays:
        assert set(arrays.files) == {"input image", "output age", "output race"}
