from pathlib import Path

import pytest

from anon_export.models.loading import load_model
from anon_runtime.errors import AnonError


def test_damaged_weights_are_named(model: Path) -> None:
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AnonError, match="diffusers cannot load it") as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
