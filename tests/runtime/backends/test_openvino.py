import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime.backends.base import load_engine
from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.errors import BackendError


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"openvino is not installed; install `anon-engines\[openvino\]`"):
        load_engine("openvino", tmp_path / "model.xml")


@pytest.mark.packages
def test_an_engine_of_openvino(demo_bundle: Path) -> None:
    """OpenVINO also reads ONNX files, so both libraries run the same network here."""
    pytest.importorskip("openvino")
    path = demo_bundle / "vae_decoder" / "model.onnx"
    engine: Any = load_engine("openvino", path, threads=1)
    other: Any = load_engine("onnxruntime", path, threads=1)
    inputs = {"latent_sample": np.random.default_rng(0).standard_normal((1, 4, 24, 24)).astype(np.float32)}
    first = engine(inputs)["sample"]
    np.testing.assert_allclose(first, other(inputs)["sample"], atol=1e-3)
    kept = first.copy()
    engine({"latent_sample": np.zeros((1, 4, 24, 24), np.float32)})
    np.testing.assert_array_equal(first, kept, "the next run does not overwrite it")
    with pytest.raises(BackendError, match=r"openvino refused latent_sample float32\[1, 3, 24, 24\]"):
        engine({"latent_sample": np.zeros((1, 3, 24, 24), np.float32)})


@pytest.mark.packages
def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.xml").write_bytes(b"no model")
    with pytest.raises(BackendError, match="openvino cannot load it"):
        load_engine("openvino", tmp_path / "model.xml")


def linear(path: Path, factor: float, batch: int = 1) -> Path:
    """An OpenVINO model: ``x`` (batch, 3) times a factor, plus a scalar ``shift``."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as opset

    x = opset.parameter([batch, 3], np.float32, "x")
    shift = opset.parameter([], np.float32, "shift")
    weights = opset.constant(np.full((3, 3), factor, np.float32))
    result = opset.result(opset.add(opset.matmul(x, weights, False, False), shift))
    for node, name in ((x, "x"), (shift, "shift"), (result, "y")):
        node.output(0).set_names({name})
    openvino.save_model(openvino.Model([result], [x, shift], "linear"), path, compress_to_fp16=False)
    return path


@pytest.mark.packages
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int8-bf16", "int8-weights"])
def test_bf16_is_used_where_the_precision_says_so_and_the_processor_has_it(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = linear(tmp_path / "model.xml", 1 / 3), np.full((1, 3), 1 / 7, np.float32)
    for possible in {multiplies_bf16(), False}:
        monkeypatch.setattr("anon_runtime.backends.openvino.multiplies_bf16", lambda possible=possible: possible)
        engine: Any = load_engine("openvino", path, precision=precision)
        error = np.abs(7 * engine({"x": x, "shift": np.float32(0)})["y"] - 1).max()
        if not (possible and precision.endswith("bf16")):
            assert error < 1e-6
        else:
            assert error > 1e-4


@pytest.mark.packages
def test_an_engine_for_one_sample_takes_those_of_a_batch_in_turn(tmp_path: Path) -> None:
    engine: Any = load_engine("openvino", linear(tmp_path / "model.xml", 2.0))
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    together = engine({"x": x, "shift": np.float32(1)})["y"]
    np.testing.assert_allclose(together, np.repeat(2 * x.sum(axis=1, keepdims=True) + 1, 3, axis=1))
    for k in range(4):
        np.testing.assert_array_equal(engine({"x": x[k : k + 1], "shift": np.float32(1)})["y"], together[k : k + 1])
    two: Any = load_engine("openvino", linear(tmp_path / "two.xml", 2.0, batch=2))
    with pytest.raises(BackendError, match="openvino refused x"):
        two({"x": x, "shift": np.float32(1)})


@pytest.mark.packages
def test_what_was_compiled_is_kept_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inputs = {"x": np.ones((1, 3), np.float32), "shift": np.float32(0)}

    def run(factor: float, key: str) -> tuple[float, bool]:
        path = tmp_path / key / "model.xml"
        path.parent.mkdir(exist_ok=True)
        # OpenVINO's key has the time of the file, in whole seconds.
        engine: Any = load_engine("openvino", path if path.exists() else linear(path, factor), key=key)
        return float(engine(inputs)["y"][0, 0]), engine.from_cache

    assert run(2.0, "") == (6.0, False)
    assert not (tmp_path / "cache").exists(), "an engine without a key is not cached"
    assert run(2.0, "first") == (6.0, False)
    assert run(2.0, "first") == (6.0, True)
    assert run(3.0, "second") == (9.0, False), "an engine with other weights has another key"
    assert run(2.0, "first") == (6.0, True)


@pytest.mark.packages
@pytest.mark.parametrize("damage", [b"", b"no engine", None])
def test_a_cache_that_is_damaged_or_of_another_version_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inputs = {"x": np.ones((1, 3), np.float32), "shift": np.float32(0)}
    model = linear(tmp_path / "model.xml", 2.0)
    load_engine("openvino", model, key="k")
    blobs = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert blobs
    for blob in blobs:
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2] if damage is None else damage)
    engine: Any = load_engine("openvino", model, key="k")
    assert not engine.from_cache
    assert engine(inputs)["y"][0, 0] == 6.0
    monkeypatch.setattr(openvino, "__version__", "another")
    other: Any = load_engine("openvino", model, key="k")
    assert not other.from_cache


@pytest.mark.packages
def test_a_cache_folder_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine: Any = load_engine("openvino", linear(tmp_path / "model.xml", 2.0), key="k")
    assert engine({"x": np.ones((1, 3), np.float32), "shift": np.float32(0)})["y"][0, 0] == 6.0
