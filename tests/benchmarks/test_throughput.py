"""The quick form of the benchmark on the demo: what it measures, not how fast anything is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime.bundle.bundle import Bundle
from benchmarks import contenders, operators, throughput

pytestmark = pytest.mark.packages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_model: Path, demo_bundle: Path) -> Path:
    """The demo, where the benchmark looks for what it built before."""
    folder = tmp_path_factory.mktemp("throughput")
    shutil.copytree(demo_model, folder / "model")
    shutil.copytree(demo_bundle, folder / "engines" / "ours")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "BATCHES", {False: (1, 2)})
        return throughput.run(folder, full_size=False, repeats=2, only=[contenders.OURS, "OpenVINO"])


def test_every_contender_gives_pytorchs_numbers(report: dict[str, Any]) -> None:
    assert report["absent"] == {}
    found = {(pair["name"], pair["part"]): pair for pair in report["pairs"]}
    assert set(found) == {(name, part) for name in (contenders.OURS, "OpenVINO") for part in throughput.PARTS}
    for pair in found.values():
        assert 0 < pair["error"] < 1e-4
        assert len(pair["seconds"]) == len(pair["baseline"]) == 2 and min(pair["seconds"] + pair["baseline"]) > 0
        assert pair["peak"] > 50e6


def test_a_image_is_measured_from_start_to_png(report: dict[str, Any]) -> None:
    for image in report["images"].values():
        assert set(image["stages"]) == {"text_encoder", "unet", "vae_decoder", "rest"}
        assert min(image["stages"].values()) > 0 and image["to_unet"] > 0 and image["peak"] > 50e6


def test_the_rate_is_flops_over_time(report: dict[str, Any]) -> None:
    """A 3 x 3 convolution of the demo's UNet at 24 x 24 has 64 * 64 * 9 products a pixel; the whole has more."""
    assert report["flops"]["unet"] > 2 * 2 * 64 * 64 * 9 * 24 * 24 * 4
    assert report["sgemm"] > 1e9


def test_the_table_and_the_plots(report: dict[str, Any], tmp_path: Path) -> None:
    from benchmarks.plots import draw

    lines = throughput.table(report)
    assert sum(f"| {contenders.OURS} |" in line for line in lines) == 3 and "onnxruntime" in lines[0]
    draw(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"speed.png", "images.png"}


def test_a_contender_that_cannot_run_is_named(folder: Path) -> None:
    with pytest.raises(contenders.AbsentError, match="BundleError|FileNotFoundError"):
        contenders.Rival(contenders.OURS, folder / "nowhere", "unet", 1)


def test_wrong_numbers_would_be_seen() -> None:
    pair = throughput.Pair("a", "unet", [1.0, 2.0], [2.0, 6.0], 0.0, 1)
    assert pair.ratios == [2.0, 3.0]


@pytest.mark.parametrize("role", ["unet", "vae_decoder"])
def test_operators_of_an_engine(demo_bundle: Path, role: str) -> None:
    times = operators.profile(Bundle.read(demo_bundle), role, repeats=2, batch=2)
    assert times["Conv"] > 0 and times["MatMul" if role == "unet" else "Mul"] > 0 and times.total() < 60
    assert np.isfinite(times.total())
