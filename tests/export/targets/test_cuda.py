"""The demo for onnxruntime's CUDA provider: built, and generating an image, on a machine without a GPU."""

import ctypes
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.buffers import Buffer, Launch
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.onnxruntime import OrtMemory
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.diffusion.device_loop import COLUMNS, ROLES
from anon_runtime.diffusion.generator import Generator
from anon_runtime.errors import AnonError, BackendError, GenerationError, UsageError

REQUESTS = [Request("a woman, smiling", "hat", 3), Request("a bald man", "", 4)]
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
    half, single = ("text_encoder", "unet", "unet_cached"), ("vae_encoder", "vae_decoder", *ROLES)
    assert precisions == dict.fromkeys(half, "fp16") | dict.fromkeys(single, "fp32")
    assert not runs_here(manifest.gpu)


def test_it_runs_on_no_processor(bundle: Bundle) -> None:
    with Engines(bundle, device="cpu") as engines, pytest.raises(BackendError, match="engines for cuda run on: cuda"):
        engines.require("unet")
    with Engines(bundle) as engines, pytest.raises(BackendError, match="use a bundle for processors"):
        _ = engines["unet"]


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> dict[str, Any]:
    """The engines on the processor: weights are rounded to half precision, but what is computed in between is not."""
    return {role: cuda.load_on_processor(bundle.engine_path(role)) for role in bundle.manifest.engines}


@pytest.fixture
def generator(bundle: Bundle, engines: dict[str, Any]) -> Iterator[Generator]:
    with Engines(bundle, replaced=dict(engines)) as replaced:
        yield Anonymizer.of(replaced, Settings(guard="off", steps=4)).generator


def test_an_image_is_that_of_diffusers(bundle: Bundle, engines: dict[str, Any]) -> None:
    with Engines(bundle, replaced=engines) as replaced:
        ours = Anonymizer.of(replaced, SETTINGS).generator.generate([REQUEST])[0].image
    with Image.open(bundle.path / REFERENCE_IMAGE) as image:
        assert psnr(np.asarray(ours), np.asarray(image.convert("RGB"))) > 40


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
@pytest.mark.parametrize("level", range(len(FAST_LEVELS)))
def test_the_loop_on_the_device_gives_the_images_of_the_loop_on_the_processor(
    bundle: Bundle, engines: dict[str, Any], level: int, guidance_scale: float
) -> None:
    settings = Settings(guard="off", steps=4, acceleration=FAST_LEVELS[level], guidance_scale=guidance_scale)
    with Engines(bundle, replaced=engines) as replaced:
        on_device = Anonymizer.of(replaced, settings).generator
        on_host = Generator(
            replaced, bundle.manifest.generator, on_device.tokenizer, lambda *_: on_device.schedule, on_device.options
        )
        for requests in (REQUESTS, REQUESTS[:1], REQUESTS):
            ours, theirs = on_device.generate(requests), on_host.generate(requests)
            for a, b in zip(ours, theirs, strict=True):
                difference = np.asarray(a.image).astype(int) - np.asarray(b.image)
                assert np.abs(difference).max() <= 1


def test_latents_go_in_once_and_images_come_out_once(
    generator: Generator, engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number and the bytes of the copies of a batch; the table is copied for the first one only."""
    copies: list[tuple[str, int]] = []
    for name in ("write", "read"):
        real = getattr(OrtMemory, name)

        def counted(memory: OrtMemory, buffer: Buffer, *array: Any, name: str = name, real: Any = real) -> Any:
            copies.append((name, int(np.prod(buffer.shape)) * buffer.dtype.itemsize))
            return real(memory, buffer, *array)

        monkeypatch.setattr(OrtMemory, name, counted)
    copied: list[object] = []
    monkeypatch.setattr(type(engines["unet"]), "__call__", lambda _, inputs: copied.append(inputs))
    generator.generate(REQUESTS)
    first = copies.copy()
    copies.clear()
    generator.generate(REQUESTS)
    latents, evaluations = 2 * 4 * 24 * 24 * 4, generator.schedule.evaluations
    tokens, noise, table = 4 * 77 * 8, latents * evaluations, 4 * len(COLUMNS) * (evaluations + 1)
    images, checks = 2 * 96 * 96 * 3, 2 * 8
    assert copies == [
        *[("write", size) for size in (tokens, latents, noise)],
        *[("read", size) for size in (images, checks)],
    ]
    assert sorted(first) == sorted([*copies, ("write", table)])
    assert not copied, "no engine is called with arrays of the processor"


class Breaking:
    """An engine whose output becomes NaN or infinite in one of its launches."""

    def __init__(self, engine: Any, output: str, at: int, value: float) -> None:
        self.engine, self.output, self.at, self.value = engine, output, at, value
        self.memory, self.outputs = engine.memory, engine.outputs
        self.calls = 0

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Launch:
        launch, broken = self.engine.bind(inputs, outputs), outputs[self.output]

        def run() -> None:
            launch()
            self.calls += 1
            if self.calls == self.at:
                ctypes.memmove(broken.address, np.array(self.value, np.float32).tobytes(), 4)

        return run


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("role", "output", "at", "message"),
    [
        ("unet", "out_sample", 1, "unet engine at evaluation 1 of 7"),
        ("unet", "out_sample", 5, "unet engine at evaluation 5 of 7"),
        ("unet", "out_sample", 7, "unet engine at evaluation 7 of 7"),
        ("vae_decoder", "sample", 1, "vae_decoder engine at the end"),
    ],
)
def test_an_engine_that_breaks_on_the_device_gives_no_image(
    bundle: Bundle, engines: dict[str, Any], role: str, output: str, at: int, message: str, value: float
) -> None:
    broken = Breaking(engines[role], output, at, value)
    with Engines(bundle, replaced=engines | {role: broken}) as replaced:
        generator = Anonymizer.of(replaced, Settings(guard="off", steps=4)).generator
        with pytest.raises(GenerationError, match=message):
            generator.generate(REQUESTS[:1])
        generator.generate(REQUESTS[:1])  # the engine works again, and so does the loop


def test_states_are_read_before_the_loop_goes_on(generator: Generator) -> None:
    states = generator.denoise(REQUESTS)
    first = next(states)
    assert first.latents.shape == first.denoised.shape == (2, 4, 24, 24)
    assert np.abs(first.latents - first.denoised).max() > 0.1
    second = next(states)
    with pytest.raises(UsageError, match="the loop has gone on"):
        _ = first.latents
    assert second.evaluation == 2
    *_, last = states
    with pytest.raises(UsageError, match="the loop has gone on"):
        _ = last.latents


def test_engines_that_were_closed_are_not_used_again(bundle: Bundle, engines: dict[str, Any]) -> None:
    with Engines(bundle, replaced=engines) as replaced:
        generator = Anonymizer.of(replaced, Settings(guard="off", steps=1)).generator
        generator.generate(REQUESTS[:1])
    with pytest.raises(BackendError, match="the engines were closed"):
        generator.generate(REQUESTS[:1])


def test_loops_that_run_at_the_same_time_do_not_mix(generator: Generator) -> None:
    expected = [[state.latents for state in generator.denoise([request])] for request in REQUESTS]
    loops = zip(*(generator.denoise([request]) for request in REQUESTS), strict=True)
    for k, states in enumerate(loops):
        for one, state in enumerate(states):
            np.testing.assert_array_equal(state.latents, expected[one][k])


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
