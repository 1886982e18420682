"""The choice between onnxruntime and OpenVINO, with engines that take as long as a test says, and with real ones."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anon_export.build import choice
from anon_export.build.choice import Candidate, choose_target, measure, shrink
from anon_export.build.options import BuildOptions
from anon_export.comparison import relative_rms
from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST, Choice
from anon_runtime.errors import UsageError
from anon_runtime.types import Array, Arrays, Engine

pytestmark = pytest.mark.usefixtures("export_packages")
CONFIG = {
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "cross_attention_dim": 16,
    "sample_size": 16,
}


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    return BuildOptions("demo", "demo", tmp_path, "none")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The seconds of each candidate; all packages count as installed, and nothing is built."""
    seconds = {"onnxruntime fp32": 2.0, "openvino fp32": 3.0}
    seconds |= {"openvino bf16": 1.5, "openvino int8": 1.0, "openvino int8-bf16": 0.5}
    monkeypatch.setattr(choice, "is_installed", lambda _: True)
    monkeypatch.setattr(choice, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(choice, "describe_machine", lambda _: "a processor")
    monkeypatch.setattr(choice, "make_engine", lambda *_: lambda _inputs: {})
    monkeypatch.setattr(choice, "measure", lambda engines, _: {name: seconds[name] for name in engines})
    return seconds


def test_the_fastest_target_is_taken_that_keeps_the_images(options: BuildOptions, machine: dict[str, float]) -> None:
    chosen = choose_target(options)
    assert (chosen.target, chosen.precision) == ("onnxruntime", "fp32")
    assert chosen.choice == Choice("onnxruntime", "a processor", machine)
    machine["openvino fp32"] = 1.5
    assert choose_target(options).target == "openvino"


def test_what_a_machine_cannot_do_is_not_measured(
    options: BuildOptions, machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = list(machine)[:2]
    monkeypatch.setattr(choice, "multiplies_bf16", lambda: False)
    assert [candidate.name for candidate in choice.list_candidates(options)] == [*exact, "openvino int8"]
    monkeypatch.setattr(choice, "is_installed", lambda name: name != "nncf")
    assert [candidate.name for candidate in choice.list_candidates(options)] == exact


def test_a_choice_is_kept_where_it_was_made(
    options: BuildOptions, machine: dict[str, float], demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two measurements may differ by noise, and a second build would then build everything again."""
    options.folder.mkdir()
    manifest = replace(Bundle.read(demo_bundle).manifest, choice=Choice("openvino", "a processor", dict(machine)))
    (options.folder / MANIFEST).write_text(manifest.to_json())
    said: list[tuple[str, str]] = []
    assert choose_target(options, lambda *state: said.append(state)).target == "openvino"
    assert said == [("target", "openvino, as before")]
    machine |= {"onnxruntime fp16-weights": 1.0, "openvino fp16-weights": 2.0}
    assert choose_target(replace(options, precision="fp16-weights")).target == "onnxruntime"
    monkeypatch.setattr(choice, "describe_machine", lambda _: "another processor")
    assert choose_target(options).target == "onnxruntime"


def test_a_candidate_that_fails_is_left_out(
    options: BuildOptions, machine: dict[str, float], demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end the build, whether it cannot be made or cannot run, as long as one keeps the images."""

    def engine(_inputs: Mapping[str, Array], /) -> Arrays:
        raise MemoryError("no room\nfor the activations")

    def make(candidate: Candidate, *_: object) -> Engine:
        if candidate.name in broken:
            raise RuntimeError(f"no kernel for {candidate.name}\nat node 7")
        return engine if candidate.name == "openvino int8" else lambda _inputs: {}

    broken = {"openvino int8-bf16", "openvino fp32"}
    monkeypatch.setattr(choice, "make_engine", make)
    said: list[str] = []
    chosen = choose_target(options, lambda _, state: said.append(state))
    assert chosen.choice == Choice("onnxruntime", "a processor", {"onnxruntime fp32": 2.0, "openvino bf16": 1.5})
    assert [state for state in said if "left out" in state] == [
        "openvino fp32 is left out: RuntimeError: no kernel for openvino fp32",
        "openvino int8 is left out: MemoryError: no room",
        "openvino int8-bf16 is left out: RuntimeError: no kernel for openvino int8-bf16",
    ]
    options.folder.mkdir()
    manifest = replace(Bundle.read(demo_bundle).manifest, choice=chosen.choice)
    (options.folder / MANIFEST).write_text(manifest.to_json())
    machine.clear()
    assert choose_target(options).choice == chosen.choice
    (options.folder / MANIFEST).unlink()
    broken.add("onnxruntime fp32")
    with pytest.raises(RuntimeError, match="onnxruntime fp32"):
        choose_target(options)


def test_nothing_is_measured_where_there_is_no_choice(
    options: BuildOptions, machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.clear()
    quantized = choose_target(replace(options, precision="int8"))
    assert (quantized.target, quantized.choice) == ("openvino", None)
    monkeypatch.setattr(choice, "is_installed", lambda name: name == "onnxruntime")
    said: list[tuple[str, str]] = []
    chosen = choose_target(options, lambda *state: said.append(state))
    assert (chosen.target, chosen.choice) == ("onnxruntime", None)
    assert said == [("target", "onnxruntime, as this is not installed: openvino")]


def test_options_that_no_candidate_has_are_refused_before_anything_is_measured(options: BuildOptions) -> None:
    with pytest.raises(UsageError, match="for no particular GPU"):
        choose_target(replace(options, gpu="sm_89"))


def test_a_part_of_a_unet_has_its_topmost_levels() -> None:
    from diffusers import UNet2DConditionModel

    small = shrink(CONFIG | {"attention_head_dim": [4, 8, 8]})
    assert small["block_out_channels"] == [32, 64]
    assert small["up_block_types"] == ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    assert small["attention_head_dim"] == [4, 8]
    assert CONFIG["layers_per_block"] == 2
    network = UNet2DConditionModel.from_config(shrink(CONFIG))
    assert [len(block.resnets) for block in network.up_blocks] == [2, 2]


def test_candidates_take_turns_and_their_first_calls_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = 0.0, []

    def engine(name: str, seconds: list[float]) -> Callable[[Mapping[str, Array]], Arrays]:
        def call(_inputs: Mapping[str, Array], /) -> Arrays:
            nonlocal now
            order.append(name)
            now += seconds[min(order.count(name), len(seconds)) - 1]
            return {}

        return call

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    measured = measure({"a": engine("a", [100.0, 1.0]), "b": engine("b", [50.0, 9.0, 2.0])}, {})
    assert measured == {"a": 1.0, "b": 2.0}
    assert order == ["a", "b"] * (choice.TURNS + 1)


@pytest.mark.parametrize(
    ("candidate", "error"),
    [
        (Candidate("onnxruntime", "fp32"), 1e-5),
        pytest.param(Candidate("openvino", "fp32"), 1e-5, marks=pytest.mark.packages),
        pytest.param(Candidate("openvino", "bf16"), 0.03, marks=pytest.mark.packages),
        pytest.param(Candidate("openvino", "int8"), 0.2, marks=pytest.mark.packages),
    ],
)
def test_engines_of_candidates_compute_the_same(
    candidate: Candidate, error: float, options: BuildOptions, tmp_path: Path
) -> None:
    """They have the same random weights."""
    from diffusers import UNet2DConditionModel

    pytest.importorskip(candidate.target)
    if candidate.precision == "bf16" and not multiplies_bf16():
        pytest.skip("this processor has no instructions for bf16")
    small = shrink(CONFIG)
    engine = choice.make_engine(candidate, choice.Networks(small, (4, 16, 16), options, tmp_path))
    inputs = choice.make_inputs((4, 16, 16), 16)
    torch.manual_seed(0)
    network: Any = UNet2DConditionModel.from_config(small).eval()
    with torch.no_grad():
        expected = network(*map(torch.from_numpy, inputs.values()), return_dict=False)[0].numpy()
    measured = relative_rms(np.asarray(engine(inputs)["out_sample"], np.float32), expected)
    assert measured < error
    assert (measured > 1e-4) == (candidate.precision != "fp32")
