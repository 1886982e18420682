"""The demo's UNet in int8, by NNCF and OpenVINO."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.build.verify import verify
from anon_export.comparison import relative_rms
from anon_export.quantization import bundle as quantization
from anon_export.quantization.bundle import with_precision
from anon_export.quantization.float_layers import layers_by_kind, quantized_layers, restore
from anon_export.quantization.quantize import cut_cached
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.diffusion.acceleration import Acceleration
from anon_runtime.errors import AnonError
from anon_runtime.types import Arrays

pytestmark = pytest.mark.packages
openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")
needs_bf16 = pytest.mark.skipif(not multiplies_bf16(), reason="this processor has no instructions for bf16")


@pytest.fixture(scope="module")
def options(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildOptions:
    """The demo in int8, calibrated and compared on few images; PyTorch's image is taken from the demo bundle."""
    output = tmp_path_factory.mktemp("int8")
    shutil.copytree(demo_bundle, output / "demo")
    return BuildOptions(
        "demo", "demo", output, "demo", "openvino", "int8", deepcache=True, calibration_images=1, check_images=2
    )


@pytest.fixture(scope="module")
def exact(options: BuildOptions) -> Bundle:
    """The same bundle in fp32, in another folder."""
    output = options.output / "exact"
    shutil.copytree(options.output / "demo", output / "demo")
    return build(replace(options, output=output, precision="fp32"))


@pytest.fixture(scope="module")
def built(options: BuildOptions, exact: Bundle) -> Bundle:
    shutil.rmtree(options.folder)
    shutil.copytree(exact.path, options.folder)
    return build(options)


def unet_inputs(images: int = 2) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "sample": rng.standard_normal((images, 4, 24, 24)).astype(np.float32),
        "timestep": np.asarray(417.25, np.float32),
        "encoder_hidden_states": rng.standard_normal((images, 154, 64)).astype(np.float32),
    }


def test_the_bundle_says_what_it_is_and_what_it_costs(built: Bundle, exact: Bundle) -> None:
    manifest = Bundle.open(built.path).manifest
    assert {role for role, spec in manifest.engines.items() if spec.precision == "int8"} == {"unet", "unet_cached"}
    assert "nncf" in manifest.tools
    damage = manifest.damage
    assert damage is not None
    assert damage.images == 2
    assert len(damage.rms) == 29
    assert 0 < max(error for _, error in damage.rms) < 0.2
    assert 20 < damage.psnr < 60
    assert damage.agreement is not None
    assert damage.agreement > 0.9
    assert exact.manifest.damage is None
    # The scan leaves more layers in float on a processor where int8 has larger errors.
    model = openvino.Core().read_model(exact.engine_path("unet"))
    layers = {node.get_friendly_name(): node for node in model.get_ops()}
    in_float = sum(layers[name].input_value(1).get_node().get_byte_size() for name in damage.float_layers)
    weights = [(bundle.path / "unet" / "openvino_model.bin").stat().st_size for bundle in (built, exact)]
    assert weights[0] < 1.05 * (in_float + (weights[1] - in_float) / 4)


def test_an_image_takes_the_whole_road(built: Bundle, exact: Bundle) -> None:
    request = Request("closeup portrait photo of a white 34 woman, Smiling , ", " Bald , ", seed=7)

    def generate(bundle: Bundle, settings: Settings) -> np.ndarray:
        return np.asarray(Anonymizer.of(Engines(bundle), settings).generate([request])[0].image, int)

    plain, reusing = Settings(guard="off"), Settings(guard="off", acceleration=Acceleration(cache_interval=2))
    for settings in (plain, reusing):
        assert 0 < np.abs(generate(built, settings) - generate(exact, settings)).mean() < 30
    assert (generate(built, plain) != generate(built, reusing)).any()
    assert verify(Engines(built)).image_psnr > 15


def test_layers_that_stay_in_float(built: Bundle, exact: Bundle) -> None:
    model = openvino.Core().read_model(exact.engine_path("unet"))
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "MatMul")]
    kept, quantized = layers_by_kind(model), openvino.Core().read_model(built.engine_path("unet"))
    names = [node.get_friendly_name() for node in layers]
    convolutions = [node.get_friendly_name() for node in layers if node.get_type_name() == "Convolution"]
    assert {convolutions[0], convolutions[-1]} < set(kept)
    assert len(kept) == 2 + 13 + 8, "first and last, time embeddings, shortcuts"
    damage = built.manifest.damage
    assert damage is not None
    assert set(kept) <= set(damage.float_layers) < set(names)
    assert set(quantized_layers(quantized)) == set(names) - set(damage.float_layers)


def test_a_layer_that_is_restored_is_exact_again(built: Bundle, exact: Bundle) -> None:
    core, inputs = openvino.Core(), unet_inputs()
    quantized, original = (core.read_model(bundle.engine_path("unet")) for bundle in (built, exact))

    def run(model: Any) -> np.ndarray:
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.array(compiled(inputs)["out_sample"])

    expected, layers = run(original), quantized_layers(quantized)
    errors = [relative_rms(run(restore(quantized, original, some)), expected) for some in ([], layers[::2], layers)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.4 * errors[0], "what remains are corrected biases"
    np.testing.assert_array_equal(run(original), expected, "the models are not changed")


def test_the_cached_part_continues_where_the_whole_was_cut(built: Bundle) -> None:
    model = openvino.Core().read_model(built.engine_path("unet"))
    cut = cut_cached(model)
    assert len(cut.get_ops()) < 0.5 * len(model.get_ops())
    whole, cached = (load_engine("openvino", built.engine_path(role)) for role in ("unet", "unet_cached"))
    inputs = unet_inputs()
    outputs = whole(inputs)
    again = cached(inputs | {"deep": outputs["deep"]})["out_sample"]
    assert relative_rms(np.asarray(again, np.float32), np.asarray(outputs["out_sample"], np.float32)) < 1e-5


def test_the_time_embedding_stays_in_fp32_where_the_rest_is_bf16(built: Bundle) -> None:
    """OpenVINO has another name for the mark that a conversion sets, and writes it after NNCF has copied the model."""
    for role in ("unet", "unet_cached"):
        layers = ElementTree.parse(built.engine_path(role)).iterfind("layers/layer")
        marked = [layer.get("type") for layer in layers if layer.find("rt_info/attribute") is not None]
        assert sorted(map(str, marked)) == ["Cos", "Multiply", "Sin"]


def test_a_second_build_quantizes_nothing(
    options: BuildOptions, built: Bundle, monkeypatch: pytest.MonkeyPatch, forbid: Callable[..., list[str]]
) -> None:
    monkeypatch.setattr(quantization, "reduce_bundle", None)
    forbid("vae_encoder", "vae_decoder")
    said: list[tuple[str, str]] = []
    assert build(options, lambda *words: said.append(words)).manifest == built.manifest
    assert said == [("bundle", "unchanged")]
    other = build(replace(options, vae_precision="fp16-weights")).manifest
    assert (other.damage, other.engines["unet"]) == (built.manifest.damage, built.manifest.engines["unet"])


def test_a_build_that_fails_or_is_stopped_leaves_the_old_bundle(
    options: BuildOptions, exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exact.path, tmp_path / "demo")
    failures: list[BaseException] = [AnonError("the UNet in int8", "its images differ", "build with fp32")]
    failures.append(KeyboardInterrupt())

    def fail(*_: object) -> None:
        raise failures.pop()

    monkeypatch.setattr(quantization, "reduce_bundle", fail)
    while failures:
        with pytest.raises(type(failures[-1])):
            build(replace(options, output=tmp_path))
    assert Bundle.open(tmp_path / "demo").manifest == exact.manifest
    assert {path.name for path in tmp_path.iterdir()} <= {"demo", ".demo.lock"}


def test_weights_alone_and_the_bounds(exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [Bundle.read(Path(shutil.copytree(exact.path, tmp_path / name))) for name in ("a", "b")]
    said: list[str] = []
    manifest = quantization.reduce_bundle(copies[0], "int8-weights", 1, 1, said.append)
    damage = manifest.damage
    assert damage is not None
    assert damage.psnr > 25
    assert damage.float_layers == ()
    assert manifest.engines["unet"].precision == "int8-weights"
    assert (tmp_path / "a" / "unet" / "openvino_model.bin").stat().st_size < 0.4 * 38e6
    assert said == ["image 1 of 1", "quantizing", "comparing", "image 1 of 1"]
    monkeypatch.setattr("anon_export.quantization.damage.MOST_RMS", 1e-9)
    with pytest.raises(AnonError, match="the UNet in int8-weights: its outputs differ by"):
        quantization.reduce_bundle(copies[1], "int8-weights", 1, 1, said.append)


@needs_bf16
def test_bf16_for_everything_and_for_what_int8_leaves(built: Bundle, exact: Bundle, tmp_path: Path) -> None:
    copy = Bundle.read(Path(shutil.copytree(exact.path, tmp_path / "bf16")))
    manifest = quantization.reduce_bundle(copy, "bf16", 1, 2, lambda _: None)
    assert {role for role, spec in manifest.engines.items() if spec.precision == "bf16"} == {"unet", "unet_cached"}
    (copy.path / "bundle.json").write_text(manifest.to_json())
    damage = Bundle.open(copy.path).manifest.damage
    assert damage is not None
    assert 1e-3 < max(error for _, error in damage.rms) < 0.05, "0.35 at the first steps if timesteps are rounded"
    assert damage.psnr > 25
    mixed = replace(built, manifest=with_precision(built.manifest, "int8-bf16"))
    ours, int8, fp32 = (
        np.asarray(Engines(bundle)["unet"](unet_inputs())["out_sample"], np.float32) for bundle in (mixed, built, exact)
    )
    assert (ours != int8).any()
    assert relative_rms(ours, fp32) < 1.2 * relative_rms(int8, fp32)


def test_nothing_is_sent_to_anybody(exact: Bundle, demo_bundle: Path, tmp_path: Path) -> None:
    """OpenVINO and NNCF make a file with a number of the user's before they send usage data."""
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from anon_runtime.bundle.bundle import Bundle; from anon_export.targets.openvino import convert;"
        "from anon_export.quantization.quantize import quantize;"
        "from anon_runtime.backends.openvino import import_openvino;"
        "spec = Bundle.read(Path(sys.argv[1])).spec('vae_decoder');"
        "model = import_openvino().Core().read_model(Path(sys.argv[1]) / spec.path);"
        "quantize(model, [], 'int8-weights', print);"
        "convert(replace(spec, path=sys.argv[2]), {}, None)"
    )
    graph = tmp_path / "model.onnx"
    shutil.copy(demo_bundle / "vae_decoder" / "model.onnx", graph)
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "NNCF_CI", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", program, str(exact.path), str(graph)]
    subprocess.run(command, check=True, env=environment | {"HOME": str(home)}, capture_output=True)
    assert (tmp_path / "openvino_model.xml").exists()
    assert list(home.rglob("*")) == []
