import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from filelock import FileLock
from PIL import Image

from anon_export import disk
from anon_export.build import plan as build_plan
from anon_export.build import reference, verify
from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.build.verify import REFERENCE_IMAGE, REQUEST, SETTINGS
from anon_export.comparison import psnr
from anon_export.demo.generator import DEMO, Architecture, write_generator
from anon_export.graphs import stable_diffusion as graphs
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import AnonError, OutputError, UsageError
from tests.conftest import pixels


def test_manifest_tells_the_truth_about_the_engines(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    for role in bundle.manifest.engines:
        session = onnxruntime.InferenceSession(bundle.engine_path(role), providers=["CPUExecutionProvider"])
        spec = bundle.spec(role)
        for recorded, real in ((spec.inputs, session.get_inputs()), (spec.outputs, session.get_outputs())):
            assert [t.name for t in recorded] == [t.name for t in real]
            assert [list(t.shape) for t in recorded] == [t.shape for t in real]
            names = {"float32": "tensor(float)", "int64": "tensor(int64)"}
            assert [names[t.dtype] for t in recorded] == [t.type for t in real]
        assert spec.precision == "fp32"
        assert len(spec.key) == 64


def test_manifest_names_source_and_tools(demo_bundle: Path) -> None:
    manifest = Bundle.open(demo_bundle).manifest
    assert manifest.source.model == "demo"
    assert {path.split("/")[0] for path in manifest.source.files} == {"text_encoder", "unet", "vae"}
    assert set(manifest.tools) >= {"torch", "diffusers", "onnx", "onnxruntime"}
    assert manifest.tables.timestep_spacing == "leading"
    defaults = manifest.defaults
    assert (defaults.sampler, defaults.steps, defaults.guidance_scale) == ("dpmpp_sde", 15, 7.5)


def test_nothing_of_the_build_machine_is_in_the_bundle(demo_bundle: Path) -> None:
    home = str(Path(__file__).parents[3]).encode()
    for path in demo_bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert home not in content, path
            assert b"site-packages" not in content, path


@pytest.mark.packages
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # diffusers, for optimum
@pytest.mark.filterwarnings("ignore:Accessing config attribute:FutureWarning")  # optimum
def test_optimum_generates_the_same_image(demo_bundle: Path) -> None:
    """Other tools can use the engines: Optimum's own pipeline opens the folder and follows diffusers as we do."""
    from optimum import onnxruntime as optimum

    from anon_export.build.reference import Diffusers, to_pixels

    pipeline = optimum.ORTStableDiffusionPipeline.from_pretrained(demo_bundle)
    generated = to_pixels(Diffusers(pipeline, "leading").generate([REQUEST], SETTINGS))[0]
    with Image.open(demo_bundle / REFERENCE_IMAGE) as image:
        assert psnr(generated, np.asarray(image.convert("RGB"))) >= 60


def test_a_second_build_builds_nothing(cached: BuildOptions, forbid: Callable[..., list[str]]) -> None:
    forbid()
    said: list[tuple[str, str]] = []
    before = (cached.folder / MANIFEST).stat().st_mtime_ns
    bundle = build(cached, lambda *words: said.append(words))
    assert said == [("bundle", "unchanged")]
    assert (bundle.path / MANIFEST).stat().st_mtime_ns == before


def test_only_what_changed_is_built(cached: BuildOptions, forbid: Callable[..., list[str]], demo_bundle: Path) -> None:
    happened = forbid("vae_encoder", "vae_decoder")
    old = Bundle.open(cached.folder).manifest
    states: dict[str, str] = {}
    bundle = build(replace(cached, vae_precision="fp16"), lambda name, state: states.setdefault(name, state))
    assert happened == ["vae_encoder", "vae_decoder"]
    assert {name for name, state in states.items() if state == "unchanged"} == {
        "text_encoder",
        "unet",
        "faces/detector",
        "faces/attributes",
        "faces/demography",
        "faces/identity",
    }
    fresh = Bundle.open(bundle.path).manifest
    assert fresh.engines["unet"] == old.engines["unet"]
    assert fresh.engines["vae_decoder"].precision == "fp16"
    assert fresh.engines["vae_decoder"].key != old.engines["vae_decoder"].key
    assert fresh.verification is not None
    assert fresh.verification.image_psnr >= 40
    assert list(cached.output.iterdir()) == [cached.folder]


def test_a_damaged_component_is_built_again_alone(cached: BuildOptions, forbid: Callable[..., list[str]]) -> None:
    happened = forbid("vae_decoder")
    path = cached.folder / "vae_decoder" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    build(cached)
    assert happened == ["vae_decoder"]
    Bundle.open(cached.folder)


def test_an_edit_of_other_code_verifies_the_engines_again_and_makes_none(
    cached: BuildOptions, forbid: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid()
    monkeypatch.setattr(build_plan, "bundle_code", lambda: "other code")
    monkeypatch.setattr(reference, "write_image", None)  # not generated again, either
    old, said = Bundle.open(cached.folder).manifest, set[str]()
    fresh = build(cached, lambda name, _state: said.add(name)).manifest
    assert "verification" in said
    assert fresh.engines == old.engines
    assert fresh.key != old.key
    assert Bundle.open(cached.folder).manifest == fresh


def test_another_check_of_the_image_generates_it_again_alone(
    cached: BuildOptions, forbid: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid()
    before = pixels(cached.folder / REFERENCE_IMAGE)
    asked = replace(REQUEST, prompt="closeup portrait photo of a black 60 man, Bald , ", seed=8)
    monkeypatch.setattr(build_plan, "bundle_code", lambda: "other code")
    for module in (verify, reference, build_plan):
        monkeypatch.setattr(module, "REQUEST", asked)
    bundle = build(cached)
    assert bundle.manifest.verification is not None
    assert bundle.manifest.verification.image_psnr >= 60
    assert psnr(pixels(cached.folder / REFERENCE_IMAGE), before) < 40


def test_a_failed_build_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "demo"
    old.mkdir()
    (old / MANIFEST).write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise AnonError("tables", "planned", "none")

    monkeypatch.setattr(graphs, "export_text_encoder", fail)
    with pytest.raises(AnonError, match="planned"):
        build(BuildOptions("demo", "demo", tmp_path, "none"))
    assert (old / MANIFEST).read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_module: object, path: Path, *_: object, **__: object) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half a graph")
        # The exporter wraps what goes wrong inside it.
        raise error if isinstance(error, KeyboardInterrupt) else RuntimeError("export failed") from error

    monkeypatch.setattr(graphs, "export_text_encoder", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        build(BuildOptions("demo", "demo", tmp_path, "none"))
    if isinstance(caught.value, OutputError):
        assert "No space left" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbid: Callable[..., list[str]]
) -> None:
    forbid()
    monkeypatch.setattr(disk, "free_space", lambda _: 1000)
    with pytest.raises(OutputError, match=r"needs .* MB, and 0.0 MB are free"):
        build(BuildOptions("demo", "demo", tmp_path / "out", "none"))
    assert not (tmp_path / "out").exists()


def test_the_second_of_two_builds_waits(cached: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    real, held = FileLock.acquire, []

    def acquire(self: FileLock, timeout: float | None = None) -> object:
        if timeout == 0:
            held.append(FileLock(self.lock_file, is_singleton=False))
            real(held[0])
        elif held:
            held[0].release()  # the first build ends
        return real(self, timeout=timeout)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    build(cached, lambda *words: said.append(words))
    assert said == [("bundle", "waiting for another build of it"), ("bundle", "unchanged")]


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="`output`"):
        build(BuildOptions("demo", "demo", tmp_path / "file", "none"))


def test_model_index_is_kept(demo_bundle: Path) -> None:
    assert json.loads((demo_bundle / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"


def test_half_precision(tmp_path: Path) -> None:
    """Text encoder and UNet in fp16, the VAE in fp32: rounded, within the bounds, and fp32 at the engines' borders."""
    write_generator(tmp_path / "model", Architecture(64, 64, (32, 64), (16, 32, 32), 32))
    bundle = build(BuildOptions(str(tmp_path / "model"), "half", tmp_path, "none", precision="fp16"))
    engines, measured = bundle.manifest.engines, bundle.manifest.verification
    assert {role: spec.precision for role, spec in engines.items()} == {
        "text_encoder": "fp16",
        "unet": "fp16",
        "vae_encoder": "fp32",
        "vae_decoder": "fp32",
    }
    assert {t.dtype for spec in engines.values() for t in (*spec.inputs, *spec.outputs)} == {"float32", "int64"}
    assert measured is not None
    assert 40 <= measured.image_psnr < 90
    assert 1e-5 < measured.engines["unet"].relative < 2e-2
    assert measured.engines["vae_decoder"].relative < 1e-4


def test_weights_in_half_precision(tmp_path: Path) -> None:
    """Rounded weights have bounds of their own, which are a quarter of those of arithmetic in half precision."""
    write_generator(tmp_path / "model", Architecture(64, 64, (32, 64), (16, 32, 32), 32))
    bundle = build(BuildOptions(str(tmp_path / "model"), "half", tmp_path, "none", precision="fp16-weights"))
    engines, measured = bundle.manifest.engines, bundle.manifest.verification
    assert {role: spec.precision for role, spec in engines.items()} == {
        "text_encoder": "fp16-weights",
        "unet": "fp16-weights",
        "vae_encoder": "fp32",
        "vae_decoder": "fp32",
    }
    assert Bundle.open(bundle.path).manifest.engines == engines
    assert measured is not None
    assert measured.image_psnr >= 48
    assert 1e-5 < measured.engines["unet"].relative < 5e-3
    assert measured.engines["vae_decoder"].relative < 1e-4


def test_a_place_that_is_taken_is_refused_before_any_work(tmp_path: Path, forbid: Callable[..., list[str]]) -> None:
    """A model's own folder, for example, if it lies in the output folder under the bundle's name."""
    forbid()
    write_generator(tmp_path / "model", DEMO)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="no bundle is there, and would be lost; choose another `name`"):
        build(BuildOptions(str(tmp_path / "model"), "model", tmp_path, "none"))
    assert sorted(tmp_path.rglob("*")) == before
