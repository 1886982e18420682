"""The pieces of the demo's training, on made-up photos."""

import contextlib
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import CLIPTokenizer

from anon_export.demo.generator import DEMO, make_parts
from anon_export.demo.networks import OLDEST, FaceNet
from anon_export.demo.training import face_networks, loop
from anon_export.demo.training.autoencoder import encode, standardise
from anon_export.demo.training.captions import Mixture, caption, labelled
from anon_export.demo.training.data import Jitter, Labels, Photos, groups_of_copies, load_photos, split, vary
from anon_export.demo.training.denoiser import Windows
from anon_export.demo.training.face_networks import (
    Lesson,
    attribute_crop,
    balanced,
    disguised_lesson,
    face_loss,
    train_face_network,
)
from anon_export.demo.training.reader import prompt_and_facts
from anon_export.demo.training.teachers import KNOWN
from anon_runtime import Anonymizer
from anon_runtime.diffusion.text_encoder import split_windows
from anon_runtime.errors import UsageError
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts

STILL = Jitter(shift=0, scale=0, turn=0, light=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty labelled images of coarse noise; the last one is the first, a little darker."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (12, 12, 3), dtype=np.uint8) for _ in range(19)]
    rows = []
    for i, image in enumerate([*noise, (noise[0] * 0.9).astype(np.uint8)]):
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(folder / "photos" / f"{i:03}.png")
        points = {f"{p}_{a}": 100 for p in ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth") for a in "xy"}
        row = {"file": f"{i:03}.png", "age": 30, "ethnicity": "asian"} | {f"box_{key}": 60 for key in "xywh"} | points
        rows.append(row | dict.fromkeys(CELEBA, i % 2) | {"Attractive": ""})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return load_photos(folder)


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels.csv and photos/"):
        load_photos(tmp_path / "none")


def test_near_copies_are_never_on_two_sides(photos: Photos) -> None:
    group = groups_of_copies(photos)
    assert group[19] == group[0]
    assert len(set(group)) == 19
    trained, held_out = split(photos)
    assert len(held_out) >= 4
    assert sorted(trained.names + held_out.names) == sorted(photos.names)
    assert ("000.png" in held_out.names) == ("019.png" in held_out.names)


def test_images_without_jitter_are_the_photos_or_their_mirror_images(photos: Photos) -> None:
    varied = vary(photos.pixels, 256, STILL, np.random.default_rng(1))
    plain = photos.pixels.float() / 127.5 - 1
    mirrored = [bool((a - b.flip(-1)).abs().max() < 1e-4) for a, b in zip(varied, plain, strict=True)]
    straight = [bool((a - b).abs().max() < 1e-4) for a, b in zip(varied, plain, strict=True)]
    assert all(m != s for m, s in zip(mirrored, straight, strict=True))
    assert 0 < sum(mirrored) < 20


def test_varied_images_differ_a_little(photos: Photos) -> None:
    jitter = Jitter(shift=0.02, scale=0.05, turn=3, light=0.1)
    varied = vary(photos.pixels, 96, jitter, np.random.default_rng(1))
    still = vary(photos.pixels, 96, STILL, np.random.default_rng(1))
    assert varied.shape == (20, 3, 96, 96)
    assert varied.abs().max() <= 1
    assert min((a - b).abs().mean() for a, b in zip(varied, still, strict=True)) > 0.01


def test_captions_are_algorithm_1_with_phrases_left_out(photos: Photos) -> None:
    rng, person = np.random.default_rng(0), labelled(photos, 1)
    phrases = {p.strip() for style in ("paper", "natural") for p in write_prompts(person, style)[0].split(",")}
    for _ in range(30):
        written = caption(photos, 1, Mixture(negative=0, empty=0), rng)
        assert written.startswith("closeup portrait photo of a asian ")
        assert "man, " in written
        assert {p.strip() for p in written.split(",")[1:]} <= phrases


def test_negative_and_empty_captions(photos: Photos) -> None:
    rng = np.random.default_rng(0)
    kinds = [caption(photos, 0, Mixture(negative=0.5, empty=0.2, strangers=0), rng) for _ in range(300)]
    assert 30 < kinds.count("") < 90
    assert 100 < sum(text.startswith(" ") for text in kinds) < 200
    assert labelled(photos, 1)["Attractive"] == 0


def test_windows_are_the_runtimes(demo_model: Path, anonymizer: Anonymizer) -> None:
    windows = Windows(CLIPTokenizer.from_pretrained(demo_model / "tokenizer"))
    prompts = ["", "closeup portrait photo of a white 34 woman, Smiling , ", " Wavy_Hair , " * 40]
    expected = np.stack([split_windows(anonymizer.generator.tokenizer, prompt, 3)[:3] for prompt in prompts])
    np.testing.assert_array_equal(windows(prompts, 3).numpy(), expected.reshape(3, -1))
    assert windows(prompts, 1).shape == (3, 77)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", -1)  # after every step

    def fit(folder: Path, most: int) -> nn.Linear:
        """Train a line; the power fails before step ``most``."""
        torch.manual_seed(0)
        model, calls = nn.Linear(4, 1), []

        def loss(rng: np.random.Generator) -> torch.Tensor:
            calls.append(1)
            if len(calls) > most:
                raise KeyboardInterrupt
            predicted: torch.Tensor = model(torch.randn(8, 4) + rng.random())
            return (predicted**2).mean()

        with contextlib.suppress(KeyboardInterrupt):
            loop.train(model, loss, loop.Recipe("line", 12, 0.01), folder, 5)
        return model

    whole = fit(tmp_path / "a", 99)
    fit(tmp_path / "b", 5)
    resumed = fit(tmp_path / "b", 99)
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    assert resumed.weight.abs().max() < 1


def plain(photos: Photos) -> Lesson:
    """Two variants of every photo, as lessons hold them."""
    crops = torch.stack([photos.pixels[..., :224, :224], photos.pixels[..., 32:, 32:]])
    labels = (photos.attributes, photos.ages, photos.ethnicities)
    attributes, ages, ethnicities = (tensor.expand(2, *tensor.shape) for tensor in labels)
    return Lesson(crops, attributes, ages, ethnicities, torch.zeros(2, len(photos), 0))


def test_what_nobody_judged_teaches_nothing(photos: Photos) -> None:
    _, labels, _ = plain(photos).at(np.zeros(2, int), np.arange(2))
    labels.attributes[0], labels.ages[0], labels.ethnicities[0] = torch.nan, torch.nan, Labels.NOBODY
    sizes = len(CELEBA), OLDEST + 1, len(ETHNICITIES)
    attributes, ages, ethnicities = (torch.zeros(2, n, requires_grad=True) for n in sizes)
    face_loss(attributes, ages, ethnicities, labels, torch.ones(len(CELEBA))).backward()
    for logits in (attributes, ages, ethnicities):
        assert logits.grad is not None
        assert (logits.grad[0] == 0).all()
        assert (logits.grad[1] != 0).any()


def test_photos_are_chosen_by_share(photos: Photos) -> None:
    chances = balanced(photos, "Smiling", 0.4)
    has = photos.attributes[:, CELEBA.index("Smiling")].numpy() > 0
    assert chances.sum() == pytest.approx(1)
    assert chances[has].sum() == pytest.approx(0.4)


def test_a_face_network_learns_from_labels_and_from_teachers(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_networks, "BATCH", 8)
    lesson, weights = plain(photos), []
    for features in (lesson.features, torch.randn(2, len(photos), 5).half()):
        torch.manual_seed(0)
        net, folder = FaceNet(closeup=True), tmp_path / str(features.shape[-1])
        recipe = loop.Recipe("net", 2, 1e-3)
        train_face_network(net, lesson._replace(features=features), None, recipe, folder, seed=0)
        assert not net.training
        assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
        weights.append(net.attributes.weight)
    assert (weights[0] != weights[1]).any()


class Agreeable:
    """Teachers who think that everybody smiles and is a man."""

    def __call__(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(crops), 2), crops[:, :, :2, 0].flatten(1).float()


def test_lessons_hold_the_mean_of_both_opinions(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_networks, "CUTS", 1)
    few = photos.only(np.arange(10))
    lesson = disguised_lesson(few, attribute_crop, Agreeable())
    assert lesson.crops.shape == (2, 10, 3, 224, 224)
    assert lesson.features.shape == (2, 10, 6)
    for name in KNOWN:
        assert set(lesson.attributes[..., CELEBA.index(name)].unique().tolist()) <= {0.5, 1.0}
    others = [i for i, name in enumerate(CELEBA) if name not in KNOWN]
    assert set(lesson.attributes[..., others].nan_to_num(0).unique().tolist()) == {0.0, 1.0}


def test_standardised_latents_decode_to_the_same_images(photos: Photos) -> None:
    vae = make_parts(DEMO).vae.eval()
    images = vary(photos.pixels[:4], 96, STILL, np.random.default_rng(0))
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mean).sample
        noise = vae.encode(images).latent_dist.std / encode(vae, images).std(dim=(0, 2, 3), keepdim=True)
        standardise(vae, encode(vae, images))
        after = vae.encode(images).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, before, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after.std, noise, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-3, atol=1e-4)


def test_the_readers_facts_are_what_the_prompt_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompt, facts = prompt_and_facts(rng)
        attributes, ethnicity, (man, woman), (age, positive) = np.split(facts, [40, 46, 48])
        assert prompt.count(" ,") == attributes.sum()
        assert positive == prompt.startswith("closeup") == ethnicity.sum() == man + woman
        if positive:
            assert f"{ETHNICITIES[int(ethnicity.argmax())]} {age * 100:.0f} " in prompt
            assert (" woman, " in prompt) == woman
