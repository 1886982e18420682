"""Teachers: networks that were trained on real photographs to recognise sex and expression.

The demo's photos are synthetic, and one person labelled them. The teachers' scores of these photos help the demo's
networks to generalise to real photographs. The teachers come from the npm package ``@vladmandic/face-api`` 1.7.15 (MIT
licence), which stores them for TensorFlow.js: a small Xception for age and gender, and four dense blocks for
expression.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from anon_runtime.errors import UsageError

MEAN = (122.782, 117.001, 104.298)
SIDE = 112
WINDOW = (
    slice(77, 175),
    slice(63, 161),
)  # rows and columns of FaRL's crop that the teachers' alignment cuts out
KNOWN = ("Male", "Smiling")
FEATURES = 768
HAPPY = 1  # among the expressions: neutral, happy, sad, angry, fearful, disgusted, surprised
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Teachers:
    """Weights of both networks by their names, ready for `torch.nn.functional`."""

    gender: Weights
    expression: Weights

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score FaRL's crops, uint8 (n, 3, 224, 224), RGB.

        Returns:
            Scores of the attributes `KNOWN` (n, 2), and the features that the scores are computed from (n, 768).
        """
        window = crops[..., WINDOW[0], WINDOW[1]].float()
        faces = functional.interpolate(window, (SIDE, SIDE), mode="bilinear", antialias=True)
        faces = (faces - torch.tensor(MEAN).view(3, 1, 1)) / 255
        sex, mood = _sex_features(self.gender, faces), _mood_features(self.expression, faces)
        male = torch.softmax(sex @ self.gender["fc/gender/weights"] + self.gender["fc/gender/bias"], dim=1)[:, 0]
        moods = torch.softmax(mood @ self.expression["fc/weights"] + self.expression["fc/bias"], dim=1)
        return torch.stack([male, moods[:, HAPPY]], dim=1), torch.cat([sex, mood], dim=1)


def load_teachers(folder: Path) -> Teachers:
    """Read both networks from the package's folder ``model``.

    Raises:
        UsageError: a file is missing.
    """
    try:
        return Teachers(_read(folder / "age_gender_model"), _read(folder / "face_expression_model"))
    except OSError as error:
        fix = "run `npm pack @vladmandic/face-api@1.7.15`, unpack it and give its folder package/model"
        raise UsageError(f"teachers {folder}", error.strerror or str(error), fix) from None


def _read(path: Path) -> Weights:
    """Weights of one network. TensorFlow's filters (h, w, in, out) are transposed to PyTorch's (out, in, h, w)."""
    manifest = json.loads(path.with_name(f"{path.name}-weights_manifest.json").read_text())
    data, start, weights = path.with_name(f"{path.name}.bin").read_bytes(), 0, {}
    for entry in manifest[0]["weights"]:
        coding = entry.get("quantization")
        kind, count = np.dtype(coding["dtype"] if coding else "float32"), int(np.prod(entry["shape"]))
        values = np.frombuffer(data, kind, count, start).reshape(entry["shape"]).astype(np.float32)
        start += count * kind.itemsize
        tensor = torch.from_numpy(values * coding["scale"] + coding["min"] if coding else values).float()
        if tensor.ndim == 4:  # depthwise filters are (h, w, in, 1)
            tensor = tensor.permute((2, 3, 0, 1) if entry["name"].endswith("depthwise_filter") else (3, 2, 0, 1))
        weights[entry["name"]] = tensor.contiguous()
    return weights


def pad(x: Tensor, kernel: int, stride: int, value: float = 0) -> Tensor:
    """Images (n, c, h, w) with TensorFlow's padding "same": an odd pixel goes to the right or bottom."""
    missing = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
    before, after = missing // 2, missing - missing // 2
    return functional.pad(x, (before, after, before, after), value=value)


def _convolution(x: Tensor, weights: Weights, name: str, stride: int = 1) -> Tensor:
    filters = weights[f"{name}/filters"]
    return functional.conv2d(pad(x, filters.shape[-1], stride), filters, weights[f"{name}/bias"], stride)


def _separable(x: Tensor, weights: Weights, name: str, stride: int = 1) -> Tensor:
    depth, point = weights[f"{name}/depthwise_filter"], weights[f"{name}/pointwise_filter"]
    each = functional.conv2d(pad(x, depth.shape[-1], stride), depth, None, stride, groups=len(depth))
    return functional.conv2d(each, point, weights[f"{name}/bias"])


def _sex_features(weights: Weights, faces: Tensor) -> Tensor:
    """(n, 512)."""
    x = torch.relu(_convolution(faces, weights, "entry_flow/conv_in", 2))
    x = _reduction(x, weights, "entry_flow/reduction_block_0", active=False)
    x = _reduction(x, weights, "entry_flow/reduction_block_1")
    for block in ("middle_flow/main_block_0", "middle_flow/main_block_1"):
        y = x
        for i in range(3):
            y = _separable(torch.relu(y), weights, f"{block}/separable_conv{i}")
        x = x + y
    x = _reduction(x, weights, "exit_flow/reduction_block")
    x = torch.relu(_separable(x, weights, "exit_flow/separable_conv"))
    return functional.avg_pool2d(x, 7, 2).flatten(1)


def _reduction(x: Tensor, weights: Weights, name: str, *, active: bool = True) -> Tensor:
    y = _separable(torch.relu(x) if active else x, weights, f"{name}/separable_conv0")
    y = _separable(torch.relu(y), weights, f"{name}/separable_conv1")
    y = functional.max_pool2d(pad(y, 3, 2, value=-torch.inf), 3, 2)
    return y + _convolution(x, weights, f"{name}/expansion_conv", 2)


def _mood_features(weights: Weights, faces: Tensor) -> Tensor:
    """(n, 256)."""
    x = faces
    for block in ("dense0", "dense1", "dense2", "dense3"):
        first = _convolution if block == "dense0" else _separable
        x = torch.relu(first(x, weights, f"{block}/conv0", 2))
        for i in (1, 2, 3):
            x = x + _separable(torch.relu(x), weights, f"{block}/conv{i}")
        x = torch.relu(x)
    return functional.avg_pool2d(x, 7, 2).flatten(1)
