"""Large weights outside of a graph while it is rewritten.

Programs that rewrite graphs copy them, and protobuf keeps what is replaced until the whole graph is released: with its
weights inside, the UNet of Stable Diffusion 1.5 took 24 GB. Here weights are inputs of the graph meanwhile, and are
read one after another when the graph is written.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from anon_runtime.types import Array

from .export import MAX_INLINE_BYTES

# The input that holds a matrix, a kernel or a table, by operator.
PLACES = {"Conv": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
ITEM_SIZES = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2}


@dataclass(frozen=True)
class Weight:
    """A tensor in fp32 that is read when it is needed.

    Attributes:
        shape: of the tensor.
        read: returns it.
    """

    shape: tuple[int, ...]
    read: Callable[[], Array]

    def transposed(self, *axes: int) -> "Weight":
        """The same values with their axes in another order."""
        return Weight(tuple(self.shape[axis] for axis in axes), lambda: self.read().transpose(axes))


def load_without_weights(path: Path) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    """Load a graph in which matrices, kernels and tables in fp32 are inputs in the place of initializers.

    Returns:
        the graph, and what has become an input, by name.
    """
    model = onnx.load(path, load_external_data=False)
    graph, moved = model.graph, _movable(model.graph)
    weights = {tensor.name: _weight(tensor, path.parent) for tensor in graph.initializer if tensor.name in moved}
    kept = [tensor for tensor in graph.initializer if tensor.name not in moved]
    graph.input.extend(make_input(name, weight.shape) for name, weight in weights.items())
    del graph.initializer[:]
    graph.initializer.extend(kept)
    external_data_helper.load_external_data_for_model(model, str(path.parent))
    return model, weights


def make_input(name: str, shape: Iterable[int]) -> onnx.ValueInfoProto:
    """An input of a graph that stands for a weight."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def save_with_weights(model: onnx.ModelProto, weights: Mapping[str, Weight], path: Path) -> None:
    """Write a graph with its weights as initializers again, in the place of the file that they are read from.

    Args:
        model: its inputs with the names of weights are removed. One that has become fp16 gets a weight in fp16, with
            values beyond fp16 limited to its largest one.
        weights: by name.
        path: of the graph. Large weights go into ``<path>.data``.
    """
    graph = model.graph
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input if value.name in weights}
    size = sum(ITEM_SIZES[kind] * math.prod(weights[name].shape) for name, kind in inputs.items())
    data = path.with_name(f"{path.name}.data")
    scratch = data.with_name(f"{data.name}.new")
    with scratch.open("wb") as file:
        for name, kind in inputs.items():
            array = weights[name].read()
            tensor = numpy_helper.from_array(_to_half(array) if kind == TensorProto.FLOAT16 else array, name)
            if size > MAX_INLINE_BYTES:
                external_data_helper.set_external_data(tensor, data.name, file.tell(), len(tensor.raw_data))
                file.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            graph.initializer.append(tensor)
    others = [value for value in graph.input if value.name not in inputs]
    del graph.input[:]
    graph.input.extend(others)
    onnx.save(model, path)
    data.unlink(missing_ok=True)
    if scratch.stat().st_size:
        scratch.replace(data)
    scratch.unlink(missing_ok=True)


def _movable(graph: onnx.GraphProto) -> set[str]:
    """Names of initializers in fp32 that nothing but products, convolutions and tables read."""
    readers: dict[str, list[bool]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append(PLACES.get(node.op_type) == place)
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    return {name for name in floats if all(readers.get(name, [False]))}


def _weight(tensor: TensorProto, folder: Path) -> Weight:
    own = TensorProto()
    own.CopyFrom(tensor)

    def read() -> Array:
        copy = TensorProto()  # it would keep what it reads from a file
        copy.CopyFrom(own)
        return numpy_helper.to_array(copy, str(folder))

    return Weight(tuple(tensor.dims), read)


def _to_half(array: Array) -> Array:
    most = np.finfo(np.float16).max
    return array.clip(-most, most).astype(np.float16)
