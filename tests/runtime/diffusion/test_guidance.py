from collections.abc import Mapping

import numpy as np
import pytest

from anon_runtime import Anonymizer
from anon_runtime.backends.base import check_finite
from anon_runtime.diffusion.acceleration import Evaluation
from anon_runtime.diffusion.guidance import TextEmbeddings, make_denoiser
from anon_runtime.errors import GenerationError
from anon_runtime.types import Array, Arrays

FULL = [Evaluation()]


def states(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 77, 64)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_one_batch_and_two_calls_agree(anonymizer: Anonymizer, count: int) -> None:
    unet, text = anonymizer.engines["unet"], TextEmbeddings(states(0, count), states(1, count))
    sample = np.random.default_rng(2).standard_normal((count, 4, 16, 16)).astype(np.float32)
    results = [
        make_denoiser(unet, None, text, 7.5, np.array([500.0]), FULL, one_batch=one)(sample, 0) for one in (True, False)
    ]
    assert np.abs(results[0] - results[1]).max() <= 3e-5 * np.sqrt(np.mean(results[0] ** 2))


class Mean:
    """A network that predicts the mean of its text embeddings, returns it as deep features, and counts samples."""

    def __init__(self, add: float = 0) -> None:
        self.calls: list[int] = []
        self._add = add

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        self.calls.append(len(inputs["sample"]))
        states = np.asarray(inputs["encoder_hidden_states"], np.float32)
        text = states.mean((1, 2))[:, None, None, None].astype(np.float32)
        deep = np.asarray(inputs.get("deep", text), np.float32)
        return {"out_sample": np.asarray(inputs["sample"], np.float32) * 0 + deep + self._add, "deep": text}


SAMPLE = np.ones((2, 4, 4, 4), np.float32)
TEXT = TextEmbeddings(np.full((2, 77, 8), 2, np.float32), np.ones((2, 77, 8), np.float32))


def test_the_formula_and_the_work() -> None:
    unet = Mean()  # it predicts 2 for the positive prompt and 1 for the negative one
    both = make_denoiser(unet, None, TEXT, 7.5, np.ones(1), FULL, one_batch=True)(SAMPLE, 0)
    assert (both == 1 + 7.5 * (2 - 1)).all()
    assert unet.calls == [4]
    make_denoiser(unet, None, TEXT, 7.5, np.ones(1), FULL, one_batch=False)(SAMPLE, 0)
    assert unet.calls == [4, 2, 2]
    alone = make_denoiser(unet, None, TextEmbeddings(TEXT.positive), 1.0, np.ones(1), FULL, one_batch=True)(SAMPLE, 0)
    assert (alone == 2).all()
    assert unet.calls == [4, 2, 2, 2], "without guidance, an evaluation costs one sample"


@pytest.mark.parametrize("one_batch", [True, False])
def test_an_evaluation_that_reuses_features_takes_cached_features(one_batch: bool) -> None:
    unet, cached = Mean(), Mean(add=100)
    plan = [Evaluation(), Evaluation(full=False), Evaluation(guided=False, full=False), Evaluation(guided=False)]
    denoise = make_denoiser(unet, cached, TEXT, 2.0, np.arange(4.0), plan, one_batch=one_batch)
    assert (denoise(SAMPLE, 0) == 1 + 2 * (2 - 1)).all()
    assert (denoise(SAMPLE, 1) == 101 + 2 * (102 - 101)).all(), "each half has features of its own"
    assert (denoise(SAMPLE, 2) == 102).all(), "without guidance, the features are those of the positive prompt"
    assert (denoise(SAMPLE, 3) == 2).all()
    halves = [4] if one_batch else [2, 2]
    assert unet.calls == [*halves, 2]
    assert cached.calls == [*halves, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite(bad: float) -> None:
    check_finite(np.ones(3, np.float32), "unet", "at evaluation 3")
    with pytest.raises(GenerationError, match=r"unet engine at evaluation 3.*no image"):
        check_finite(np.array([1, bad], np.float32), "unet", "at evaluation 3")
