"""Training the attribute, age and ethnicity networks on crops made by the runtime's own code."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm, trange

from anon_runtime.backends.base import load_engine
from anon_runtime.faces.attributes import CELEBA, CLIP_MEAN, CLIP_STD, deepface_crop, farl_crop
from anon_runtime.faces.detection import DETECTORS, Face, biggest_face, detect

from ..faces import export_centerface, find_centerface
from ..networks import OLDEST, FaceNet
from .data import SIDE, Jitter, Labels, Photos, vary
from .disguise import disguise
from .loop import HALF, Recipe, train
from .teachers import KNOWN

BATCH = 48
CUTS, DISGUISES = 10, 2  # crops of each photo, and disguises of each crop
SMALLEST = 80  # pixels of a photo's side, because faces can be small
JITTER = Jitter(shift=0.03, scale=0.08, turn=8, light=0.2)
# Kinds of margins around a photo: the crop of a large face reaches beyond the photo.
SURROUNDINGS = ("none", "edge", "symmetric", "colour")
AGE_SPREAD = 3.0  # years: the labels are not more exact
KNOWN_WEIGHT = 5  # of the attributes that the teachers know, which are the most noticeable ones
Crop = Callable[[NDArray[np.uint8], Face], Tensor]
# Crops to scores of the attributes `KNOWN` and features; see `teachers.Teachers`.
Teacher = Callable[[Tensor], tuple[Tensor, Tensor]]


def attribute_crop(image: NDArray[np.uint8], face: Face) -> Tensor:
    """The input of FaRL's stand-in: uint8 (3, 224, 224), RGB."""
    unit = farl_crop(image, face) * CLIP_STD[:, None, None] + CLIP_MEAN[:, None, None]
    return torch.from_numpy(unit * 255).round().clamp(0, 255).to(torch.uint8)


def demography_crop(image: NDArray[np.uint8], face: Face) -> Tensor:
    """The input of DeepFace's stand-in: uint8 (3, 224, 224), RGB."""
    unit = np.ascontiguousarray(deepface_crop(image, face)[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(unit * 255).round().clamp(0, 255).to(torch.uint8)


class Lesson(NamedTuple):
    """Several variants of the crop of each photo, with labels.

    Attributes:
        crops: uint8 (count, n, 3, 224, 224), RGB.
        attributes, ages, ethnicities: (count, n, ...), see `Labels`.
        features: the teachers' features, each of mean 0 and variance 1: float16 (count, n, FEATURES), or (count, n, 0).
    """

    crops: Tensor
    attributes: Tensor
    ages: Tensor
    ethnicities: Tensor
    features: Tensor

    def at(self, variants: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[Tensor, Labels, Tensor]:
        """Crops, labels and features of some variants of some photos."""
        labels = Labels(self.attributes, self.ages, self.ethnicities).at(variants, rows)
        return self.crops[variants, rows], labels, self.features[variants, rows].float()


def plain_lesson(photos: Photos, crop: Crop, count: int, *, surrounded: bool) -> Lesson:
    """Crops of the photos, see `cut`, with the photos' labels."""
    crops = cut(photos, crop, count, surrounded=surrounded)
    labels = (photos.attributes, photos.ages, photos.ethnicities)
    attributes, ages, ethnicities = (tensor.expand(len(crops), *tensor.shape) for tensor in labels)
    return Lesson(crops, attributes, ages, ethnicities, torch.zeros(*crops.shape[:2], 0))


def disguised_lesson(photos: Photos, crop: Crop, teachers: Teacher) -> Lesson:
    """Crops in random disguises with the remaining labels. Those of `KNOWN` are averaged with the teachers' scores."""
    plain, rng = plain_lesson(photos, crop, CUTS, surrounded=True), np.random.default_rng(7)
    count, n = plain.crops.shape[:2]
    rounds = [_disguised(plain, i % count, rng) for i in trange(count * DISGUISES, desc="disguises", unit="round")]
    crops, attributes, ages, ethnicities = (torch.stack(tensors) for tensors in zip(*rounds, strict=True))
    parts = crops.flatten(0, 1).split(BATCH)
    seen = [teachers(part) for part in tqdm(parts, desc="teachers", unit="batch", mininterval=2)]
    scores, features = (torch.cat(tensors).view(len(crops), n, -1) for tensors in zip(*seen, strict=True))
    known = [CELEBA.index(name) for name in KNOWN]
    attributes[..., known] = torch.stack([attributes[..., known], scores]).nanmean(dim=0)
    mean, deviation = features.mean(dim=(0, 1)), features.std(dim=(0, 1)).clamp(min=1e-3)
    return Lesson(crops, attributes, ages, ethnicities, ((features - mean) / deviation).clamp(-5, 5).half())


def _disguised(lesson: Lesson, variant: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Each photo's crop in a random disguise, and its labels."""
    order = rng.permutation(lesson.crops.shape[1])
    parts = []
    for rows in np.array_split(order, -(-len(order) // BATCH)):
        pixels, labels, _ = lesson.at(np.full_like(rows, variant), rows)
        images, left = disguise(pixels.float() / 127.5 - 1, labels, rng)
        parts.append((((images + 1) * 127.5).round().to(torch.uint8), left.attributes, left.ages, left.ethnicities))
    back = np.argsort(order)
    return tuple(torch.cat(tensors)[back] for tensors in zip(*parts, strict=True))


def balanced(photos: Photos, name: str, share: float) -> NDArray[np.float64]:
    """The probability of each photo (n,) with which this share of the chosen photos has an attribute."""
    has = photos.attributes[:, CELEBA.index(name)].numpy() > 0.5
    chances: NDArray[np.float64] = np.where(has, share / max(1, has.sum()), (1 - share) / max(1, (~has).sum()))
    return chances


def train_face_network(
    net: FaceNet, lesson: Lesson, chances: NDArray[np.float64] | None, recipe: Recipe, checkpoints: Path, seed: int
) -> None:
    """Train one network on all three tasks, and to predict the teachers' features.

    Args:
        net: trained in place, in bfloat16 where the processor has it.
        lesson: the training data.
        chances: the probability of each photo (n,); None is the same for all.
        recipe: steps and learning rate.
        checkpoints: the folder of checkpoints.
        seed: of the random numbers.
    """
    (count, n), seen = lesson.crops.shape[:2], lesson.features.shape[-1]
    torch.manual_seed(seed)
    readout = nn.Linear(net.attributes.in_features, seen) if seen else nn.Identity()  # used in training only
    weights = torch.tensor([float(KNOWN_WEIGHT if seen and name in KNOWN else 1) for name in CELEBA])

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.choice(n, BATCH, replace=False, p=chances)
        pixels, labels, expected = lesson.at(rng.integers(0, count, BATCH), rows)
        images = vary(pixels, pixels.shape[-1], JITTER, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
            features = net.features(images)
            logits, read = net.heads(features), readout(features)
        guide = functional.mse_loss(read.float(), expected) if seen else 0
        attributes, age, race = (tensor.float() for tensor in logits)
        return face_loss(attributes, age, race, labels, weights) + guide

    train(nn.ModuleDict({"net": net, "readout": readout}), loss, recipe, checkpoints, seed)


def find_faces(photos: Photos) -> list[Face]:
    """The face that the demo's detector finds in each photo, or the labelled one if it finds none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        export_centerface(find_centerface(), path)
        engine, detector = load_engine("onnxruntime", path), DETECTORS["centerface"]
        faces = []
        for i in tqdm(range(len(photos)), desc="faces", unit="photo", mininterval=2):
            found = detect(engine, detector, [photos.image(i)], detector.threshold)[0]
            x, y, w, h = map(float, photos.boxes[i])
            faces.append(biggest_face(found, SIDE, SIDE) if found else Face((x, y, w, h), 1.0, photos.landmarks[i]))
    return faces


def cut(photos: Photos, crop: Crop, count: int, *, surrounded: bool) -> Tensor:
    """Crops of photos at several sizes, with random errors of boxes and landmarks: uint8 (count, n, 3, 224, 224).

    Args:
        photos: to crop.
        crop: makes a network's input.
        count: crops of each photo.
        surrounded: add margins of several kinds around the photos.
    """
    rng, faces = np.random.default_rng(4), find_faces(photos)
    variants = [
        torch.stack([crop(*_unsteady(photos.image(i), face, rng, surrounded)) for i, face in enumerate(faces)])
        for _ in trange(count, desc="crops", unit="round")
    ]
    return torch.stack(variants)


def _unsteady(
    image: NDArray[np.uint8], face: Face, rng: np.random.Generator, surrounded: bool
) -> tuple[NDArray[np.uint8], Face]:
    """The photo at a random size, with a margin if wanted, and the face with a detector's random errors."""
    side = int(rng.integers(SMALLEST, SIDE + 1))
    scaled = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    whole, margin = _surround(scaled, rng) if surrounded else (scaled, 0)
    x, y, w, h = np.array(face.box) + rng.normal(0, 0.025, 4) * face.box[2]
    corners = np.array([x, y, x + w, y + h]) * side / SIDE + margin
    left, top, right, bottom = np.clip(corners, 0, len(whole))
    landmarks = (face.landmarks + rng.normal(0, 0.02, (5, 2)) * face.box[2]) * side / SIDE + margin
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return whole, Face(box, face.score, landmarks.astype(np.float32))


def _surround(image: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """An image with a random kind of margin of half its side, or without one; and the width of the margin."""
    kind = SURROUNDINGS[rng.integers(len(SURROUNDINGS))]
    if kind == "none":
        return image, 0
    margin = len(image) // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    if kind != "colour":
        return np.pad(image, around, mode="edge" if kind == "edge" else "symmetric"), margin
    padded = np.empty((2 * margin + len(image), 2 * margin + len(image), 3), np.uint8)
    padded[:] = rng.integers(0, 256, 3)
    padded[margin:-margin, margin:-margin] = image
    return padded, margin


def face_loss(attributes: Tensor, age: Tensor, race: Tensor, labels: Labels, weights: Tensor) -> Tensor:
    """Cross-entropies of attributes, age (a normal distribution around the label) and ethnicity, where labelled.

    Args:
        attributes, age, race: logits (n, 40), (n, 101) and (n, 6).
        labels: n of them.
        weights: of the attributes (40,).
    """
    judged, dated = ~labels.attributes.isnan(), ~labels.ages.isnan()
    targets, parts = labels.attributes[judged].clamp(0.03, 0.97), weights.expand_as(judged)[judged]
    scores = functional.binary_cross_entropy_with_logits(attributes[judged], targets, parts)
    age, known, years = age[dated], labels.ages[dated], torch.arange(OLDEST + 1)
    bell = torch.softmax(-0.5 * ((years - known[:, None]) / AGE_SPREAD) ** 2, dim=1)
    expected = (torch.softmax(age, 1) * years).sum(dim=1)
    ages = functional.cross_entropy(age, bell) + functional.smooth_l1_loss(expected, known, beta=3) / 5
    races = functional.cross_entropy(race, labels.ethnicities, label_smoothing=0.1, ignore_index=Labels.UNLABELLED)
    return 2 * scores + 0.3 * ages + 0.5 * races
