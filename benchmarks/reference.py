"""Engines made of the reference's own networks, so that two sides can share them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anon_export.reference import Diffusers
from anon_runtime import Anonymizer


class TorchEngine:
    """A torch module that answers like an engine, so that both sides can share one denoiser."""

    def __init__(self, module: Any, inputs: Sequence[str], output: str) -> None:
        self._module, self._inputs, self._output = module, inputs, output

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the module on arrays."""
        with torch.no_grad():
            result = self._module(*(torch.tensor(inputs[name]) for name in self._inputs), return_dict=False)[0]
        return {self._output: result.numpy()}


def share_networks(anonymizer: Anonymizer, reference: Diffusers) -> None:
    """Let a runtime call the reference's UNet and text encoder, so that only the loops differ."""
    pipeline = reference.pipeline
    shared = {
        "unet": TorchEngine(pipeline.unet, ("sample", "timestep", "encoder_hidden_states"), "out_sample"),
        "text_encoder": TorchEngine(pipeline.text_encoder, ("input_ids",), "last_hidden_state"),
    }
    for role, engine in shared.items():
        anonymizer._engines[str(anonymizer.bundle.engine_path(role))] = engine
