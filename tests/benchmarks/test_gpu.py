"""The benchmark of GPUs without one: every stage runs on the processor, with the demo's sizes."""

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from anon_runtime.diffusion import device_loop
from benchmarks import gpu
from benchmarks.gpu_place import Place, SkippedError
from benchmarks.gpu_report import Result

pytestmark = pytest.mark.packages


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("gpu") / "work", "cpu", 1)


@pytest.fixture(scope="module")
def results(place: Place) -> Result:
    return gpu.run(place, place.folder.parent, 60)


def test_every_stage_has_a_result(results: Result, place: Place) -> None:
    assert list(results) == list(gpu.STAGES)
    for name, result in results.items():
        assert "failed" not in result, f"{name}: {result}"
        assert result.pop("stage took") >= 0
    assert json.loads((place.folder.parent / "gpu.json").read_text()).keys() == results.keys()
    text = (place.folder.parent / "gpu.md").read_text()
    assert all(f"## {name}" in text for name in results)
    assert "| anon-engines, bound |" in text


def test_engines_and_images_are_those_of_pytorch(results: Result) -> None:
    found = dict(results["correctness"])
    assert found["image, dB"] > 40
    assert found["two runs are equal"] is True
    networks, loop = ("text_encoder", "unet", "unet_cached", "vae_encoder", "vae_decoder"), device_loop.ROLES
    assert all(0 < error < 1e-2 for role in networks for error in found[role].values())
    assert all(error < 1e-6 for role in loop for error in found[role].values())


def test_contenders_that_need_a_gpu_say_so(results: Result) -> None:
    found = {name: own for name, own in results["UNet"].items() if isinstance(own, dict)}
    skipped = {name for name, own in found.items() if "skipped" in own}
    assert skipped == {*gpu.COMPILED, "anon-engines, CUDA graph", "anon-engines, TensorRT"}
    assert found["anon-engines, TensorRT"]["skipped"] == "a processor has no TensorRT"
    for name in found.keys() - skipped:
        assert len(found[name]["seconds"]) == 1
        assert found[name]["speed"] > 0


def test_levels_batches_and_operators(results: Result) -> None:
    images = {name: own for name, own in results["images"].items() if isinstance(own, dict)}
    assert list(images) == ["--fast 0", "--fast 1", "--fast 2", "--fast 3"]
    assert all(own["seconds"] > own["unet"] > 0 for own in images.values())
    assert results["batches"].keys() >= {"1", "2"}
    shares = [share for name, share in results["operators"].items() if name != "stage took"]
    assert sum(shares) == pytest.approx(1)


def test_a_plot_is_drawn_of_what_there_is(results: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, some in {"all": results, "none": {}, "failed": {"UNet": {"failed": "no GPU"}}}.items():
        gpu.draw_where_possible(some, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 800
        assert f"{name}.png" in capsys.readouterr().out


def test_a_stage_that_fails_or_comes_too_late_is_named(place: Place, tmp_path: Path) -> None:
    def fail(_: Place) -> Result:
        raise RuntimeError("CUDA error\nat line 7")

    def skip(_: Place) -> Result:
        raise SkippedError("no GPU")

    def wait(_: Place) -> Result:
        time.sleep(0.3)
        return {"done": 1.5}

    found = gpu.run(place, tmp_path, 0.004, {"a": fail, "b": skip, "c": wait, "d": wait})
    for stage in ("a", "b", "c"):
        del found[stage]["stage took"]
    assert found == {
        "a": {"failed": "RuntimeError: CUDA error"},
        "b": {"skipped": "no GPU"},
        "c": {"done": 1.5},
        "d": {"skipped": "no time was left"},
    }
    assert "- skipped: no time was left" in (tmp_path / "gpu.md").read_text()
