import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime.backends.base import load_engine
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
