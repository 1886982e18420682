from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_export.build.verify import REFERENCE_IMAGE, check_engine, verify
from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS, write_reference_outputs
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import EngineSpec, TensorSpec
from anon_runtime.diffusion.brownian import NoiseSpec, draw_noise
from anon_runtime.errors import AnonError, BundleError
from anon_runtime.types import Array, Arrays, Engine, Floats
from tests.runtime.stand_ins import StandInEngines


def test_the_manifest_holds_what_was_measured(demo_bundle: Path) -> None:
    recorded = Bundle.open(demo_bundle).manifest.verification
    generator, faces = {"text_encoder", "unet", "vae_encoder", "vae_decoder"}, {"face_detector", "face_identity"}
    roles = generator | faces | {"face_attributes", "face_age", "face_race"}
    assert recorded is not None
    assert set(recorded.engines) == roles
    assert recorded.image_psnr >= 60
    again = verify(Engines(Bundle.open(demo_bundle)))
    assert again.image_psnr == pytest.approx(recorded.image_psnr, abs=6)
    for role, error in recorded.engines.items():
        assert 0 < error.mean <= error.p999 <= error.max, role
        assert error.relative <= 1e-4, role


@pytest.mark.parametrize("role", ["text_encoder", "unet", "vae_decoder", "face_detector", "face_attributes"])
@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_an_engine_that_is_off_is_noticed(demo_bundle: Path, role: str, factor: float) -> None:
    engines = StandInEngines(Bundle.open(demo_bundle))
    right = engines[role]

    def wrong(inputs: Mapping[str, Array]) -> Arrays:
        return {name: np.asarray(array, np.float32) * np.float32(factor) for name, array in right(inputs).items()}

    engines.replaced[role] = wrong
    with pytest.raises(AnonError, match=rf"the {role} engine.*differs from PyTorch"):
        verify(engines)


def test_a_loop_that_is_off_is_noticed(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another_seed(spec: NoiseSpec, seed: int, shape: tuple[int, ...], before: int) -> Floats:
        return draw_noise(spec, seed + 1, shape, before)

    monkeypatch.setattr("anon_runtime.diffusion.generator.draw_noise", another_seed)
    with pytest.raises(AnonError, match=r"an image of the bundle.*PSNR"):
        verify(Engines(Bundle.open(demo_bundle)))


def test_reference_outputs_that_are_missing_are_named(own_bundle: Path) -> None:
    engines = Engines(Bundle.open(own_bundle))
    (own_bundle / "unet" / REFERENCE_OUTPUTS).unlink()
    with pytest.raises(BundleError, match=r"unet/check\.npz: it cannot be read.*build it again"):
        verify(engines)


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_reference_image_that_is_missing_is_named(own_bundle: Path, content: bytes | None) -> None:
    engines = Engines(Bundle.open(own_bundle))
    (own_bundle / REFERENCE_IMAGE).unlink()
    if content is not None:
        (own_bundle / REFERENCE_IMAGE).write_bytes(content)
    with pytest.raises(BundleError, match=r"check\.png: it cannot be read.*build it again") as caught:
        verify(engines)
    assert "\n" not in str(caught.value)


def spec_of(precision: str) -> EngineSpec:
    tensors = TensorSpec("x", "float32", (3,)), TensorSpec("y", "float32", (3,))
    return EngineSpec("model.onnx", "unet", precision, tensors[:1], tensors[1:])


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16-weights", 5e-3), ("fp16", 2e-2)])
def test_each_precision_has_its_bound(tmp_path: Path, precision: str, bound: float) -> None:
    values = np.array([0.5, -1, 0.25], np.float32)
    write_reference_outputs(tmp_path / REFERENCE_OUTPUTS, {"x": values}, {"y": values})

    def engine(error: float) -> Engine:
        outputs: Arrays = {"y": values + np.array([0, 0, error], np.float32)}
        return lambda _: outputs

    check_engine(engine(0.9 * bound), spec_of(precision), tmp_path / "model.onnx", "unet")
    with pytest.raises(AnonError, match="the unet engine: it differs from PyTorch"):
        check_engine(engine(1.1 * bound), spec_of(precision), tmp_path / "model.onnx", "unet")


@pytest.mark.parametrize("answers", [{}, {"z": np.ones(3, np.float32)}, {"y": np.ones(4, np.float32)}])
def test_answers_of_another_engine_are_no_answers(tmp_path: Path, answers: dict[str, Any]) -> None:
    write_reference_outputs(tmp_path / REFERENCE_OUTPUTS, {"x": np.ones(3, np.float32)}, answers)
    with pytest.raises(BundleError, match=r"check\.npz: PyTorch's answers do not fit the unet engine"):
        check_engine(lambda inputs: {"y": inputs["x"]}, spec_of("fp32"), tmp_path / "model.onnx", "unet")


def test_a_precision_that_nobody_knows_is_no_pass(tmp_path: Path) -> None:
    write_reference_outputs(tmp_path / REFERENCE_OUTPUTS, {"x": np.ones(3, np.float32)}, {"y": np.ones(3, np.float32)})
    with pytest.raises(BundleError, match="its precision is 'int4'"):
        check_engine(lambda inputs: {"y": inputs["x"]}, spec_of("int4"), tmp_path / "model.onnx", "unet")
