from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import pixels

from anon_runtime import AnonError, Anonymizer, Request, Settings
from anon_runtime.errors import GenerationError, NoFaceError, UsageError
from anon_runtime.faces import decoding


def test_a_file_an_image_and_an_array_give_the_same(anonymizer: Anonymizer, astronaut: Path) -> None:
    with Image.open(astronaut) as image:
        portraits = [anonymizer.anonymize(p, seed=7, steps=2) for p in (astronaut, image, pixels(astronaut))]
    first = portraits[0]
    assert first.seed == 7 and first.image.size == (96, 96) and first.face and first.attributes
    for other in portraits[1:]:
        assert (other.prompt, other.negative_prompt, other.face) == (first.prompt, first.negative_prompt, first.face)
        np.testing.assert_array_equal(np.asarray(other.image), np.asarray(first.image))


def test_no_face(anonymizer: Anonymizer, coffee: Path) -> None:
    with pytest.raises(NoFaceError, match="coffee.png: no face"):
        anonymizer.anonymize(coffee)


def test_progress_counts_evaluations(anonymizer: Anonymizer) -> None:
    seen: list[tuple[int, int]] = []
    anonymizer.generate([Request("x")], Settings(steps=3), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_loop_can_be_left_early(anonymizer: Anonymizer) -> None:
    states = anonymizer.denoising([Request("x")], Settings(steps=5))
    preview = next(states).denoised
    assert preview.shape == (1, 4, 24, 24)
    assert anonymizer.decode(preview).shape == (1, 96, 96, 3)
    states.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [1, 4])
def test_a_unet_that_breaks_gives_no_image_and_names_the_step(demo_bundle: Path, bad: float, at: int) -> None:
    anonymizer = Anonymizer.load(demo_bundle)
    unet = anonymizer.engine("unet")
    calls = []

    def breaking(inputs: dict) -> dict:
        calls.append(1)
        output = unet(inputs)["out_sample"].copy()
        output[0, 0, 0, 0] = bad if len(calls) == at else output[0, 0, 0, 0]
        return {"out_sample": output}

    anonymizer._engines[str(anonymizer.bundle.engine_path("unet"))] = breaking
    with pytest.raises(GenerationError, match=f"unet engine at evaluation {at} of 5"):
        anonymizer.generate([Request("x")], Settings(steps=3, guidance_scale=1))
    assert len(calls) == at


def test_a_vae_that_breaks_gives_no_image(demo_bundle: Path) -> None:
    anonymizer = Anonymizer.load(demo_bundle)
    path = str(anonymizer.bundle.engine_path("vae_decoder"))
    anonymizer._engines[path] = lambda _: {"sample": np.full((1, 3, 96, 96), np.nan, np.float32)}
    with pytest.raises(GenerationError, match="vae_decoder"):
        anonymizer.generate([Request("x")], Settings(steps=1))


def test_wrong_latent_shape_is_an_engine_error(anonymizer: Anonymizer) -> None:
    with pytest.raises(AnonError, match="refused latent_sample"):
        anonymizer.decode(np.zeros((1, 3, 24, 24), np.float32))


def test_steps_outside_the_tables(anonymizer: Anonymizer) -> None:
    with pytest.raises(UsageError, match="use 1 to 50"):
        anonymizer.generate([Request("x")], Settings(steps=51))
    with pytest.raises(UsageError, match="use 1 to 50"):
        anonymizer.anonymize(np.zeros((64, 64, 3), np.uint8), steps=51)


def test_threads_are_chosen_when_engines_are_loaded(demo_bundle: Path, astronaut: Path) -> None:
    anonymizer = Anonymizer.load(demo_bundle, Settings(steps=1, threads=1))
    assert anonymizer.threads == 1 and anonymizer.anonymize(astronaut, threads=1).image.size == (96, 96)
    other = Settings(steps=1, threads=2)
    for call in (
        lambda: anonymizer.anonymize(astronaut, threads=2), lambda: anonymizer.generate([Request("a")], other),
        lambda: anonymizer.describe_all([astronaut], other),
        lambda: next(anonymizer.denoising([Request("a")], other)),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="2 threads for one call.*loaded with"):
            call()


def test_each_photos_own_time_is_told(anonymizer: Anonymizer, astronaut: Path, tmp_path: Path) -> None:
    large = Image.open(astronaut).convert("RGB").resize((6000, 6000))
    large.save(tmp_path / "large.png", compress_level=0)
    small, slow = anonymizer.describe_all([astronaut, tmp_path / "large.png"])
    assert 0 < small.seconds["decode"] < slow.seconds["decode"]


def test_a_reduced_photo_is_described_in_its_own_pixels(
    anonymizer: Anonymizer, astronaut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(astronaut).convert("RGB").resize((2048, 2048), Image.Resampling.LANCZOS).save(tmp_path / "a.jpg")
    whole = anonymizer.describe(tmp_path / "a.jpg")
    monkeypatch.setattr(decoding, "MAX_DECODED", 1024 * 1024)
    reduced = anonymizer.describe(tmp_path / "a.jpg")
    np.testing.assert_allclose(reduced.face, whole.face, atol=8)
    smallest = int(min(whole.face[2:])) - 16
    assert anonymizer.describe(tmp_path / "a.jpg", Settings(min_face=smallest)).face == reduced.face


def test_attributes_of_a_portrait_are_its_own(anonymizer: Anonymizer, astronaut: Path) -> None:
    settings = Settings(attributes={"Ethnic": "white", "Age": 34, "Male": 1})
    for photo in (None, astronaut):
        anonymizer.describe(photo, settings).attributes["Age"] = 80
        assert " 34 " in anonymizer.describe(photo, settings).request.prompt


def test_no_prompts_no_images(anonymizer: Anonymizer) -> None:
    assert anonymizer.generate([]) == []
    with pytest.raises(UsageError, match="nothing to generate"):
        next(anonymizer.denoising([], Settings()))


def test_prompts_of_any_length_share_a_batch_without_changing_each_other(anonymizer: Anonymizer) -> None:
    """An image whose prompts fill one window of text, beside images that need two and four."""
    requests = [Request("a man" + " , Wavy_Hair" * count, "hat", seed=count) for count in (0, 60, 1, 20)]
    seen: list[tuple[int, int]] = []
    together = anonymizer.generate(requests, Settings(steps=2), progress=lambda *state: seen.append(state))
    assert seen == sorted(seen) and seen[-1] == (3, 3)
    for request, portrait in zip(requests, together, strict=True):
        assert portrait.prompt == request.prompt
        alone = anonymizer.generate([request], Settings(steps=2))[0]
        difference = np.asarray(portrait.image).astype(int) - np.asarray(alone.image)
        assert np.abs(difference).max() <= 1
    with pytest.raises(UsageError, match="different numbers of text windows"):
        next(anonymizer.denoising(requests, Settings(steps=2)))
