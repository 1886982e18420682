import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.bundle.integrity import sha256
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.diffusion.text_encoder import (
    CONTENT,
    ClipTokenizer,
    cut_phrases,
    encode_windows,
    split_windows,
)
from anon_runtime.errors import BundleError
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Attributes
from tests.conftest import edit_manifest

BEGIN, END = 49406, 49407
words = st.lists(st.sampled_from([*CELEBA, ",", "34", "o'clock", "é", "naïve", "!?"]), max_size=90).map(" ".join)


@pytest.fixture(scope="session")
def tokenizer(demo_bundle: Path) -> ClipTokenizer:
    return ClipTokenizer.load(demo_bundle / "tokenizer" / "tokenizer.json")


@pytest.fixture(scope="session")
def clip(demo_model: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(demo_model / "tokenizer")


@given(prompt=words)
def test_one_window_is_what_diffusers_feeds(tokenizer: ClipTokenizer, clip: Any, prompt: str) -> None:
    """The expected value is the call in diffusers' `StableDiffusionPipeline.encode_prompt`.

    The prompts have no CJK characters, which the slow CLIPTokenizer (transformers before 5) separates by spaces and the
    fast one does not.
    """
    expected = clip(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
    np.testing.assert_array_equal(split_windows(tokenizer, prompt)[:1], expected)


@given(prompt=words, count=st.integers(1, 4))
def test_windows_hold_every_token_once_between_marks(tokenizer: ClipTokenizer, prompt: str, count: int) -> None:
    ids = tokenizer.encode(prompt)
    windows = split_windows(tokenizer, prompt, count)
    assert len(windows) == max(count, 1, -(-len(ids) // CONTENT))
    assert (windows[:, 0] == BEGIN).all()
    assert (windows[:, -1] == END).all()
    content = [token for window in windows for token in window[1:] if token != END]
    assert content == [token for token in ids if token != END]


def test_both_prompts_get_the_same_number_of_windows(anonymizer: Anonymizer, tokenizer: ClipTokenizer) -> None:
    encoder = anonymizer.engines["text_encoder"]
    prompts = ["short", "Wavy_Hair , " * 40]
    assert [len(split_windows(tokenizer, prompt)) for prompt in prompts] == [1, 3]
    states = encode_windows([split_windows(tokenizer, prompt, 3) for prompt in prompts], encoder)
    assert states.shape == (2, 77 * 3, 64)
    alone = encode_windows([split_windows(tokenizer, "short")], encoder)
    np.testing.assert_allclose(states[0, :77], alone[0], atol=1e-6)
    empty = encode_windows([split_windows(tokenizer, "")], encoder)
    np.testing.assert_allclose(states[0, 77:154], empty[0], atol=1e-6)
    cut = encode_windows([split_windows(tokenizer, prompt)[:1] for prompt in prompts], encoder)
    assert cut.shape == (2, 77, 64)


def test_the_papers_prompt_is_longer_than_a_window(tokenizer: ClipTokenizer) -> None:
    """If a face has no attribute, one window would lose more than half of the negative prompt."""
    attributes: Attributes = {"Ethnic": "white", "Age": 34, **dict.fromkeys(CELEBA, 0.1)}
    _, negative = write_prompts(attributes)
    assert len(split_windows(tokenizer, negative)) > 1
    cut = cut_phrases(tokenizer, negative)
    assert 10 < len(cut) < 39
    assert cut == [n for n in CELEBA if n != "Male"][-len(cut) :]


@given(prompt=words)
def test_cut_phrases_are_the_ones_that_truncation_changes(tokenizer: ClipTokenizer, clip: Any, prompt: str) -> None:
    cut = cut_phrases(tokenizer, prompt)
    assert bool(cut) <= (len(tokenizer.encode(prompt)) > CONTENT)
    phrases = [p.strip() for p in prompt.split(",") if p.strip()]
    assert cut == phrases[len(phrases) - len(cut) :]


def test_truncation_names_what_it_cuts(anonymizer: Anonymizer, caplog: pytest.LogCaptureFixture) -> None:
    request = Request("a man", " , ".join(CELEBA))
    with caplog.at_level(logging.WARNING):
        anonymizer.using(Settings(steps=1, prompt_truncate=True)).generate([request])
    assert "Young" in caplog.text
    assert "Wearing_Necktie" in caplog.text
    assert "Attractive" not in caplog.text
    caplog.clear()
    anonymizer.using(Settings(steps=1)).generate([request])
    assert caplog.text == ""


def test_the_whole_negative_prompt_matters_only_without_truncation(anonymizer: Anonymizer) -> None:
    long = " , ".join(CELEBA)
    for truncate in (True, False):
        own = anonymizer.using(Settings(steps=2, prompt_truncate=truncate))
        a, b = (own.generate([Request("a man", n)])[0].image for n in (long, long + " , Tattoo"))
        assert np.array_equal(np.asarray(a), np.asarray(b)) == truncate


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for text in ("{", "{}", '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'):
        path.write_text(text)
        with pytest.raises(BundleError, match=r"tokenizer|marks"):
            ClipTokenizer.load(path)


def test_a_bundle_whose_tokenizer_is_another_file(own_bundle: Path) -> None:
    """The manifest holds the sha256 of the wrong file, so that only the parser can refuse it."""
    manifest = json.loads((own_bundle / MANIFEST).read_text())
    path = own_bundle / manifest["tokenizer"]
    path.write_bytes(b'{"a": 1}')
    files = manifest["files"] | {manifest["tokenizer"]: {"sha256": sha256(path), "size": path.stat().st_size}}
    edit_manifest(own_bundle, files=files)
    with pytest.raises(BundleError, match="tokenizer"):
        Anonymizer.load(own_bundle)
