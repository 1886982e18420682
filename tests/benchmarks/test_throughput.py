"""The quick form of the speed benchmark on the demo: these tests check what it measures, not how fast anything is."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.bundle.bundle import Bundle
from benchmarks import contenders, operators, throughput
from benchmarks.throughput_report import Comparison, Report, table

pytestmark = pytest.mark.packages


FAST = f"{contenders.INT8}, --fast 2"
# The largest difference of each contender's UNet, as a share of the largest value; a level has none to compare.
BOUNDS: dict[str, float | None] = {contenders.OURS: 1e-4, "OpenVINO, f32": 1e-4, contenders.INT8: 0.3, FAST: None}
# The bundle in int8-bf16 is made where the processor has bf16.
ON_BF16 = {contenders.HALF, f"{contenders.HALF}, --fast 2"} if multiplies_bf16() else set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_model: Path, demo_bundle: Path) -> Path:
    """A folder with the demo's model and engines, as an earlier run of the benchmark leaves it."""
    folder = tmp_path_factory.mktemp("throughput")
    shutil.copytree(demo_model, folder / "model")
    shutil.copytree(demo_bundle, folder / "engines" / "ours")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "BATCHES", {False: (1, 2)})
        return throughput.run(folder, full_size=False, repeats=2, only=list(BOUNDS))


def test_every_contender_gives_pytorchs_numbers(report: Report) -> None:
    assert report["unavailable"] == {}
    found = {(fields["name"], fields["part"]): Comparison(**fields) for fields in report["comparisons"]}
    assert set(found) == {(name, "unet") for name in BOUNDS} | {
        (name, "vae_decoder") for name in BOUNDS if name != FAST
    }
    for (name, part), own in found.items():
        bound = BOUNDS[name] if part == "unet" else 1e-4
        assert (own.error is None) == (bound is None)
        assert own.error is None or bound is None or 0 < own.error < bound
        assert len(own.seconds) == len(own.baseline) == 2
        assert min(own.seconds + own.baseline) > 0
        assert own.peak > 50e6


def test_an_image_is_measured_from_start_to_png(report: Report) -> None:
    assert set(report["images"]) == {contenders.OURS, contenders.BASELINE, contenders.INT8, FAST} | ON_BF16
    for image in report["images"].values():
        assert set(image["stages"]) == {"text_encoder", "unet", "vae_decoder", "rest"}
        assert min(image["stages"].values()) > 0
        assert image["to_unet"] > 0
        assert image["peak"] > 50e6


def test_the_rate_is_flops_over_time(report: Report) -> None:
    """The lower bound is four 3 x 3 convolutions of the demo's UNet at 24 x 24, with 64 * 64 * 9 products per pixel."""
    assert report["flops"]["unet"] > 2 * 2 * 64 * 64 * 9 * 24 * 24 * 4
    assert report["sgemm"] > 1e9


def test_attention_is_counted() -> None:
    """Two products of queries, keys and values: 2 * (2 * batch * heads * tokens * other tokens * width)."""
    import torch
    from torch.nn import functional

    query, key = torch.ones(2, 3, 5, 8), torch.ones(2, 3, 7, 8)
    with throughput.count_operations() as counter, torch.no_grad():
        functional.scaled_dot_product_attention(query, key, key)
    assert counter.get_total_flops() == 2 * 2 * 2 * 3 * 5 * 7 * 8


def test_the_table_and_the_plots(report: Report, tmp_path: Path) -> None:
    from benchmarks.plots import draw

    lines = table(report)
    assert sum(f"| {contenders.OURS} |" in line for line in lines) == 3
    assert f"| unet | {FAST} |" in "\n".join(lines)
    assert "onnxruntime" in lines[0]
    draw(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"speed.png", "images.png"}


def test_images_and_batches_can_be_left_out(report: Report, folder: Path, tmp_path: Path) -> None:
    from benchmarks.plots import draw

    part = throughput.run(folder, full_size=False, repeats=1, only=[contenders.HALF], measured=["unet"])
    assert (part["images"], part["batches"]) == ({}, [])
    assert len(part["comparisons"]) == bool(ON_BF16)
    assert len(part["unavailable"]) == (not ON_BF16)
    assert len(table(part)) < len(table(report))
    draw(part, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"speed.png"}


def test_a_contender_that_cannot_run_is_named(folder: Path) -> None:
    with pytest.raises(contenders.UnavailableError, match=r"BundleError|FileNotFoundError"):
        contenders.Contender(contenders.OURS, folder / "nowhere", "unet", 1)


def test_the_speed_is_the_ratio_of_neighbouring_runs() -> None:
    assert Comparison("a", "unet", [1.0, 2.0], [2.0, 6.0], 0.0, 1).ratios == [2.0, 3.0]


@pytest.mark.parametrize("role", ["unet", "vae_decoder"])
def test_operators_of_an_engine(demo_bundle: Path, role: str) -> None:
    times = operators.profile(Bundle.read(demo_bundle), role, repeats=2, batch=2)
    assert times["Conv"] > 0
    assert times["MatMul" if role == "unet" else "Mul"] > 0
    assert sum(times.values()) < 60
    assert np.isfinite(sum(times.values()))
