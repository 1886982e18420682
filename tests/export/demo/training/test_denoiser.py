from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from anon_export.demo.training.denoiser import Windows
from anon_runtime import Anonymizer
from anon_runtime.diffusion.text_encoder import split_windows


def test_windows_are_the_runtimes(demo_model: Path, anonymizer: Anonymizer) -> None:
    windows = Windows(CLIPTokenizer.from_pretrained(demo_model / "tokenizer"))
    prompts = ["", "closeup portrait photo of a white 34 woman, Smiling , ", " Wavy_Hair , " * 40]
    expected = np.stack([split_windows(anonymizer.generator.tokenizer, prompt, 3)[:3] for prompt in prompts])
    np.testing.assert_array_equal(windows(prompts, 3).numpy(), expected.reshape(3, -1))
    assert windows(prompts, 1).shape == (3, 77)
