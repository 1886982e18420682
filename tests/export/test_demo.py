from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from anon_export.demo import faces
from anon_runtime.errors import AnonError


def test_the_vocabulary_is_clips(demo_model: Path) -> None:
    """Token ids of CLIP's own tokenizer for a caption, as published in its README's notebook."""
    tokenizer = CLIPTokenizer.from_pretrained(demo_model / "tokenizer")
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(faces, "distribution", absent)
    with pytest.raises(AnonError, match=r"anon-engines\[demo\]"):
        faces.find_centerface()
