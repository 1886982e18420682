"""Attention as one operator of onnxruntime.

diffusers computes attention in a processor object that its networks call. The processor here exports attention as
onnxruntime's fused operator. The exporter alone would write it as many separate operators.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention; a node ``com.microsoft.MultiHeadAttention`` while a graph is exported.

    Args:
        query: (n, tokens, width), the heads side by side.
        key, value: (n, other tokens, width).
        heads: number of heads.

    Returns:
        (n, tokens, width).
    """
    if torch.onnx.is_in_onnx_export():
        fused: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value),
            {"num_heads": heads},
            dtype=query.dtype,
            shape=query.shape,
            version=1,
        )
        return fused
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Processor:
    """The arithmetic of diffusers' ``AttnProcessor2_0`` around `attention`."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """Attend from ``hidden_states``, (n, tokens, width) or (n, width, height, width of the image)."""
        residual, shape = hidden_states, hidden_states.shape
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        hidden_states = attn.to_out[0](attention(query, key, value, attn.heads))
        if len(shape) == 4:
            hidden_states = hidden_states.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        scaled: Tensor = hidden_states / attn.rescale_output_factor
        return scaled


@contextmanager
def fused_attention(model: Any) -> Iterator[None]:
    """Export the attention of a UNet or autoencoder as one operator while the block lasts."""
    processors = model.attn_processors
    model.set_attn_processor(Processor())
    try:
        yield
    finally:
        model.set_attn_processor(processors)
