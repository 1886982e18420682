"""From prompts to text embeddings: CLIP's tokenizer, windows of 77 tokens, and the text encoder engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..errors import BundleError
from ..types import Engine, Floats

WINDOW = 77
CONTENT = WINDOW - 2  # two tokens of a window are its begin mark and its end mark


@dataclass(frozen=True)
class ClipTokenizer:
    """CLIP's tokenizer.

    Attributes:
        library: the tokenizer object of the package ``tokenizers``.
        begin: the token id of the mark before the content of a window.
        end: the token id of the mark after the content of a window.
        pad: the token id that fills a window after its end mark.
    """

    library: Tokenizer = field(repr=False)
    begin: int
    end: int
    pad: int

    @classmethod
    def load(cls, path: Path) -> "ClipTokenizer":
        """Return the tokenizer in a ``tokenizer.json``.

        Args:
            path: the file.

        Raises:
            BundleError: the file does not hold a CLIP tokenizer.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - tokenizers raises a bare Exception
            raise BundleError(str(path), f"not a tokenizer ({error})", "build the bundle again") from None
        tokenizer.no_truncation()
        padding = tokenizer.padding or {}
        tokenizer.no_padding()
        begin, end = tokenizer.token_to_id("<|startoftext|>"), tokenizer.token_to_id("<|endoftext|>")
        if begin is None or end is None:
            raise BundleError(
                str(path), "it lacks CLIP's begin and end marks", "build from a model with CLIP's tokenizer"
            )
        return cls(tokenizer, begin, end, padding.get("pad_id", end))

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, without marks."""
        ids: list[int] = self.library.encode(prompt, add_special_tokens=False).ids
        return ids


def split_windows(tokenizer: ClipTokenizer, prompt: str, count: int = 1) -> NDArray[np.int64]:
    """Tokenize a prompt into windows.

    Each window holds up to 75 tokens between its own begin mark and end mark. This is the convention of the
    AUTOMATIC1111 web UI for long prompts (without its search for commas), and of diffusers' community pipeline
    ``lpw_stable_diffusion`` with ``no_boseos_middle=False``. A prompt of up to 75 tokens gives exactly the result of
    ``CLIPTokenizer(padding="max_length")``.

    Args:
        tokenizer: the tokenizer of the text encoder.
        prompt: any text.
        count: the lowest number of windows; windows without content are added if the prompt needs fewer.

    Returns:
        int64 (windows, 77), token ids.
    """
    ids = tokenizer.encode(prompt)
    count = max(count, -(-len(ids) // CONTENT))
    windows = np.full((count, WINDOW), tokenizer.pad, dtype=np.int64)
    for row, start in zip(windows, range(0, count * CONTENT, CONTENT), strict=True):
        content = ids[start : start + CONTENT]
        row[: len(content) + 2] = [tokenizer.begin, *content, tokenizer.end]
    return windows


def cut_phrases(tokenizer: ClipTokenizer, prompt: str) -> list[str]:
    """Return the comma-separated phrases of a prompt that do not fit, or only partly fit, into one window."""
    offsets = tokenizer.library.encode(prompt, add_special_tokens=False).offsets
    if len(offsets) <= CONTENT:
        return []
    kept_end = offsets[CONTENT - 1][1]
    ends = np.cumsum([len(phrase) + 1 for phrase in prompt.split(",")]) - 1
    phrases = zip(prompt.split(","), ends, strict=True)
    # Spaces at the end of a phrase do not count, because they are no tokens.
    return [p.strip() for p, end in phrases if p.strip() and end - (len(p) - len(p.rstrip())) > kept_end]


def encode_windows(windows: Sequence[NDArray[np.int64]], encoder: Engine) -> Floats:
    """Return the text embeddings of several prompts, computed in one call.

    Args:
        windows: for each prompt int64 (windows, 77), token ids; all prompts have the same number of windows.
        encoder: the text encoder engine, with input ``input_ids`` (n, 77) and output ``last_hidden_state`` (n, 77,
            width).

    Returns:
        float32 (prompts, 77 * windows, width).
    """
    ids = np.stack(windows)
    states = encoder({"input_ids": ids.reshape(-1, WINDOW)})["last_hidden_state"]
    return np.asarray(states, np.float32).reshape(len(ids), ids.shape[1] * WINDOW, -1)
