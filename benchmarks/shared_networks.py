"""Engines made of the reference's own networks, so that two sides can share them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anon_export.build.reference import Diffusers
from anon_runtime import Anonymizer
from anon_runtime.bundle.bundle import Bundle


class TorchEngine:
    """A torch module that answers like an engine, so that both sides can share one denoiser."""

    def __init__(self, module: Any, inputs: Sequence[str], output: str) -> None:
        self._module, self._inputs, self._output = module, inputs, output

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run the module on arrays."""
        with torch.no_grad():
            result = self._module(*(torch.tensor(inputs[name]) for name in self._inputs), return_dict=False)[0]
        return {self._output: result.numpy()}


def share_networks(bundle: Bundle, reference: Diffusers) -> Anonymizer:
    """A runtime that calls the reference's UNet and text encoder, so that only the loops differ.

    Guidance runs as one batch, as in diffusers: networks round differently in batches of other sizes.
    """
    defaults = replace(bundle.manifest.defaults, guidance_batch=True)
    anonymizer = Anonymizer(replace(bundle, manifest=replace(bundle.manifest, defaults=defaults)))
    pipeline = reference.pipeline
    shared = {
        "unet": TorchEngine(pipeline.unet, ("sample", "timestep", "encoder_hidden_states"), "out_sample"),
        "text_encoder": TorchEngine(pipeline.text_encoder, ("input_ids",), "last_hidden_state"),
    }
    for role, engine in shared.items():
        anonymizer._engines[str(anonymizer.bundle.engine_path(role))] = engine
    return anonymizer
