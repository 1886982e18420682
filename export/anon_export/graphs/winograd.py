"""3 x 3 convolutions with fewer multiplications: Winograd's F(m x m, 3 x 3) written in standard ONNX operators.

A convolution needs nine multiplications for each output pixel and pair of channels. Winograd's algorithm (Lavin and
Gray, 2016) cuts the input into overlapping tiles of (m + 2) x (m + 2) pixels, transforms tiles and weights into a
domain in which the convolution is a product, and computes m x m pixels of output from (m + 2) ** 2 products: 2.25 times
fewer multiplications for m = 2, and 4 times fewer for m = 4. Here both transforms of the image are small convolutions,
and the products are a batch of matrix multiplications, which every runtime does at its full rate. The weights are
transformed when the graph is built, which makes them (m + 2) ** 2 / 9 times as large.

Rounding errors grow with m. They depend on the points at which the polynomials behind the transforms are evaluated. The
points in `POINTS` were the best of ten choices: their largest error is a third of that of the usual 0, 1, -1, 2, -2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sympy import sympify

# The finite points by m. The last point is always infinity.
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}
# With fewer channels, the transforms cost more than the multiplications that they save. Leaving these convolutions as
# they are made the demo's UNet a tenth faster, and halved the time of its VAE decoder.
FEWEST_CHANNELS = 128
# The tiles of a large image exceed the processor's caches. It is therefore cut into up to this many bands of rows,
# which are processed one after the other.
MOST_BANDS = 8
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Transforms:
    """The matrices of F(m, 3) in one dimension: tile d convolved with g is ``output @ ((weights @ g) * (tile @ d))``.

    Attributes:
        tile: (m + 2, m + 2).
        weights: (m + 2, 3).
        output: (m, m + 2).
    """

    tile: Matrix
    weights: Matrix
    output: Matrix


@cache
def make_transforms(m: int) -> Transforms:
    """Toom and Cook's construction from the points of `POINTS`, in exact fractions."""
    points = POINTS[m]

    def others(j: int) -> list[Fraction]:
        return [p for k, p in enumerate(points) if k != j]

    tile = [[*_coefficients(others(j)), Fraction(0)] for j in range(len(points))] + [_coefficients(points)]
    scale = [prod(p - q for q in others(j)) for j, p in enumerate(points)]
    weights = [[p**i / s for i in range(3)] for p, s in zip(points, scale, strict=True)] + [[0, 0, 1]]
    output = [[*(p**i for p in points), int(i == m - 1)] for i in range(m)]
    return Transforms(*(np.array(matrix, np.float64) for matrix in (tile, weights, output)))


def _coefficients(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """Of the polynomial with these roots and leading coefficient 1, the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * same for low, same in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found


def transform_weights(weights: NDArray[np.float32], m: int) -> NDArray[np.float32]:
    """Weights of a convolution (k, c, 3, 3) in Winograd's domain: ((m + 2) ** 2, k, c)."""
    matrix = make_transforms(m).weights
    rows = np.einsum("ai,kcij->kcaj", matrix, weights.astype(np.float64), optimize=True)
    both = np.einsum("kcaj,bj->abkc", rows, matrix, optimize=True)
    return np.ascontiguousarray(both.reshape(-1, *weights.shape[:2]), np.float32)


def use_winograd(model: onnx.ModelProto, smallest: Mapping[str, int]) -> int:
    """Replace 3 x 3 convolutions of stride 1 by Winograd's algorithm where tiles fit; returns their number.

    Args:
        model: as the exporter wrote it, with its weights in memory; changed in place.
        smallest: a value of each free dimension; all other values are multiples of it. Tiles that fit into the height
            and width of a convolution at these values fit at all others, too.
    """
    sizes = _sizes(model.graph, smallest)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    # Weights that are stored in half precision reach the convolution through a Cast node.
    weights |= {n.output[0]: weights[n.input[0]] for n in graph.node if n.op_type == "Cast" and n.input[0] in weights}
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        m = _tile(node, weights, sizes)
        if not m:
            nodes.append(node)
            continue
        count += 1
        rewriter = _Rewriter(graph, node, [numpy_helper.to_array(weights[name]) for name in node.input[1:]])
        nodes += rewriter.rewrite(m, _bands(sizes[node.input[0]][0] // m))
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    nodes = [node for node in nodes if set(node.output) & used]  # without the Cast nodes that nothing uses any more
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return count


def _sizes(graph: onnx.GraphProto, free: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Height and width of every value with four dimensions. The exporter writes them as formulas of free dimensions."""
    found = {}
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4:
            rows, columns = (int(sympify(d.dim_param).subs(free)) if d.dim_param else d.dim_value for d in dims[2:])
            found[value.name] = rows, columns
    return found


def _tile(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], sizes: Mapping[str, tuple[int, int]]) -> int:
    """The largest m for a node; 0 where Winograd's algorithm does not apply or does not pay."""
    if node.op_type != "Conv" or node.input[0] not in sizes or node.input[1] not in weights:
        return 0
    kernel = weights[node.input[1]]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = (
        tuple(kernel.dims[2:]) == (3, 3)
        and kernel.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        and attributes.get("group", 1) == 1
        and set(attributes.get("strides", [1])) == {1} == set(attributes.get("dilations", [1]))
        and list(attributes.get("pads", [])) == [1, 1, 1, 1]
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    )
    if not plain or min(kernel.dims[:2]) < FEWEST_CHANNELS:
        return 0
    divisor = math.gcd(*sizes[node.input[0]])
    return next((m for m in sorted(POINTS, reverse=True) if divisor % m == 0), 0)


def _bands(tile_rows: int) -> int:
    """The number of bands for an image with this number of rows of tiles or a multiple; a band has two rows or more."""
    return math.gcd(tile_rows // 2 or 1, MOST_BANDS)


class _Rewriter:
    """Makes the nodes that replace one convolution. Their constants go into the graph."""

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto, constants: list[NDArray[np.floating]]) -> None:
        self.graph, self.image, self.name = graph, node.input[0], node.output[0]
        self.weights, self.biases = constants[0], constants[1:]
        self.nodes: list[onnx.NodeProto] = []

    def rewrite(self, m: int, bands: int) -> list[onnx.NodeProto]:
        """The convolution with tiles of m x m pixels, in a number of bands of rows."""
        weights = self._transformed(m)
        # Each channel of each image becomes an image of one channel: one convolution of stride m transforms all tiles.
        alone = self._add("Reshape", [self.image, self._shape(-1, 1, 0, 0)], "alone")
        if bands == 1:
            self._band(alone, weights, m, "", (1, 1))
        else:
            parts = [
                self._band(rows, weights, m, f".{i}", (int(i == 0), int(i == bands - 1)))
                for i, rows in enumerate(self._slices(alone, bands))
            ]
            self._add("Concat", parts, "whole", axis=2)
        self.nodes[-1].output[0] = self.name
        return self.nodes

    def _slices(self, alone: str, bands: int) -> list[str]:
        """Bands of rows, each with the neighbouring rows that its tiles overlap."""
        rows = self._add("Shape", [alone], "rows", start=2, end=3)
        height = self._add("Div", [rows, self._shape(bands)], "height")
        found = []
        for i in range(bands):
            edges = [self._add("Mul", [height, self._shape(i + side)], f"edge.{i}.{side}") for side in range(2)]
            first = self._add("Sub", [edges[0], self._shape(1)], f"first.{i}") if i else edges[0]
            last = self._add("Add", [edges[1], self._shape(1)], f"last.{i}")  # Slice clips it at the end
            found.append(self._add("Slice", [alone, first, last, self._shape(2)], f"slice.{i}"))
        return found

    def _band(self, alone: str, weights: str, m: int, suffix: str, edges: tuple[int, int]) -> str:
        """One band: (images * channels, 1, rows, columns) -> (images * outputs, 1, rows, columns).

        ``edges`` holds the number of rows of zeros above and below.
        """
        k, c, area, t = len(self.weights), self.weights.shape[1], (m + 2) ** 2, make_transforms(m)
        tile = np.kron(t.tile, t.tile).reshape(area, 1, m + 2, m + 2).astype(np.float32)
        output = np.kron(t.output, t.output).reshape(m * m, area, 1, 1).astype(np.float32)

        def add(kind: str, inputs: list[str], result: str, **attributes: Any) -> str:
            return self._add(kind, inputs, result + suffix, **attributes)

        pads = [edges[0], 1, edges[1], 1]
        tiles = add("Conv", [alone, self._constant(f"tile.{m}", tile)], "tiles", strides=[m, m], pads=pads)
        grid = add("Shape", [tiles], "grid", start=2, end=4)  # rows and columns of tiles
        split = add("Concat", [self._shape(-1, c, area), grid], "split", axis=0)
        by_channel = add("Reshape", [tiles, split], "by_channel")
        turned = add("Transpose", [by_channel], "turned", perm=[2, 1, 0, 3, 4])
        columns = add("Reshape", [turned, self._shape(area, c, -1)], "columns")
        products = add("MatMul", [weights, columns], "products")
        apart = add("Concat", [self._shape(area, k, -1), grid], "apart", axis=0)
        by_output = add("Reshape", [products, apart], "by_output")
        back = add("Transpose", [by_output], "back", perm=[2, 1, 0, 3, 4])
        joined = add("Concat", [self._shape(-1, area), grid], "joined", axis=0)
        domain = add("Reshape", [back, joined], "domain")
        values = add("Conv", [domain, self._constant(f"output.{m}", output)], "values")
        pixels = add("DepthToSpace", [values], "pixels", blocksize=m)
        last = add("Reshape", [pixels, self._shape(-1, k, 0, 0)], "shaped")
        for bias in self.biases:
            value = bias.reshape(1, k, 1, 1).astype(np.float32)
            last = add("Add", [last, self._constant("bias", value, shared=False)], "biased")
        return last

    def _transformed(self, m: int) -> str:
        """The weights in Winograd's domain. Those in half precision are transformed when the graph is loaded."""
        k, c, t = len(self.weights), self.weights.shape[1], make_transforms(m)
        if self.weights.dtype != np.float16:
            return self._constant("weights", transform_weights(self.weights, m), shared=False)
        nine = np.ascontiguousarray(self.weights.transpose(2, 3, 0, 1).reshape(9, -1))
        wide = self._add("Cast", [self._constant("half", nine, shared=False)], "wide", to=onnx.TensorProto.FLOAT)
        matrix = self._constant(f"weights.{m}", np.kron(t.weights, t.weights).astype(np.float32))
        domain = self._add("MatMul", [matrix, wide], "domain_weights")
        return self._add("Reshape", [domain, self._shape((m + 2) ** 2, k, c)], "weights")

    def _constant(self, key: str, value: NDArray[np.generic], *, shared: bool = True) -> str:
        """An initializer. All convolutions share those that do not depend on the weights."""
        key = f"winograd.{key}" if shared else f"{self.name}.{key}"
        if all(tensor.name != key for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(value, key))
        return key

    def _shape(self, *dims: int) -> str:
        return self._constant(f"shape.{'_'.join(map(str, dims))}", np.array(dims, np.int64))

    def _add(self, kind: str, inputs: list[str], result: str, **attributes: Any) -> str:
        last = f"{self.name}.{result}"
        self.nodes.append(helper.make_node(kind, inputs, [last], f"{self.name}.{kind}.{len(self.nodes)}", **attributes))
        return last
