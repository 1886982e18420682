"""The demo for onnxruntime's CUDA provider: built, and generating an image, on a machine without a GPU."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from anon_export.build.builder import build, runs_here
from anon_export.build.options import BuildOptions
from anon_export.build.verify import REFERENCE_IMAGE, REQUEST, SETTINGS
from anon_export.comparison import psnr
from anon_export.graphs import cuda as graphs
from anon_export.targets import cuda
from anon_runtime import Anonymizer
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import AnonError, BackendError
from anon_runtime.types import Engine

pytestmark = pytest.mark.skipif(cuda.runs_here(), reason="this machine has a GPU, and verifies the bundle itself")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, export_packages: None) -> BuildOptions:
    output = tmp_path_factory.mktemp("cuda")
    return BuildOptions("demo", "demo", output, "none", target="cuda", precision="fp16", deepcache=True)


@pytest.fixture(scope="module")
def bundle(options: BuildOptions) -> Bundle:
    return build(options)


def test_the_bundle_is_for_any_gpu(bundle: Bundle) -> None:
    manifest = Bundle.open(bundle.path).manifest
    assert (manifest.target, manifest.gpu, manifest.verification) == ("cuda", "any", None)
    precisions = {role: spec.precision for role, spec in manifest.engines.items()}
    assert precisions == {"text_encoder": "fp16", "unet": "fp16", "unet_cached": "fp16", "vae_decoder": "fp32"}
    assert not runs_here(manifest.gpu)


def test_it_runs_on_no_processor(bundle: Bundle) -> None:
    with Engines(bundle, device="cpu") as engines, pytest.raises(BackendError, match="engines for cuda run on: cuda"):
        engines.require("unet")
    with Engines(bundle) as engines, pytest.raises(BackendError, match="use a bundle for processors"):
        _ = engines["unet"]


def test_an_image_is_that_of_diffusers(bundle: Bundle) -> None:
    """On the processor, weights are rounded to half precision, but what is computed in between is not."""
    replaced: dict[str, Engine] = {
        role: cuda.load_on_processor(bundle.engine_path(role)) for role in bundle.manifest.engines
    }
    with Engines(bundle, replaced=replaced) as engines:
        ours = Anonymizer.of(engines, SETTINGS).generator.generate([REQUEST])[0].image
    with Image.open(bundle.path / REFERENCE_IMAGE) as image:
        assert psnr(np.asarray(ours), np.asarray(image.convert("RGB"))) > 40


def test_a_second_build_builds_nothing(options: BuildOptions, bundle: Bundle) -> None:
    said: list[tuple[str, str]] = []
    build(options, lambda *state: said.append(state))
    assert said == [("bundle", "unchanged")]


def test_a_graph_that_is_rewritten_wrongly_ends_the_build(
    options: BuildOptions, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's optimizers know many graphs, and may take one for another."""
    real = graphs.use_cuda_operators

    def rewrite(path: Path, signature: str, *, half: bool) -> None:
        real(path, signature, half=half)
        if signature == "unet":
            model = onnx.load(path)
            node = next(node for node in model.graph.node if node.op_type == "GroupNorm")
            next(attribute for attribute in node.attribute if attribute.name == "groups").i *= 2
            onnx.save(model, path)

    monkeypatch.setattr(graphs, "use_cuda_operators", rewrite)
    shutil.copytree(bundle.path, tmp_path / "demo")
    with pytest.raises(AnonError, match="the unet engine: it differs from PyTorch"):
        build(replace(options, output=tmp_path, deepcache=False))
    assert Bundle.open(tmp_path / "demo").manifest == bundle.manifest
