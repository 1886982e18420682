from pathlib import Path

import numpy as np
import pytest
import torch

from anon_export.demo.networks import OLDEST, FaceNet
from anon_export.demo.training import face_networks, loop
from anon_export.demo.training.data import Labels, Photos
from anon_export.demo.training.face_networks import (
    Lesson,
    attribute_crop,
    balanced,
    disguised_lesson,
    face_loss,
    train_face_network,
)
from anon_export.demo.training.teachers import KNOWN
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES


def plain(photos: Photos) -> Lesson:
    """Two variants of every photo, as lessons hold them."""
    crops = torch.stack([photos.pixels[..., :224, :224], photos.pixels[..., 32:, 32:]])
    labels = (photos.attributes, photos.ages, photos.ethnicities)
    attributes, ages, ethnicities = (tensor.expand(2, *tensor.shape) for tensor in labels)
    return Lesson(crops, attributes, ages, ethnicities, torch.zeros(2, len(photos), 0))


def test_what_nobody_judged_teaches_nothing(photos: Photos) -> None:
    _, labels, _ = plain(photos).at(np.zeros(2, int), np.arange(2))
    labels.attributes[0], labels.ages[0], labels.ethnicities[0] = torch.nan, torch.nan, Labels.UNLABELLED
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
