import numpy as np
import pytest

from anon_runtime import Anonymizer
from anon_runtime.errors import GenerationError
from anon_runtime.guidance import check_finite, make_denoiser


def states(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 77, 64)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_one_batch_and_two_calls_agree(anonymizer: Anonymizer, count: int) -> None:
    unet = anonymizer.engine("unet")
    sample = np.random.default_rng(2).standard_normal((count, 4, 16, 16)).astype(np.float32)
    results = [
        make_denoiser(unet, states(0, count), states(1, count), 7.5, one_batch=one)(sample, np.float32(500))
        for one in (True, False)
    ]
    assert np.abs(results[0] - results[1]).max() <= 1e-5 * np.sqrt(np.mean(results[0] ** 2))


def test_the_formula_and_the_work() -> None:
    calls = []

    def unet(inputs: dict) -> dict:
        calls.append(len(inputs["sample"]))
        # The prediction is the mean of the text embedding: 2 for the positive one, 1 for the negative one.
        return {"out_sample": inputs["sample"] * 0 + inputs["encoder_hidden_states"].mean((1, 2))[:, None, None, None]}

    sample, positive, negative = np.ones((2, 4, 4, 4), np.float32), np.full((2, 77, 8), 2.0), np.ones((2, 77, 8))
    both = make_denoiser(unet, positive, negative, 7.5, one_batch=True)(sample, np.float32(1))
    assert (both == 1 + 7.5 * (2 - 1)).all() and calls == [4]
    make_denoiser(unet, positive, negative, 7.5, one_batch=False)(sample, np.float32(1))
    assert calls == [4, 2, 2]
    alone = make_denoiser(unet, positive, None, 1.0, one_batch=True)(sample, np.float32(1))
    assert (alone == 2).all() and calls == [4, 2, 2, 2], "without guidance an evaluation costs one sample"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite(bad: float) -> None:
    check_finite(np.ones(3, np.float32), "unet", "at evaluation 3")
    with pytest.raises(GenerationError, match="unet engine at evaluation 3.*no picture"):
        check_finite(np.array([1, bad], np.float32), "unet", "at evaluation 3")
