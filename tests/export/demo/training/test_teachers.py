"""The reader of TensorFlow.js's weights and the teachers' networks, on made-up weights of the published shapes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anon_export.demo.training.teachers import FEATURES, KNOWN, Teachers, load_teachers, pad
from anon_runtime.errors import UsageError

Shapes = dict[str, tuple[int, ...]]


def separable(name: str, before: int, after: int) -> Shapes:
    return {
        f"{name}/depthwise_filter": (3, 3, before, 1),
        f"{name}/pointwise_filter": (1, 1, before, after),
        f"{name}/bias": (after,),
    }


def convolution(name: str, before: int, after: int, side: int) -> Shapes:
    return {f"{name}/filters": (side, side, before, after), f"{name}/bias": (after,)}


def reduction(name: str, before: int, after: int) -> Shapes:
    return (
        separable(f"{name}/separable_conv0", before, after)
        | separable(f"{name}/separable_conv1", after, after)
        | convolution(f"{name}/expansion_conv", before, after, 1)
    )


def gender() -> Shapes:
    shapes = convolution("entry_flow/conv_in", 3, 32, 3)
    shapes |= reduction("entry_flow/reduction_block_0", 32, 64) | reduction("entry_flow/reduction_block_1", 64, 128)
    for block in range(2):
        for i in range(3):
            shapes |= separable(f"middle_flow/main_block_{block}/separable_conv{i}", 128, 128)
    shapes |= reduction("exit_flow/reduction_block", 128, 256) | separable("exit_flow/separable_conv", 256, 512)
    return shapes | {"fc/gender/weights": (512, 2), "fc/gender/bias": (2,)}


def expression() -> Shapes:
    shapes: Shapes = {}
    before = 3
    for block, width in enumerate((32, 64, 128, 256)):
        name = f"dense{block}/conv0"
        shapes |= separable(name, before, width) if block else convolution(name, before, width, 3)
        for i in (1, 2, 3):
            shapes |= separable(f"dense{block}/conv{i}", width, width)
        before = width
    return shapes | {"fc/weights": (256, 7), "fc/bias": (7,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both networks as the package stores them: filters in a byte a weight, biases in floats."""
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    for name, shapes in (("age_gender_model", gender()), ("face_expression_model", expression())):
        entries, data = [], b""
        for weight, shape in shapes.items():
            entry: dict[str, Any] = {"name": weight, "shape": shape, "dtype": "float32"}
            if weight.endswith("bias"):
                data += rng.normal(0, 0.1, shape).astype(np.float32).tobytes()
            else:
                entry["quantization"] = {"dtype": "uint8", "scale": 0.002, "min": -0.25}
                data += rng.integers(0, 256, shape, dtype=np.uint8).tobytes()
            entries.append(entry)
        manifest = [{"weights": entries, "paths": [f"{name}.bin"]}]
        (folder / f"{name}-weights_manifest.json").write_text(json.dumps(manifest))
        (folder / f"{name}.bin").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def teachers(folder: Path) -> Teachers:
    return load_teachers(folder)


def test_weights_are_scaled_and_turned(folder: Path, teachers: Teachers) -> None:
    first = teachers.gender["entry_flow/conv_in/filters"]
    stored = np.frombuffer((folder / "age_gender_model.bin").read_bytes(), np.uint8, 3 * 3 * 3 * 32)
    expected = stored.reshape(3, 3, 3, 32).astype(np.float32) * 0.002 - 0.25  # height, width, in, out
    np.testing.assert_allclose(first[5, 2], expected[:, :, 2, 5], rtol=1e-6)
    assert teachers.gender["exit_flow/separable_conv/depthwise_filter"].shape == (256, 1, 3, 3)


def test_the_odd_pixel_is_padded_at_the_end() -> None:
    """TensorFlow's documentation: pad_top = total // 2; a stride of 2 on an even side needs one pixel in all."""
    row = torch.ones(1, 1, 4, 4)
    assert pad(row, 3, 2)[0, 0, 0].tolist() == [1, 1, 1, 1, 0]
    assert pad(row, 3, 1)[0, 0, 1].tolist() == [0, 1, 1, 1, 1, 0]
    assert pad(row, 1, 2).shape == row.shape


def test_teachers_score_what_they_know(teachers: Teachers) -> None:
    crops = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    scores, features = teachers(crops)
    assert scores.shape == (3, len(KNOWN))
    assert features.shape == (3, FEATURES)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert features.isfinite().all()


def test_teachers_look_at_the_face_only(teachers: Teachers) -> None:
    crops = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    around = crops.clone()
    around[..., :70, :] = 0
    torch.testing.assert_close(teachers(around)[1], teachers(crops)[1], rtol=0, atol=0)


def test_missing_teachers_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="@vladmandic/face-api"):
        load_teachers(tmp_path)
