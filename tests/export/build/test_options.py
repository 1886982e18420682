import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anon_export.build.options import BuildOptions
from anon_export.graphs.options import GraphOptions
from anon_runtime.errors import UsageError

OPTIONS = BuildOptions("owner/model", "m", faces="none")


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"revision": "v1", "model": "realistic-vision"}, "pinned to one; .*SG161222/Realistic_Vision"),
        ({"revision": "v1", "model": "demo"}, "demo is not on the hub"),
        ({"revision": "v1", "model": str(Path(__file__).parent)}, "is not on the hub"),
        ({"revision": "v1", "model": __file__}, "is not on the hub"),
        ({"gpu": "sm_89"}, "no particular GPU"),
        ({"gpu": "sm_89", "target": "openvino"}, "no particular GPU"),
        ({"precision": "int8"}, "`precision` int8: it is for OpenVINO; add `target` openvino"),
        ({"precision": "int8-weights", "target": "tensorrt"}, "it is for OpenVINO"),
        ({"precision": "bf16"}, "`precision` bf16: it is for OpenVINO; add `target` openvino"),
        ({"precision": "fp16-weights", "target": "cuda"}, "compute in the precision of their weights; choose fp16"),
        ({"vae_precision": "fp16-weights", "target": "cuda"}, "compute in the precision of their weights; choose fp16"),
        ({"cache_branch": 1}, "`cache_branch` 1: it says where DeepCache cuts"),
        ({"winograd": True, "precision": "fp16", "vae_precision": "fp16"}, "`winograd`: it is for arithmetic in fp32"),
    ],
)
def test_choices_without_effect_are_refused(choices: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        replace(OPTIONS, **choices).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"revision": "v1"},
        {"gpu": "sm_89", "target": "tensorrt-rtx"},
        {"deepcache": True, "target": "openvino"},
        {"deepcache": True, "target": "tensorrt-rtx"},
        {"deepcache": True, "cache_branch": 2},
        {"precision": "int8", "target": "openvino"},
        {"winograd": True, "precision": "fp16"},
        {"winograd": True, "precision": "fp16-weights"},
    ],
)
def test_the_others_are_not(choices: dict[str, Any]) -> None:
    replace(OPTIONS, **choices).check()


@pytest.mark.parametrize("name", ["..", "a/b", "/x", ".", ".hidden"])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="`name`"):
        replace(OPTIONS, name=name).check()


def test_name_and_faces_follow_the_model(tmp_path: Path) -> None:
    (tmp_path / "v1-5.safetensors").touch()
    models = {"demo": "demo", "owner/model": "model", str(tmp_path / "v1-5.safetensors"): "v1-5"}
    for model, name in models.items():
        options = BuildOptions(model, output=tmp_path)
        assert options.folder == tmp_path / name
        assert options.face_networks == ("demo" if model == "demo" else "facer+deepface")


def test_graph_options_follow_the_target_and_the_precisions() -> None:
    plain = BuildOptions("demo", precision="fp16-weights", vae_precision="fp16", deepcache=True).graph_options
    assert plain == {
        "text_encoder": GraphOptions("fp16-weights", fused_attention=True),
        "unet": GraphOptions("fp16-weights", fused_attention=True, winograd=True, cache_branch=0),
        "vae_encoder": GraphOptions("fp16", fused_attention=True),
        "vae_decoder": GraphOptions("fp16", fused_attention=True),
    }
    int8 = BuildOptions("demo", target="openvino", precision="int8").graph_options
    assert int8 == {
        "text_encoder": GraphOptions(static=True),
        "unet": GraphOptions("int8", static=True),
        "vae_encoder": GraphOptions(static=True),
        "vae_decoder": GraphOptions(static=True),
    }
    assert set(BuildOptions("demo", target="tensorrt").graph_options.values()) == {GraphOptions(static=True)}


TEMPLATE = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.0))


@pytest.mark.parametrize(
    ("choices", "why"),
    [
        ({"identity": None}, "there is none"),
        ({"identity": Path("missing.onnx")}, "there is no such file"),
        ({"faces": "none"}, "this build reads no faces"),
        ({"identity_size": 0}, "at least 1 pixel"),
        ({"identity_std": 0.0}, "not 0"),
        ({"identity_std": math.nan}, "not finite"),
        ({"identity_mean": math.inf}, "not finite"),
        ({"identity_template": TEMPLATE[:4]}, "its template has 4 points"),
        ({"identity_template": ()}, "its template has 0 points"),
        ({"identity_template": ((math.nan, 0.0), *TEMPLATE[1:])}, "not finite"),
    ],
)
def test_a_face_recognition_network_without_its_input_is_refused(choices: dict[str, Any], why: str) -> None:
    own = BuildOptions(
        "demo",
        identity=Path(__file__),
        identity_size=56,
        identity_mean=127.5,
        identity_std=128.0,
        identity_template=TEMPLATE,
    )
    own.check()
    with pytest.raises(UsageError, match=f"`identity.*{why}"):
        replace(own, **choices).check()


@pytest.mark.parametrize(
    "choices", [{"identity_size": 56}, {"identity_mean": 1.0}, {"identity_std": 2.0}, {"identity_template": TEMPLATE}]
)
def test_the_input_of_no_network_is_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="they describe the file that `identity` names"):
        replace(BuildOptions("demo"), **choices).check()
