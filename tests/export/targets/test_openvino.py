from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.comparison import relative_rms
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import BackendError

pytestmark = pytest.mark.packages
openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo for OpenVINO, verified by its build against PyTorch and diffusers."""
    return build(BuildOptions("demo", "demo", tmp_path_factory.mktemp("openvino"), "demo", "openvino"))


def test_the_build_verified_it(bundle: Bundle) -> None:
    assert bundle.manifest.target == "openvino"
    assert bundle.manifest.verification is not None
    assert bundle.manifest.verification.image_psnr >= 60
    assert not list(bundle.path.rglob("*.onnx*"))


def test_other_tools_read_it(bundle: Bundle) -> None:
    model = openvino.Core().read_model(bundle.engine_path("unet"))
    assert {i.get_any_name() for i in model.inputs} == {"sample", "timestep", "encoder_hidden_states"}


def test_a_photo_goes_all_the_way(bundle: Bundle, astronaut: Path, anonymizer: Anonymizer) -> None:
    portrait = Anonymizer.of(Engines(bundle), Settings(steps=2)).anonymize(astronaut)
    assert portrait.image.size == (96, 96)
    # The demo's face engines, on the other target: the same face and the same words.
    theirs = anonymizer.describe(astronaut)
    assert portrait.face == pytest.approx(theirs.face, abs=0.1)
    assert portrait.prompt == theirs.prompt


def test_results_are_not_overwritten_by_the_next_run(bundle: Bundle) -> None:
    vae = Engines(bundle)["vae_decoder"]
    first = vae({"latent_sample": np.zeros((1, 4, 24, 24), np.float32)})["sample"]
    copy = first.copy()
    vae({"latent_sample": np.ones((1, 4, 24, 24), np.float32)})
    np.testing.assert_array_equal(first, copy)


def test_wrong_inputs_and_files_are_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="openvino refused latent_sample"):
        Anonymizer.of(Engines(bundle)).generator.decode(np.zeros((1, 3, 24, 24), np.float32))
    (tmp_path / "bad.xml").write_text("<net/>")
    with pytest.raises(BackendError, match="openvino cannot load it") as caught:
        load_engine("openvino", tmp_path / "bad.xml")
    assert "\n" not in str(caught.value)


def test_batches_are_free(bundle: Bundle) -> None:
    requests = [Request("a man", "hat", seed=k) for k in range(3)]
    anonymizer = Anonymizer.of(Engines(bundle), Settings(steps=2))
    together = anonymizer.generate(requests)
    for request, portrait in zip(requests, together, strict=True):
        alone = anonymizer.generate([request])[0]
        assert np.abs(np.asarray(alone.image).astype(int) - np.asarray(portrait.image)).max() <= 1


def test_a_timestep_is_not_rounded_in_bf16(bundle: Bundle) -> None:
    """A timestep of 917 in bf16 is off by up to 2, and its sine and cosine are those of another noise level."""
    path = bundle.engine_path("unet")
    model = ElementTree.parse(path)
    layers = {layer.get("name"): layer for layer in model.iterfind("layers/layer")}
    precise = {name for name, layer in layers.items() if layer.find("rt_info/attribute[@name='precise']") is not None}
    kinds = {str(layers[name].get("type")): layers[name].get("id") for name in precise}
    assert set(kinds) == {"Sin", "Cos", "Multiply"}
    sources = {edge.get("from-layer") for edge in model.iterfind(f"edges/edge[@to-layer='{kinds['Multiply']}']")}
    assert layers["timestep"].get("id") in sources, "OpenVINO rounds what a reshape of the timestep returns"
    if not multiplies_bf16():
        pytest.skip("this processor has no instructions for bf16")
    rng = np.random.default_rng(0)
    sample, hidden = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 24, 24), (2, 77, 64)))
    inputs = {"sample": sample, "timestep": np.asarray(917.25, np.float32), "encoder_hidden_states": hidden}
    half, full = (
        np.asarray(load_engine("openvino", path, precision=name)(inputs)["out_sample"], np.float32)
        for name in ("bf16", "fp32")
    )
    assert 1e-4 < relative_rms(half, full) < 0.02
