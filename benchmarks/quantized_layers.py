"""Time and error of one layer in int8 on onnxruntime and OpenVINO, beside its time in fp32.

    python -m benchmarks.quantized_layers

The layers have the sizes of Stable Diffusion 1.5's UNet for a guidance batch: a convolution of a residual block, and a
linear layer of a transformer block. Inputs and weights are normally distributed. The forms of a layer take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anon_runtime.backends.base import load_engine
from anon_runtime.types import Engine

from .command_line import one_line_errors

with one_line_errors(__name__, extras="export,openvino,int8,cpu"):
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime import quantization
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    from anon_export.comparison import relative_rms
    from anon_export.graphs.winograd import use_winograd
    from anon_export.quantization.quantize import import_nncf
    from anon_runtime.backends.openvino import import_openvino

Floats = NDArray[np.float32]
CONVOLUTION, LINEAR = "convolution 640 -> 640, 32 x 32", "linear 640 -> 5120, 1024 tokens"
SHAPES = {CONVOLUTION: ((2, 640, 32, 32), (640, 640, 3, 3)), LINEAR: ((2, 1024, 640), (640, 5120))}
FP32 = "onnxruntime, fp32"


def write_layer(name: str, path: Path) -> onnx.ModelProto:
    """Write one layer with random weights as a graph of ``x`` -> ``y``, and return it."""
    shape, weights = SHAPES[name]
    fan_in = weights[0] if len(weights) == 2 else weights[1] * 9
    values = np.random.default_rng(1).standard_normal(weights).astype(np.float32) / np.float32(fan_in**0.5)
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if name == CONVOLUTION else {}
    node = helper.make_node("Conv" if name == CONVOLUTION else "MatMul", ["x", "w"], ["y"], **attributes)
    result = shape if name == CONVOLUTION else (*shape[:2], weights[1])
    ports = [helper.make_tensor_value_info(p, onnx.TensorProto.FLOAT, s) for p, s in (("x", shape), ("y", result))]
    graph = helper.make_graph([node], "layer", ports[:1], ports[1:], [numpy_helper.from_array(values, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)
    return model


def forms(name: str, folder: Path, x: Floats) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """The forms of a layer, each with a function that makes its engine."""
    path = folder / "model.onnx"
    model = write_layer(name, path)

    def winograd() -> Engine:
        use_winograd(model, {})
        onnx.save(model, folder / "winograd.onnx")
        return load_engine("onnxruntime", folder / "winograd.onnx", "cpu")

    def qdq() -> Engine:
        quantization.quantize_static(path, folder / "qdq.onnx", _Samples(x), per_channel=True)
        return load_engine("onnxruntime", folder / "qdq.onnx", "cpu")

    def nbits() -> Engine:
        config = DefaultWeightOnlyQuantConfig(block_size=128, is_symmetric=True, accuracy_level=4, bits=8)
        quantizer = MatMulNBitsQuantizer(onnx.load(path), algo_config=config)
        quantizer.process()
        onnx.save(quantizer.model.model, folder / "nbits.onnx")
        return load_engine("onnxruntime", folder / "nbits.onnx", "cpu")

    def openvino() -> Engine:
        nncf, library = import_nncf(), import_openvino()
        made = nncf.quantize(library.Core().read_model(path), nncf.Dataset([{"x": x}]), subset_size=1)
        library.save_model(made, folder / "int8.xml", compress_to_fp16=False)
        return load_engine("openvino", folder / "int8.xml")

    yield FP32, lambda: load_engine("onnxruntime", path, "cpu")
    if name == CONVOLUTION:
        yield "onnxruntime, fp32, Winograd's form", winograd
    yield "onnxruntime, int8 (QDQ)", qdq
    if name == LINEAR:
        yield "onnxruntime, weights of 8 bits (MatMulNBits)", nbits
    yield "OpenVINO, fp32", lambda: load_engine("openvino", path)
    yield "OpenVINO, int8", openvino


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """One sample, as onnxruntime's quantizer asks for it."""

    def __init__(self, x: Floats) -> None:
        self._left = [{"x": x}]

    def get_next(self) -> dict[str, Floats] | None:
        return self._left.pop() if self._left else None


def measure(name: str, repeats: int) -> dict[str, tuple[list[float], float]]:
    """Seconds of each call and relative RMS to fp32, by form of a layer."""
    x = np.random.default_rng(0).standard_normal(SHAPES[name][0]).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        engines = {form: make() for form, make in forms(name, Path(folder), x)}
        outputs = {form: np.asarray(engine({"x": x})["y"], np.float32) for form, engine in engines.items()}
        seconds: dict[str, list[float]] = {form: [] for form in engines}
        for _ in range(repeats):
            for form, engine in engines.items():
                start = time.perf_counter()
                engine({"x": x})
                seconds[form].append(time.perf_counter() - start)
    return {form: (seconds[form], relative_rms(outputs[form], outputs[FP32])) for form in engines}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="number of calls that are measured; default: 15")
    options = parser.parse_args()
    print("| layer | form | ms (min-max) | relative RMS |\n|---|---|---|---|")
    for name in SHAPES:
        for form, (seconds, error) in measure(name, options.repeats).items():
            low, middle, high = (1e3 * f(seconds) for f in (min, median, max))
            print(f"| {name} | {form} | {middle:.1f} ({low:.1f}-{high:.1f}) | {error:.1e} |")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,openvino,int8,cpu"):
        main()
