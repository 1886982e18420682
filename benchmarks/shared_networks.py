"""A runtime that calls diffusers' own networks, so that only the loops around the networks are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from anon_export.build.reference import Diffusers
from anon_runtime import Anonymizer
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.types import Array, Arrays


class TorchEngine:
    """A torch module that is called like an engine.

    Args:
        module: called with tensors in the order of ``inputs``, and with ``return_dict=False``.
        inputs: names of the arrays that the module takes.
        output: name of the module's first result.
    """

    def __init__(self, module: Any, inputs: Sequence[str], output: str) -> None:
        self._module, self._inputs, self._output = module, inputs, output

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        """Run the module on arrays."""
        with torch.no_grad():
            result = self._module(*(torch.tensor(inputs[name]) for name in self._inputs), return_dict=False)[0]
        return {self._output: result.numpy()}


def share_networks(bundle: Bundle, reference: Diffusers) -> Anonymizer:
    """A runtime that calls the UNet, the text encoder and the VAE's encoder of diffusers' pipeline.

    Guidance runs as one batch, as in diffusers: networks round differently in batches of other sizes.
    """
    defaults = replace(bundle.manifest.defaults, guidance_batch=True)
    one_batch = replace(bundle, manifest=replace(bundle.manifest, defaults=defaults))
    pipeline = reference.pipeline

    def encode(sample: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        return (pipeline.vae.encode(sample, return_dict=return_dict)[0].parameters,)

    networks = {
        "unet": TorchEngine(pipeline.unet, ("sample", "timestep", "encoder_hidden_states"), "out_sample"),
        "text_encoder": TorchEngine(pipeline.text_encoder, ("input_ids",), "last_hidden_state"),
        "vae_encoder": TorchEngine(encode, ("sample",), "latent_parameters"),
    }
    return Anonymizer.of(Engines(one_batch, replaced=networks))
