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


@pytest.mark.parametrize(
    ("part", "key", "value", "word"),
    [
        ("scheduler/scheduler_config.json", "prediction_type", "v_prediction", "predicts v_prediction"),
        ("unet/config.json", "in_channels", 9, "diffusers cannot load it|takes 9 channels"),
    ],
)
def test_relatives_are_refused(demo_model: Path, tmp_path: Path, part: str, key: str, value: object, word: str) -> None:
    model = Path(shutil.copytree(demo_model, tmp_path / "model"))
    config = json.loads((model / part).read_text())
    (model / part).write_text(json.dumps(config | {key: value}))
    with pytest.raises(AnonError, match=word) as caught:
        load_folder(model)
    assert "\n" not in str(caught.value)


def test_an_inpainting_unet_is_named(demo_model: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    model = Path(shutil.copytree(demo_model, tmp_path / "model"))
    config = UNet2DConditionModel.load_config(model / "unet") | {"in_channels": 9}
    UNet2DConditionModel.from_config(config).save_pretrained(model / "unet")
    with pytest.raises(AnonError, match="takes 9 channels"):
        load_folder(model)
