"""Memorisation: does the generator paint the pictures that it was trained on?

Each anonymized image has a nearest picture in the training set: by every identity encoder, and by pixels (Carlini et
al., Extracting Training Data from Diffusion Models, 2023, arXiv 2301.13188; by face-recognition networks Shahreza and
Marcel, Unveiling Synthetic Faces, 2024, arXiv 2410.24015). How near is too near? No fixed number says that, because
people resemble each other. The yardstick is therefore real people who are not in the training set, the outsiders, and
how near their nearest training picture is: by the same encoder and among as many pictures. A generator without memory,
which paints people as they come, is as near as they are.

What is fair, and what is not:

- No image is left out, and no training picture. If an image's own original is in the training set, the similarity to it
  counts, because this memory harms the person. But such an image may also be near because its words describe that
  original, and the generator follows them. The words of the other images describe nobody in the training set. Both
  groups are therefore given alone, and the second one says whether the generator has a memory.
- An outsider who is a near copy of a training picture is none, because a copy is nearer than any stranger. Thumbnails
  do not find all copies: other light, another crop, another photo of the person. A few of them among the outsiders
  raise the threshold, and hide memory. The nearest outsiders are therefore listed beside their training pictures: look
  at them, and leave the copies out of the list of held-out originals.
- Outsiders are photographed, and images are made. A network may find made faces more alike than real ones, or, if they
  are blurred, less. By pixels the share of near copies is given as well, which needs no yardstick.
- A share above chance does not say which images are copies. Look at the nearest ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anon_export.calibrate_guard import thumbnail
from anon_export.near_copies import ALIKE, SIDE
from anon_runtime.types import Pixels

from ..metrics import FEWEST
from .encoders import Embedded, Points
from .labels import HELD_OUT
from .nearness import compare
from .pairs import ImageFile
from .reidentification import BINS, Metric, similarity
from .requirements import MissingError
from .study import Faces, Study
from .types import Figures, Mask, Vector

LISTED = 20  # images that are listed with their nearest training pictures
_BLOCK = 512  # images whose similarities are in memory at once


class Nearest(NamedTuple):
    """The nearest training pictures of n images.

    Attributes:
        similarity: float (n,).
        picture: int (n,), the row of the picture.
    """

    similarity: Vector
    picture: NDArray[np.int64]


class Thumbnails:
    """Pixels as an encoder: the embedding is a thumbnail, as `anon_export.near_copies` compares them."""

    name, version = "pixels", f"{SIDE} x {SIDE}"
    metric: Metric = "cosine"

    def locate(self, image: Pixels) -> Points:
        """No points, because the whole image is used."""
        return np.empty((0, 2))

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """1728 numbers, 0..255."""
        return thumbnail(image)


def evaluate_memorisation(study: Study) -> Figures:
    """Compare the images of each method with the training set, by every encoder and by pixels.

    Returns:
        The numbers of pictures and people, and for each of the ``encoders`` and ``methods``: `compare` of all images,
        of those whose own original is an outsider (held out) and of those where it is in the training set (not held
        out); a histogram in `BINS`; the nearest images as image, training picture and similarity. Histogram and nearest
        are given of the ``outsiders``, too. Only ``missing``, with a message, if the training set is not known.
    """
    if study.training is None:
        fix = "name the folder of the generator's training pictures with --training-set"
        return {"missing": str(MissingError("memorisation", "the training set is not known", fix))}
    pixels = centre(study.embed(Thumbnails()))
    inside, outsiders = find_outsiders(study, nearest(pixels.gallery, pixels).similarity)
    every = {**study.faces, Thumbnails.name: pixels}
    return {
        "training pictures": len(study.training),
        "originals in the training set": int(inside.sum()),
        "outsiders": int(outsiders.sum()),
        "encoders": {
            name: _evaluate_encoder(study, faces, inside, outsiders, ALIKE if faces is pixels else None)
            if isinstance(faces, Faces)
            else faces
            for name, faces in every.items()
        },
    }


def _evaluate_encoder(study: Study, faces: Faces, inside: Mask, outsiders: Mask, alike: float | None) -> Figures:
    gallery = nearest(faces.gallery, faces)
    yardstick = gallery.similarity[outsiders]
    rows: Figures = {}
    for method in study.methods:
        own, found = list(method.pairs), nearest(faces.methods[method.name], faces)
        near = found.similarity
        groups = {name: near[mask[own]] for name, mask in ((HELD_OUT, outsiders), ("not held out", inside))}
        rows[method.name] = {
            "all": compare(near, yardstick, alike),
            "groups": {name: compare(some, yardstick, alike) for name, some in groups.items() if len(some) >= FEWEST},
            "histogram": _histogram(near),
            "nearest": _list(study, list(method.pairs.values()), found),
        }
    strangers = [original for original, outside in zip(study.originals, outsiders, strict=True) if outside]
    found = Nearest(yardstick, gallery.picture[outsiders])
    return {
        "metric": faces.metric,
        "outsiders": {"histogram": _histogram(yardstick), "nearest": _list(study, strangers, found)},
        "methods": rows,
    }


def _list(study: Study, images: Sequence[ImageFile], found: Nearest) -> list[list[str | float]]:
    """Names of the images that are nearest to the training set, of their training pictures, and their similarity."""
    pictures = [picture.name for picture in study.training or ()]
    first = np.argsort(-found.similarity, kind="stable")[:LISTED]
    return [
        [images[i].name, pictures[found.picture[i] % len(pictures)], float(found.similarity[i])]  # mirrored ones follow
        for i in first
    ]


def _histogram(near: Vector) -> list[int]:
    """Numbers of images by the similarity of their nearest training picture, in `BINS`."""
    counts: list[int] = np.histogram(np.clip(near, -1, 1), BINS)[0].tolist()
    return counts


def centre(pixels: Faces) -> Faces:
    """Thumbnails whose cosine is the correlation of `anon_export.near_copies`.

    The mean of the training set is subtracted from all. Mirrored training pictures are added, because many generators
    are trained with them.
    """
    assert pixels.training is not None
    own = pixels.training.vectors
    mirrored = own.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(own.shape)
    training = np.concatenate([own, mirrored])
    mean = training.mean(axis=0)

    def shift(thumbnails: Embedded) -> Embedded:
        return thumbnails._replace(vectors=thumbnails.vectors - mean)

    return replace(
        pixels,
        gallery=shift(pixels.gallery),
        methods={name: shift(made) for name, made in pixels.methods.items()},
        training=shift(Embedded(training, np.tile(pixels.training.faceless, 2))),
    )


def find_outsiders(study: Study, near: Vector) -> tuple[Mask, Mask]:
    """Which originals are in the training set, and which ones are outsiders, (n,) each.

    An original is in the training set if its file is, or a near copy of it, or one of a photo that shows the same
    person. The outsiders are the others; where the held-out originals are known, those of the others.

    Args:
        study: with a training set.
        near: (n,), the correlation of each original with its nearest training picture.
    """
    digests = {picture.digest for picture in study.training or ()}
    found = np.array([original.digest in digests for original in study.originals]) | (near >= ALIKE)
    inside = np.isin(study.people, study.people[found])
    return inside, ~inside if study.held_out is None else ~inside & study.held_out


def nearest(images: Embedded, faces: Faces) -> Nearest:
    """The nearest training pictures of images that were embedded as ``faces`` were."""
    assert faces.training is not None
    similarities, pictures = [np.empty(0)], [np.empty(0, np.int64)]
    for start in range(0, len(images.vectors), _BLOCK):
        likeness = similarity(images.vectors[start : start + _BLOCK], faces.training.vectors, faces.metric)
        similarities.append(likeness.max(axis=1))
        pictures.append(likeness.argmax(axis=1))
    return Nearest(np.concatenate(similarities), np.concatenate(pictures))
