from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anon_export.sources import load_folder
from anon_runtime import Anonymizer


@pytest.fixture(scope="module")
def pipeline(demo_model: Path) -> Any:
    return load_folder(demo_model).pipeline


def close(ours: np.ndarray, theirs: torch.Tensor) -> None:
    theirs = theirs.detach().numpy()
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=3e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("batch", [1, 3])
def test_text_encoder(anonymizer: Anonymizer, pipeline: Any, batch: int) -> None:
    ids = np.random.default_rng(0).integers(0, 49408, (batch, 77))
    outputs = anonymizer.engine("text_encoder")({"input_ids": ids})
    close(outputs["last_hidden_state"], pipeline.text_encoder(torch.tensor(ids))[0])


@pytest.mark.parametrize(("batch", "height", "width", "tokens"), [(1, 16, 16, 77), (2, 16, 24, 154), (5, 8, 32, 231)])
def test_unet(anonymizer: Anonymizer, pipeline: Any, batch: int, height: int, width: int, tokens: int) -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((batch, 4, height, width)).astype(np.float32)
    states = rng.standard_normal((batch, tokens, 64)).astype(np.float32)
    inputs = {"sample": sample, "timestep": np.float32(417.25), "encoder_hidden_states": states}
    ours = anonymizer.engine("unet")({k: np.asarray(v) for k, v in inputs.items()})["out_sample"]
    with torch.no_grad():
        close(ours, pipeline.unet(*map(torch.tensor, (sample, 417.25, states)), return_dict=False)[0])


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (2, 8, 24)])
def test_vae_decoder(anonymizer: Anonymizer, pipeline: Any, batch: int, height: int, width: int) -> None:
    latents = np.random.default_rng(0).standard_normal((batch, 4, height, width)).astype(np.float32)
    with torch.no_grad():
        expected = pipeline.vae.decode(torch.tensor(latents), return_dict=False)[0]
    close(anonymizer.engine("vae_decoder")({"latent_sample": latents})["sample"], expected)
