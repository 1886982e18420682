from pathlib import Path

from transformers import CLIPTokenizer


def test_the_vocabulary_is_clips(demo_model: Path) -> None:
    """Token ids of CLIP's own tokenizer for a caption, as published in its README's notebook."""
    tokenizer = CLIPTokenizer.from_pretrained(demo_model / "tokenizer")
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
