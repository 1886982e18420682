"""The generator with the engines of the demo, and with made-up engines."""

from collections.abc import Mapping

import numpy as np
import pytest

from anon_runtime import AnonError, Anonymizer, Request, Settings
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration
from anon_runtime.diffusion.generator import Generator, SamplingOptions
from anon_runtime.errors import BundleError, GenerationError, UsageError
from anon_runtime.types import Array, Arrays
from tests.runtime.stand_ins import MadeUpEngines, StandInEngines


def test_progress_counts_evaluations(anonymizer: Anonymizer) -> None:
    seen: list[tuple[int, int]] = []
    generator = anonymizer.using(Settings(steps=3)).generator
    generator.generate([Request("x")], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_loop_can_be_left_early(anonymizer: Anonymizer) -> None:
    states = anonymizer.using(Settings(steps=5)).generator.denoise([Request("x")])
    preview = next(states).denoised
    assert preview.shape == (1, 4, 24, 24)
    assert anonymizer.generator.decode(preview).shape == (1, 96, 96, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [1, 4])
def test_a_unet_that_breaks_gives_no_image_and_names_the_step(anonymizer: Anonymizer, bad: float, at: int) -> None:
    engines = StandInEngines(anonymizer.engines.bundle)
    unet, calls = anonymizer.engines["unet"], []

    def breaking(call: int, inputs: Mapping[str, Array]) -> Arrays:
        calls.append(call)
        output = unet(inputs)["out_sample"].copy()
        output[0, 0, 0, 0] = bad if call + 1 == at else output[0, 0, 0, 0]
        return {"out_sample": output}

    engines.interfere("unet", breaking)
    generator = Anonymizer.of(engines, Settings(steps=3, guidance_scale=1)).generator
    with pytest.raises(GenerationError, match=f"unet engine at evaluation {at} of 5"):
        generator.generate([Request("x")])
    assert len(calls) == at


def test_a_vae_that_breaks_gives_no_image(anonymizer: Anonymizer) -> None:
    engines = StandInEngines(anonymizer.engines.bundle)
    engines.interfere("vae_decoder", lambda *_: {"sample": np.full((1, 3, 96, 96), np.nan, np.float32)})
    with pytest.raises(GenerationError, match="vae_decoder"):
        Anonymizer.of(engines, Settings(steps=1)).generate([Request("x")])


def test_wrong_latent_shape_is_an_engine_error(anonymizer: Anonymizer) -> None:
    with pytest.raises(AnonError, match="refused latent_sample"):
        anonymizer.generator.decode(np.zeros((1, 3, 24, 24), np.float32))


def test_no_prompts_no_images(anonymizer: Anonymizer) -> None:
    assert anonymizer.generate([]) == []
    with pytest.raises(UsageError, match="nothing to generate"):
        next(anonymizer.generator.denoise([]))


def test_prompts_of_any_length_share_a_batch_without_changing_each_other(anonymizer: Anonymizer) -> None:
    """The prompts of one image fill one window of text, those of the others fill two and four."""
    requests = [Request("a man" + " , Wavy_Hair" * count, "hat", seed=count) for count in (0, 60, 1, 20)]
    generator = anonymizer.using(Settings(steps=2)).generator
    seen: list[tuple[int, int]] = []
    together = generator.generate(requests, progress=lambda *state: seen.append(state))
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3)
    for request, portrait in zip(requests, together, strict=True):
        assert portrait.prompt == request.prompt
        alone = generator.generate([request])[0]
        difference = np.asarray(portrait.image).astype(int) - np.asarray(alone.image)
        assert np.abs(difference).max() <= 1
    with pytest.raises(UsageError, match="different numbers of text windows"):
        next(generator.denoise(requests))


def test_a_request_is_tokenized_once_and_carries_its_windows(anonymizer: Anonymizer) -> None:
    generator = anonymizer.generator
    tokenized = generator.tokenize(Request("a man", "hat" + " , Wavy_Hair" * 40))
    assert tokenized.negative is not None
    assert tokenized.windows == len(tokenized.positive) == len(tokenized.negative) > 1
    without = anonymizer.using(Settings(guidance_scale=1)).generator.tokenize(tokenized.request)
    assert without.windows == 1
    assert without.negative is None, "a negative prompt that is not used costs nothing"


def encode(inputs: Mapping[str, Array], /) -> Arrays:
    return {"last_hidden_state": np.asarray(inputs["input_ids"], np.float32)[..., None]}


def predict(inputs: Mapping[str, Array], /) -> Arrays:
    return {"out_sample": np.zeros_like(inputs["sample"])}


def decode_to_gray(inputs: Mapping[str, Array], /) -> Arrays:
    return {"sample": np.zeros((len(inputs["latent_sample"]), 3, 8, 8), np.float32)}


def made_up_generator(
    anonymizer: Anonymizer, steps: int = 1, acceleration: Acceleration = FAST_LEVELS[0]
) -> tuple[Generator, MadeUpEngines]:
    """A generator of gray images, with the tokenizer and the tables of the demo bundle."""
    engines = MadeUpEngines(text_encoder=encode, unet=predict, vae_decoder=decode_to_gray)
    theirs = anonymizer.using(Settings(steps=steps)).generator
    options = SamplingOptions("dpmpp_sde", steps, 7.5, acceleration)
    spec = anonymizer.engines.bundle.manifest.generator
    return Generator(engines, spec, theirs.tokenizer, lambda *_: theirs.schedule, options), engines


@pytest.fixture
def made_up(anonymizer: Anonymizer) -> tuple[Generator, MadeUpEngines]:
    return made_up_generator(anonymizer)


def test_a_generator_works_with_any_engines(made_up: tuple[Generator, MadeUpEngines]) -> None:
    generator, engines = made_up
    (portrait,) = generator.generate([Request("a man", seed=3)])
    assert portrait.image.size == (8, 8)
    assert portrait.image.getpixel((0, 0)) == (128, 128, 128)
    assert portrait.seed == 3
    assert engines.verified == 1
    assert engines.released == ["text_encoder"], "its memory is needed for the UNet"
    del engines["unet"]
    with pytest.raises(BundleError, match="there is no unet"):
        generator.generate([Request("a man")])


def test_no_image_leaves_before_the_engines_are_verified(made_up: tuple[Generator, MadeUpEngines]) -> None:
    generator, engines = made_up
    engines.intact = False
    with pytest.raises(BundleError, match="not the ones that were built"):
        generator.generate([Request("a man")])


def test_damage_is_told_rather_than_the_nan_that_it_makes(made_up: tuple[Generator, MadeUpEngines]) -> None:
    generator, engines = made_up
    engines["unet"] = lambda inputs: {"out_sample": np.full_like(inputs["sample"], np.nan)}
    with pytest.raises(GenerationError):
        generator.generate([Request("a man")])
    engines.intact = False
    with pytest.raises(BundleError, match="not the ones that were built"):
        generator.generate([Request("a man")])


def test_deepcache_runs_the_cached_unet_between_full_evaluations(anonymizer: Anonymizer) -> None:
    generator, engines = made_up_generator(anonymizer, steps=3, acceleration=Acceleration(cache_interval=2))
    called: list[str] = []

    def full(inputs: Mapping[str, Array], /) -> Arrays:
        called.append("full")
        return predict(inputs) | {"deep": np.full(len(inputs["sample"]), len(called))}

    def cached(inputs: Mapping[str, Array], /) -> Arrays:
        assert (inputs["deep"] == len(called)).all(), "the features are those of the previous evaluation"
        called.append("cached")
        return predict(inputs)

    engines["unet"] = full
    with pytest.raises(BundleError, match="there is no unet_cached"):
        generator.generate([Request("a man")])
    assert called == [], "the missing engine is found before any work begins"
    engines["unet_cached"] = cached
    assert len(generator.generate([Request("a man")])) == 1
    assert called == ["full", "cached", "full", "cached", "full"]
