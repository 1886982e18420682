import json
import shutil
from pathlib import Path

import pytest

from anon_export.sources import load_folder
from anon_runtime.errors import AnonError


def test_loads_a_diffusers_folder(demo_model: Path) -> None:
    components = load_folder(demo_model)
    assert components.source.model == demo_model.name
    assert len(components.source.files) == 3
    assert components.pipeline.unet.config.cross_attention_dim == 64


def test_refusals(demo_model: Path, tmp_path: Path) -> None:
    def refused(folder: Path, word: str) -> None:
        with pytest.raises(AnonError, match=word) as caught:
            load_folder(folder)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", "model_index.json")
    model = Path(shutil.copytree(demo_model, tmp_path / "model"))
    weights = next((model / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    refused(model, "diffusers cannot load it")  # a pickle is never opened
    shutil.rmtree(model / "vae")
    refused(model, "lacks vae")
    (model / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    refused(model, "StableDiffusionXLPipeline")
    (model / "model_index.json").write_text("{")
    refused(model, "not JSON")
