"""Training the attribute, age and ethnicity networks on crops that the runtime's own code cuts."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from anon_runtime.attributes import CLIP_MEAN, CLIP_STD, deepface_crop, farl_crop
from anon_runtime.backends import load_engine
from anon_runtime.faces import DETECTORS, Face, biggest_face, detect

from ..faces import build_centerface, find_centerface
from ..networks import OLDEST, FaceNet
from .data import SIDE, Jitter, Photos, vary
from .loop import Recipe, train

BATCH = 48
SMALLEST = 80  # pixels of a photo's side: faces also come small
JITTER = Jitter(shift=0.03, scale=0.08, turn=8, light=0.2)
SURROUNDINGS = ("none", "edge", "symmetric", "colour")  # of a photo: crops of a face that fills it reach beyond it
AGE_SPREAD = 3.0  # years; the labels know no better
Crop = Callable[[NDArray[np.uint8], Face], Tensor]


def attribute_crop(picture: NDArray[np.uint8], face: Face) -> Tensor:
    """What FaRL's stand-in sees: uint8 (3, 224, 224), RGB."""
    unit = farl_crop(picture, face) * CLIP_STD[:, None, None] + CLIP_MEAN[:, None, None]
    return torch.from_numpy(unit * 255).round().clamp(0, 255).to(torch.uint8)


def demography_crop(picture: NDArray[np.uint8], face: Face) -> Tensor:
    """What DeepFace's stand-in sees: uint8 (3, 224, 224), RGB."""
    unit = np.ascontiguousarray(deepface_crop(picture, face)[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(unit * 255).round().clamp(0, 255).to(torch.uint8)


def train_face_network(net: FaceNet, crops: Tensor, photos: Photos, recipe: Recipe, checkpoints: Path) -> None:
    """Train one network on all three tasks.

    Args:
        net: trained in place.
        crops: of the photos, from `cut`.
        photos: to train on.
        recipe: how long and how fast.
        checkpoints: where the state is kept.
    """

    def loss(rng: np.random.Generator) -> Tensor:
        rows = rng.choice(len(photos), BATCH, replace=False)
        pixels = crops[rng.integers(0, len(crops), BATCH), rows]
        return face_loss(net, vary(pixels, pixels.shape[-1], JITTER, rng), photos.only(rows))

    train(net, loss, recipe, checkpoints, seed=3)


def find_faces(photos: Photos) -> list[Face]:
    """The face that the demo's detector finds in each photo; the labelled one where it finds none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        build_centerface(find_centerface(), path)
        engine, detector = load_engine("onnxruntime", path), DETECTORS["centerface"]
        faces = []
        for i in tqdm(range(len(photos)), desc="faces", unit="photo", mininterval=2):
            found = detect(engine, detector, [photos.picture(i)])[0]
            x, y, w, h = map(float, photos.boxes[i])
            faces.append(biggest_face(found, SIDE, SIDE) if found else Face((x, y, w, h), 1.0, photos.landmarks[i]))
    return faces


def cut(photos: Photos, crop: Crop, count: int, *, surrounded: bool) -> Tensor:
    """Crops of photos at several sizes, with unsteady boxes and landmarks: uint8 (count, n, 3, 224, 224).

    Args:
        photos: to crop.
        crop: what one of the networks sees.
        count: crops of each photo.
        surrounded: put photos into surroundings of several kinds.
    """
    rng, faces = np.random.default_rng(4), find_faces(photos)
    variants = [
        torch.stack([crop(*_unsteady(photos.picture(i), face, rng, surrounded)) for i, face in enumerate(faces)])
        for _ in tqdm(range(count), desc="crops", unit="round")
    ]
    return torch.stack(variants)


def _unsteady(
    picture: NDArray[np.uint8], face: Face, rng: np.random.Generator, surrounded: bool
) -> tuple[NDArray[np.uint8], Face]:
    """The photo at a chance size, perhaps in surroundings, and the face as a less certain detector would place it."""
    side = int(rng.integers(SMALLEST, SIDE + 1))
    scaled = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
    whole, margin = _surround(scaled, rng) if surrounded else (scaled, 0)
    x, y, w, h = np.array(face.box) + rng.normal(0, 0.025, 4) * face.box[2]
    corners = np.array([x, y, x + w, y + h]) * side / SIDE + margin
    left, top, right, bottom = np.clip(corners, 0, len(whole))
    landmarks = (face.landmarks + rng.normal(0, 0.02, (5, 2)) * face.box[2]) * side / SIDE + margin
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return whole, Face(box, face.score, landmarks.astype(np.float32))


def _surround(picture: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """A picture with a margin of half its side, filled in one of several ways, or as it is; and the margin."""
    kind = SURROUNDINGS[rng.integers(len(SURROUNDINGS))]
    if kind == "none":
        return picture, 0
    margin = len(picture) // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    if kind != "colour":
        return np.pad(picture, around, mode="edge" if kind == "edge" else "symmetric"), margin
    padded = np.empty((2 * margin + len(picture), 2 * margin + len(picture), 3), np.uint8)
    padded[:] = rng.integers(0, 256, 3)
    padded[margin:-margin, margin:-margin] = picture
    return padded, margin


def face_loss(net: FaceNet, pictures: Tensor, labels: Photos) -> Tensor:
    """Cross-entropies of attributes (where somebody judged), age (a bell around the label) and ethnicity."""
    attributes, age, race = net(pictures)
    judged = ~labels.attributes.isnan()
    targets = labels.attributes.nan_to_num().clamp(0.03, 0.97)
    scores = functional.binary_cross_entropy_with_logits(attributes[judged], targets[judged])
    years = torch.arange(OLDEST + 1)
    bell = torch.softmax(-0.5 * ((years - labels.ages[:, None]) / AGE_SPREAD) ** 2, dim=1)
    expected = (torch.softmax(age, 1) * years).sum(dim=1)
    ages = functional.cross_entropy(age, bell) + functional.smooth_l1_loss(expected, labels.ages, beta=3) / 5
    return 2 * scores + 0.3 * ages + 0.5 * functional.cross_entropy(race, labels.ethnicities, label_smoothing=0.1)
