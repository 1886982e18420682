from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anon_export.build.options import BuildOptions
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
        ({"deepcache": True, "target": "tensorrt"}, "`deepcache`"),
        ({"deepcache": True, "target": "tensorrt-rtx"}, "`deepcache`"),
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
        {"winograd": True, "precision": "fp16"},
        {"winograd": True, "precision": "fp16-weights"},
    ],
)
def test_the_others_are_not(choices: dict[str, Any]) -> None:
    replace(OPTIONS, **choices).check()
