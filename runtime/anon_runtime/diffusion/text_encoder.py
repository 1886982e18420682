"""Prompts to text embeddings: CLIP's tokenizer, windows of 77 tokens, and the text encoder engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..errors import BundleError
from ..types import Engine, Floats

WINDOW = 77
CONTENT = WINDOW - 2  # a window also holds a begin and an end mark


@dataclass(frozen=True)
class ClipTokenizer:
    """CLIP's tokenizer.

    Attributes:
        library: the tokenizer of the package ``tokenizers``.
        begin, end: token ids of the marks around a window's content.
        pad: token id that fills a window after its end mark.
    """

    library: Tokenizer = field(repr=False)
    begin: int
    end: int
    pad: int

    @classmethod
    def load(cls, path: Path) -> "ClipTokenizer":
        """Read a ``tokenizer.json``.

        Raises:
            BundleError: the file is no CLIP tokenizer.
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
        """Token ids of a prompt, without marks."""
        ids: list[int] = self.library.encode(prompt, add_special_tokens=False).ids
        return ids


def split_windows(tokenizer: ClipTokenizer, prompt: str, count: int = 1) -> NDArray[np.int64]:
    """Token windows of a prompt, at least ``count`` of them: shape (windows, 77).

    Each window holds up to 75 tokens between its own begin and end mark. This is the convention of the AUTOMATIC1111
    web UI for long prompts (without its search for commas), and of diffusers' community pipeline
    ``lpw_stable_diffusion`` with ``no_boseos_middle=False``. A prompt of up to 75 tokens gives exactly what
    ``CLIPTokenizer(padding="max_length")`` gives.
    """
    ids = tokenizer.encode(prompt)
    count = max(count, -(-len(ids) // CONTENT))
    windows = np.full((count, WINDOW), tokenizer.pad, dtype=np.int64)
    for row, start in zip(windows, range(0, count * CONTENT, CONTENT), strict=True):
        content = ids[start : start + CONTENT]
        row[: len(content) + 2] = [tokenizer.begin, *content, tokenizer.end]
    return windows


def cut_phrases(tokenizer: ClipTokenizer, prompt: str) -> list[str]:
    """The comma-separated phrases of a prompt that one window holds only in part or not at all."""
    offsets = tokenizer.library.encode(prompt, add_special_tokens=False).offsets
    if len(offsets) <= CONTENT:
        return []
    kept_end = offsets[CONTENT - 1][1]
    ends = np.cumsum([len(phrase) + 1 for phrase in prompt.split(",")]) - 1
    phrases = zip(prompt.split(","), ends, strict=True)
    # A phrase may end in spaces, which are no tokens.
    return [p.strip() for p, end in phrases if p.strip() and end - (len(p) - len(p.rstrip())) > kept_end]


def encode_windows(windows: Sequence[NDArray[np.int64]], encoder: Engine) -> Floats:
    """Text embeddings of several prompts.

    Args:
        windows: of each prompt, (windows, 77) token ids; all prompts have equally many.
        encoder: the text encoder engine: ``input_ids`` (n, 77) -> ``last_hidden_state`` (n, 77, width).

    Returns:
        float32 array (prompts, 77 * windows, width).
    """
    ids = np.stack(windows)
    states = encoder({"input_ids": ids.reshape(-1, WINDOW)})["last_hidden_state"]
    return np.asarray(states, np.float32).reshape(len(ids), ids.shape[1] * WINDOW, -1)
