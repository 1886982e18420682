from pathlib import Path

import pytest

from anon_export.models.single_file import CONFIGS
from benchmarks import full_size


@pytest.mark.packages
def test_the_small_variant_measures_what_the_large_one_does(tmp_path: Path) -> None:
    runs, bundle = full_size.run(tmp_path, small=True)
    build, second, load = runs
    assert [run.name for run in runs] == list(full_size.GOALS)
    assert {"text_encoder", "unet", "vae_decoder", "verification", "image"} <= set(build.stages)
    assert "unet" not in second.stages, "the second build builds nothing"
    assert sum(seconds for seconds, _ in build.stages.values()) == pytest.approx(build.seconds, rel=0.02)
    assert all(0.02 < run.peak < 8 for run in runs), "gigabytes"
    verification = bundle.manifest.verification
    assert verification is not None
    assert verification.engines["unet"].relative <= 1e-4
    assert load.seconds < build.seconds


def test_the_output_of_a_failing_command_is_printed() -> None:
    with pytest.raises(SystemExit, match="planned"):
        full_size.measure("build", ["python3", "-c", "raise SystemExit('planned')"])


@pytest.mark.full_size
def test_the_model_is_stable_diffusion_s(tmp_path: Path) -> None:
    full_size.write_model(tmp_path)
    sizes = {part: sum(p.stat().st_size for p in (tmp_path / part).glob("*.safetensors")) for part in ("unet", "vae")}
    assert sizes["unet"] == pytest.approx(859_520_964 * 4, rel=1e-3)
    assert sizes["vae"] == pytest.approx(83_653_863 * 4, rel=1e-3)
    assert all((tmp_path / name).is_file() for name in CONFIGS)
