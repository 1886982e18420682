import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock

from anon_export.build.verify import check_engine
from anon_export.demo.generator import Architecture, initialise, make_parts
from anon_export.graphs import stable_diffusion
from anon_export.graphs.options import GraphOptions, Precision
from anon_export.models.loading import load_model
from anon_runtime import Anonymizer
from anon_runtime.backends.base import load_engine
from anon_runtime.errors import UsageError
from anon_runtime.types import Array


@pytest.fixture(scope="module")
def pipeline(demo_model: Path) -> Any:
    return load_model(demo_model)


def close(ours: Array, theirs: torch.Tensor) -> None:
    expected = theirs.detach().numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(ours.astype(np.float32), expected, atol=3e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("batch", [1, 3])
def test_text_encoder(anonymizer: Anonymizer, pipeline: Any, batch: int) -> None:
    ids = np.random.default_rng(0).integers(0, 49408, (batch, 77))
    outputs = anonymizer.engines["text_encoder"]({"input_ids": ids})
    close(outputs["last_hidden_state"], pipeline.text_encoder(torch.tensor(ids))[0])


@pytest.mark.parametrize(("batch", "height", "width", "tokens"), [(1, 16, 16, 77), (2, 16, 24, 154), (5, 8, 32, 231)])
def test_unet(anonymizer: Anonymizer, pipeline: Any, batch: int, height: int, width: int, tokens: int) -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((batch, 4, height, width)).astype(np.float32)
    states = rng.standard_normal((batch, tokens, 64)).astype(np.float32)
    inputs = {"sample": sample, "timestep": np.float32(417.25), "encoder_hidden_states": states}
    ours = anonymizer.engines["unet"]({k: np.asarray(v) for k, v in inputs.items()})["out_sample"]
    with torch.no_grad():
        close(ours, pipeline.unet(*map(torch.tensor, (sample, 417.25, states)), return_dict=False)[0])


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (2, 8, 24)])
def test_vae_decoder(anonymizer: Anonymizer, pipeline: Any, batch: int, height: int, width: int) -> None:
    latents = np.random.default_rng(0).standard_normal((batch, 4, height, width)).astype(np.float32)
    with torch.no_grad():
        expected = pipeline.vae.decode(torch.tensor(latents), return_dict=False)[0]
    close(anonymizer.engines["vae_decoder"]({"latent_sample": latents})["sample"], expected)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (2, 32, 96)])
def test_vae_encoder(anonymizer: Anonymizer, pipeline: Any, batch: int, height: int, width: int) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
    with torch.no_grad():
        expected = pipeline.vae.encode(torch.tensor(images), return_dict=False)[0].parameters
    close(anonymizer.engines["vae_encoder"]({"sample": images})["latent_parameters"], expected)


def test_the_unet_s_graph_is_clean(demo_bundle: Path, pipeline: Any) -> None:
    """Nothing is computed from constants alone or for nobody, no weight is there twice, attention is one operator."""
    model = onnx.load(demo_bundle / "unet" / "model.onnx")
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    constant = [node.op_type for node in graph.node if node.input and set(node.input) <= weights]
    assert constant == []
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    assert [node.op_type for node in graph.node if not set(node.output) & used] == []
    assert weights <= used
    large = [hashlib.sha256(t.raw_data).hexdigest() for t in graph.initializer if len(t.raw_data) > 1024]
    assert len(large) == len(set(large))
    blocks = sum(isinstance(module, BasicTransformerBlock) for module in pipeline.unet.modules())
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MultiHeadAttention") == 2 * blocks > 0
    assert "Softmax" not in kinds


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_static_graphs(tmp_path: Path, precision: Precision) -> None:
    def make_vae() -> Any:
        vae = make_parts(Architecture()).vae.eval()
        initialise(vae)
        return vae

    path = tmp_path / "vae_decoder" / "model.onnx"
    spec = stable_diffusion.export_vae_decoder(make_vae(), path, (4, 8, 16), GraphOptions(precision, static=True))
    assert spec.inputs[0].shape == ("batch", 4, 8, 16)
    assert spec.inputs[0].dtype == "float32"
    assert spec.precision == precision
    error = check_engine(load_engine("onnxruntime", path), spec, path, "vae")
    encoder = tmp_path / "vae_encoder" / "model.onnx"
    other = stable_diffusion.export_vae_encoder(make_vae(), encoder, (4, 8, 16), GraphOptions(precision, static=True))
    assert other.inputs[0].shape == ("batch", 3, 64, 128)
    assert check_engine(load_engine("onnxruntime", encoder), other, encoder, "vae").relative < 2e-2
    assert error.relative < {"fp32": 1e-5, "fp16": 2e-2}[precision]
    assert precision == "fp32" or error.relative > 1e-5, "half precision is not free"


@pytest.mark.parametrize(("size", "free"), [(4, True), (6, False)])
def test_unets_of_any_size(tmp_path: Path, size: int, free: bool) -> None:
    """Latents that shrink to one pixel on the lowest of three levels, and ones that cannot be halved evenly."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=size,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
    )
    initialise(unet)
    spec = stable_diffusion.export_unet(unet.eval(), tmp_path / "unet" / "model.onnx", (4, size, size), GraphOptions())
    assert spec.inputs[0].shape == (("batch", 4, "latent_height", "latent_width") if free else ("batch", 4, size, size))
    session = onnxruntime.InferenceSession(spec.path, providers=["CPUExecutionProvider"])
    for batch, side in [(1, size), (3, size)] + ([(1, 16)] if free else []):
        sample, states = torch.randn(batch, 4, side, side), torch.randn(batch, 154, 16)
        inputs = {"sample": sample.numpy(), "timestep": np.float32(417.25), "encoder_hidden_states": states.numpy()}
        ours = session.run(None, {k: np.asarray(v) for k, v in inputs.items()})[0]
        with torch.no_grad():
            close(ours, unet(sample, 417.25, states, return_dict=False)[0])


@pytest.fixture(scope="module")
def two_levels() -> Any:
    """A UNet with one layer for each level on the way down and two on the way up."""
    return UNet2DConditionModel(
        sample_size=12,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


@pytest.mark.parametrize(
    ("precision", "branch", "left", "bound"),
    [
        ("fp32", 0, {"up_blocks.1.resnets.1"}, 1e-5),
        ("fp32", 1, {"up_blocks.1.resnets.0", "up_blocks.1.resnets.1", "down_blocks.0.resnets.0"}, 1e-5),
        ("fp16", 0, {"up_blocks.1.resnets.1"}, 1e-2),
    ],
)
def test_cuts_of_deepcache(
    two_levels: Any, tmp_path: Path, precision: Precision, branch: int, left: set[str], bound: float
) -> None:
    """A branch leaves as many layers of the way up as its number says and one, and the same of the way down."""
    path = tmp_path / "model.onnx"
    stable_diffusion.export_unet(deepcopy(two_levels), path, (4, 12, 12), GraphOptions(precision, cache_branch=branch))
    spec = stable_diffusion.extract_cached_unet(path, tmp_path / "cached" / path.name)
    assert [tensor.name for tensor in spec.inputs] == ["sample", "timestep", "encoder_hidden_states", "deep"]
    cached = Path(spec.path)
    assert check_engine(load_engine("onnxruntime", cached), spec, cached, "cached").relative < bound
    graph = onnx.load(cached).graph
    assert any("deep" in node.input for node in graph.node)
    weights = {name for tensor in graph.initializer if "resnets" in (name := tensor.name)}
    assert {name.removeprefix("model.").rsplit(".", 2)[0] for name in weights} == left


def test_a_cut_beyond_the_topmost_level_is_refused(two_levels: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`cache_branch` 2: the topmost level of this UNet has 2 layers"):
        stable_diffusion.export_unet(two_levels, tmp_path / "model.onnx", (4, 12, 12), GraphOptions(cache_branch=2))
