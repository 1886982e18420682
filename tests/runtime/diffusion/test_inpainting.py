"""Canvases, and what of a picture reaches the networks and stays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.diffusion.inpainting import make_canvas
from anon_runtime.errors import BundleError, GenerationError, UsageError
from anon_runtime.types import SAMPLERS, Canvas, Sampler
from tests.runtime.stand_ins import StandInEngines

BLOCK = 4
SHAPE = 24, 32
pictures = arrays.arrays(np.uint8, (*SHAPE, 3))
masks = arrays.arrays(np.bool_, SHAPE).filter(np.any)


@st.composite
def rectangles(draw: st.DrawFn) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Masks that leave something of the picture."""
    top, left = draw(st.integers(0, SHAPE[0] - 9)), draw(st.integers(0, SHAPE[1] - 9))
    mask = np.zeros(SHAPE, np.bool_)
    mask[top : top + draw(st.integers(1, 8)), left : left + draw(st.integers(1, 8))] = True
    return mask


@given(pictures, rectangles(), st.randoms(use_true_random=False))
def test_nothing_of_what_is_painted_anew_is_in_a_canvas(picture: Any, mask: Any, random: Any) -> None:
    canvas = make_canvas(picture, mask, BLOCK)
    assert canvas.mask[mask].all()
    np.testing.assert_array_equal(canvas.pixels[~canvas.mask], picture[~canvas.mask])
    another = np.where(canvas.mask[..., None], random.randrange(256), picture).astype(np.uint8)
    np.testing.assert_array_equal(make_canvas(another, mask, BLOCK).pixels, canvas.pixels)
    assert len(np.unique(canvas.pixels[canvas.mask], axis=0)) == 1


@given(rectangles())
def test_the_mask_grows_to_whole_blocks_and_no_further(mask: Any) -> None:
    grown = make_canvas(np.zeros((*SHAPE, 3), np.uint8), mask, BLOCK).mask
    blocks = grown.reshape(SHAPE[0] // BLOCK, BLOCK, SHAPE[1] // BLOCK, BLOCK)
    touched = mask.reshape(blocks.shape).any(axis=(1, 3))
    assert (blocks.all(axis=(1, 3)) == blocks.any(axis=(1, 3))).all()
    np.testing.assert_array_equal(blocks.all(axis=(1, 3)), touched)


@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((24, 32, 3), np.zeros(SHAPE, bool)),
        ((24, 32, 3), np.ones(SHAPE, bool)),
        ((24, 31, 3), np.eye(24, 31, dtype=bool)),
        ((23, 32, 3), np.eye(23, 32, dtype=bool)),
        ((32, 24, 3), np.eye(24, 32, dtype=bool)),
        ((24, 32, 4), np.eye(24, 32, dtype=bool)),
    ],
)
def test_what_is_no_canvas_is_told(shape: tuple[int, ...], mask: Any) -> None:
    with pytest.raises(UsageError, match="the canvas"):
        make_canvas(np.zeros(shape, np.uint8), mask, BLOCK)


@pytest.fixture
def canvas() -> Canvas:
    """A canvas in the demo's size."""
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[30:60, 20:70] = True
    return make_canvas(picture, mask, BLOCK)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_photos_that_differ_inside_the_mask_give_the_same_bytes(anonymizer: Anonymizer, sampler: Sampler) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((96, 96), bool)
    mask[30:60, 20:70] = True
    first, second = rng.integers(0, 256, (2, 96, 96, 3), np.uint8)
    grown = make_canvas(first, mask, BLOCK).mask
    second[~grown] = first[~grown]
    assert (first != second).any()
    generator = anonymizer.using(Settings(steps=2, sampler=sampler)).generator
    requests = [Request("a man", "", 7, make_canvas(photo, mask, BLOCK)) for photo in (first, second)]
    images = [np.asarray(generator.generate([request])[0].image) for request in requests]
    np.testing.assert_array_equal(images[0], images[1])
    whole = np.asarray(generator.generate([replace(requests[0], canvas=None)])[0].image)
    assert (whole != images[0]).any()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_stays_has_the_latents_of_the_picture(anonymizer: Anonymizer, canvas: Canvas, sampler: Sampler) -> None:
    """The encoder's noise is the only difference, and it has the encoder's own deviation."""
    generator = anonymizer.using(Settings(steps=3, sampler=sampler)).generator
    *_, state = generator.denoise([Request("a man", "", 7, canvas)])
    sample = (canvas.pixels.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    parameters = np.asarray(anonymizer.engines["vae_encoder"]({"sample": sample})["latent_parameters"], np.float32)
    mean, deviation = parameters[:, :4], np.exp(0.5 * parameters[:, 4:])
    factor = anonymizer.engines.bundle.manifest.generator.vae_scaling_factor
    kept = ~np.broadcast_to(canvas.mask[::BLOCK, ::BLOCK], mean.shape)
    noise = ((state.latents / factor - mean) / deviation)[kept]
    assert abs(noise.mean()) < 0.2
    assert 0.9 < noise.std() < 1.1
    assert np.abs(noise).max() < 6


def test_requests_of_both_kinds_do_not_change_each_other(anonymizer: Anonymizer, canvas: Canvas) -> None:
    generator = anonymizer.using(Settings(steps=2)).generator
    requests = [Request("a man", "", 1, canvas), Request("a man", "", 1), Request("a woman", "", 2, canvas)]
    together = generator.generate(requests)
    for request, portrait in zip(requests, together, strict=True):
        alone = generator.generate([request])[0]
        assert np.abs(np.asarray(portrait.image).astype(int) - np.asarray(alone.image)).max() <= 1
    with pytest.raises(UsageError, match="some of them have a canvas"):
        next(generator.denoise(requests[:2]))


def test_a_canvas_of_another_size_is_refused(anonymizer: Anonymizer) -> None:
    small = make_canvas(np.zeros((*SHAPE, 3), np.uint8), np.eye(*SHAPE, dtype=bool)[:, : SHAPE[1]], BLOCK)
    with pytest.raises(UsageError, match=r"a canvas of 24 x 32 pixels: .*96 x 96"):
        anonymizer.generator.generate([Request("a man", canvas=small)])


def test_a_bundle_of_an_earlier_version_has_no_encoder(own_engines: StandInEngines, canvas: Canvas) -> None:
    bundle = own_engines.bundle
    engines = {role: spec for role, spec in bundle.manifest.engines.items() if role != "vae_encoder"}
    old = replace(bundle, manifest=replace(bundle.manifest, engines=engines))
    generator = Anonymizer.of(StandInEngines(old), Settings(steps=1)).generator
    assert generator.generate([Request("a man")])
    with pytest.raises(BundleError, match="vae_encoder"):
        generator.generate([Request("a man", canvas=canvas)])


def test_an_encoder_that_breaks_gives_no_image(own_engines: StandInEngines, canvas: Canvas) -> None:
    broken = np.full((1, 8, 24, 24), np.nan, np.float32)
    own_engines.interfere("vae_encoder", lambda *_: {"latent_parameters": broken})
    with pytest.raises(GenerationError, match="vae_encoder"):
        Anonymizer.of(own_engines, Settings(steps=1)).generator.generate([Request("a man", canvas=canvas)])
