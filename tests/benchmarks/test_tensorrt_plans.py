"""The benchmark of TensorRT's plans, with the demo's model; the builder's calls and messages are the real ones."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from anon_runtime.backends.tensorrt import RTX_LIBRARIES
from anon_runtime.diffusion.device_loop import ROLES
from anon_runtime.errors import UsageError

pytestmark = pytest.mark.packages
pytest.importorskip(RTX_LIBRARIES)

from benchmarks import tensorrt_plans as own  # noqa: E402 - it ends the program where a package is missing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("plans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        yield path


@pytest.fixture(scope="module")
def plans(folder: Path) -> dict[str, own.Built]:
    return {built.role: built for built in own.run(folder / "work", folder, ["sm_89"], small=True)}


def test_every_engine_is_built_and_written_down(plans: dict[str, own.Built], folder: Path) -> None:
    assert list(plans) == ["text_encoder", "unet", "unet_cached", "vae_encoder", "vae_decoder", *ROLES]
    for built in plans.values():
        assert built.gpu == "sm_89"
        assert min(built.seconds, built.size, built.peak) > 0
    assert json.loads((folder / "plans.json").read_text()) == [asdict(built) for built in plans.values()]
    text = (folder / "plans.md").read_text().splitlines()
    assert len(text) == 2 + len(plans)
    assert len({line.count("|") for line in text}) == 1
    assert list((folder / "work").iterdir()) == []


def test_precision_is_as_meant(plans: dict[str, own.Built]) -> None:
    for role, built in plans.items():
        half = role in ("text_encoder", "unet", "unet_cached")
        assert built.precision == ("fp16" if half else "fp32")
        assert built.as_meant, built
        assert built.network.layers >= built.plan.layers > 0
        assert not half or built.plan.products > 0
    assert plans["vae_decoder"].plan.products > 0


def test_another_precision_is_noticed(plans: dict[str, own.Built]) -> None:
    assert not replace(plans["unet"], precision="fp32").as_meant
    assert not replace(plans["vae_decoder"], precision="fp16").as_meant
    mixed = own.Contents(layers=9, with_fp16=5, products=4, fp16_products=3, attentions=0)
    assert not replace(plans["unet"], network=mixed).as_meant
    assert not replace(plans["vae_decoder"], plan=mixed).as_meant


def test_attention_is_one_kernel_in_half_precision(plans: dict[str, own.Built]) -> None:
    for role in ("text_encoder", "unet"):
        assert plans[role].plan.attentions == plans[role].network.attentions > 0


def test_deepcache_leaves_a_small_part(plans: dict[str, own.Built]) -> None:
    assert plans["unet_cached"].plan.products < plans["unet"].plan.products / 4


def test_weights_do_not_count_as_inputs() -> None:
    line = "Name: {}, LayerType: {}, Inputs: [ {{ Name: a, Dimensions: [-1,4], Datatype: Half }}], "
    line += (
        "Constants: [ {{ Name: alpha, Datatype: Float }}], Outputs: [ {{ Name: b, Dimensions: [2], Datatype: {} }}], "
    )
    line += "TacticName: , StreamId: 0"
    lines = [line.format("x+y", "gemm", "Half"), line.format("_gemm_mha_v2_3", "kgen", "Half")]
    lines += [line.format("_cast", "kgen", "Float"), " Name: sample, IOMode: Input, DataType: Float"]
    assert list(own.plan_layers(own.LIST_OF_LAYERS + "\n".join(lines))) == [
        own.Layer(product=True, attention=False, inputs=("HALF",), outputs=("HALF",)),
        own.Layer(product=True, attention=True, inputs=("HALF",), outputs=("HALF",)),
        own.Layer(product=False, attention=False, inputs=("HALF",), outputs=("FLOAT",)),
    ]


def test_an_unknown_architecture_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sm_90"):
        own.run(tmp_path / "work", tmp_path, ["sm_89", "sm_90"], small=True)
    assert list(tmp_path.iterdir()) == []
