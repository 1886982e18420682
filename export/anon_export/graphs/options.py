"""How a graph is written: precision, shapes, and the form of its operators."""

from dataclasses import dataclass
from typing import Literal

# fp16-weights: weights are stored in half precision, and the arithmetic is in single precision. int8 and int8-weights
# are for the UNet, whose graph is written in fp32 and quantized afterwards, see `quantization`.
FloatPrecision = Literal["fp32", "fp16", "fp16-weights"]
IntegerPrecision = Literal["int8", "int8-weights"]
Precision = Literal[FloatPrecision, IntegerPrecision]


@dataclass(frozen=True)
class GraphOptions:
    """How the graph of one network is written.

    Attributes:
        precision: of weights and arithmetic.
        static: the height and width of the latents are fixed.
        fused_attention: attention is one operator of onnxruntime, see `graphs.attention`.
        winograd: convolutions are written with fewer multiplications, see `graphs.winograd`.
        cache_branch: the UNet also returns its deep features, and a second graph takes them as an input. The features
            are cut before the last ``cache_branch + 1`` layers, as DeepCache counts its branches; None is no cut.
    """

    precision: Precision = "fp32"
    static: bool = False
    fused_attention: bool = False
    winograd: bool = False
    cache_branch: int | None = None
