"""How a graph is written: precision, shapes, and the form of its operators."""

from dataclasses import dataclass
from typing import Literal

# fp16-weights: weights are stored in half precision, and the arithmetic is in single precision. The reduced precisions
# are for the UNet, whose graph is written in fp32 and reduced afterwards, see `quantization`: int8-bf16 is int8 with
# bf16 in place of fp32 for everything else, and int8-weights has the arithmetic of fp32.
FloatPrecision = Literal["fp32", "fp16", "fp16-weights"]
ReducedPrecision = Literal["bf16", "int8", "int8-bf16", "int8-weights"]
Precision = Literal[FloatPrecision, ReducedPrecision]


@dataclass(frozen=True)
class GraphOptions:
    """How the graph of one network is written.

    Attributes:
        precision: of weights and arithmetic.
        static: the height and width of the latents are fixed.
        fused_attention: attention is one operator of onnxruntime, see `graphs.attention`.
        cuda: the graph is for onnxruntime's CUDA provider, see `graphs.cuda`: it is exported in fp32, and gets its
            precision where it is rewritten.
        winograd: convolutions are written with fewer multiplications, see `graphs.winograd`.
        cache_branch: the UNet also returns its deep features, and a second graph takes them as an input. The features
            are cut before the last ``cache_branch + 1`` layers, as DeepCache counts its branches; None is no cut.
    """

    precision: Precision = "fp32"
    static: bool = False
    fused_attention: bool = False
    winograd: bool = False
    cuda: bool = False
    cache_branch: int | None = None

    @property
    def exported(self) -> Precision:
        """The precision that PyTorch exports."""
        return "fp32" if self.cuda else self.precision
