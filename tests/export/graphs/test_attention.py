from pathlib import Path

import onnx
import pytest
from diffusers import AutoencoderKL

from anon_export.build.verify import check_engine
from anon_export.demo.generator import Architecture, initialise, make_parts
from anon_export.graphs import stable_diffusion
from anon_export.graphs.options import GraphOptions
from anon_runtime.backends.base import load_engine


@pytest.fixture(scope="module")
def random_vae() -> AutoencoderKL:
    """With attention, which the demo's has not, and with weights that half precision rounds."""
    vae = make_parts(Architecture()).vae.eval()
    initialise(vae)
    return vae


def test_attention_of_other_targets_is_standard(random_vae: AutoencoderKL, tmp_path: Path) -> None:
    before = random_vae.attn_processors
    for fused, kind in ((False, "Softmax"), (True, "MultiHeadAttention")):
        path = tmp_path / str(fused) / "model.onnx"
        spec = stable_diffusion.export_vae_decoder(random_vae, path, (4, 16, 16), GraphOptions(fused_attention=fused))
        assert [node.op_type for node in onnx.load(path).graph.node].count(kind) == 1
        assert check_engine(load_engine("onnxruntime", path), spec, path, "vae").relative < 1e-5
    assert random_vae.attn_processors == before, "the model is left as it was"
