"""How similar portraits are to an attacker's paintings, by pixels and by faces."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.spatial.distance import cdist

from anon_runtime.types import Pixels

from ..encoders import Dlib, Embedder, cache_of
from ..pairs import ImageFile, Method
from ..reidentification import similarity
from ..requirements import MissingError
from ..study import Study
from ..types import Mask, Vector

SIDE = 32  # pixels of the images that are compared; 64 and 96 found 0.3 points more of the demo's people at most
NO_PAINTING = -1.0


@dataclass(frozen=True)
class Attack:
    """How similar the n portraits of a method are to the attacker's paintings of the m originals.

    Attributes:
        name: what the attacker knows.
        similarities: (n, m), see `similarities`, or 1 - the distance of faces; `NO_PAINTING` for suspects without one.
        exact: (n,), portraits that the attacker has painted again without the difference of a single pixel.
    """

    name: str
    similarities: Vector
    exact: Mask


def compare(name: str, method: Method, paintings: Mapping[int, ImageFile], suspects: int) -> Attack:
    """Compare a method's portraits with paintings by their pixels.

    Args:
        name: of the attack.
        method: the portraits.
        paintings: by the index of their suspect.
        suspects: the number of originals.
    """
    portraits = list(method.pairs.values())
    exact = [
        suspect in paintings and np.array_equal(portrait.pixels(), paintings[suspect].pixels())
        for suspect, portrait in method.pairs.items()
    ]
    likeness = similarities(_pixels(portraits), _pixels(paintings.values())) if paintings else np.empty(0)
    return Attack(name, _spread(likeness, len(portraits), list(paintings), suspects), np.array(exact, bool))


def by_face(study: Study, method: Method, paintings: Mapping[int, ImageFile]) -> Vector:
    """Compare a method's portraits with paintings by the distance of dlib's embeddings of faces.

    Args:
        study: whose cache keeps the embeddings.
        method: the portraits.
        paintings: by the index of their suspect.

    Returns:
        1 - distances (n, m), or `NO_PAINTING`.

    Raises:
        MissingError: dlib is missing, or there are no paintings.
    """
    encoder = Dlib()
    if not paintings:
        raise MissingError("paintings", "no original shows a face", "use photos of faces")
    with cache_of(encoder, study.cache) as cache:
        embedder = Embedder(encoder, cache)
        portraits = embedder.method(study.originals, method).vectors
        made = embedder.method(study.originals, Method("paintings", paintings)).vectors
    likeness = similarity(portraits, made, encoder.metric)
    return _spread(likeness, len(portraits), list(paintings), len(study.originals))


def _spread(likeness: Vector, portraits: int, painted: Sequence[int], suspects: int) -> Vector:
    """Similarities to all suspects, from those to the suspects that were painted."""
    found = np.full((portraits, suspects), NO_PAINTING)
    found[:, painted] = likeness
    return found


def similarities(portraits: Iterable[Pixels], paintings: Iterable[Pixels]) -> Vector:
    """Similarities (n, m) of images by their pixels: 1 - the mean absolute difference, 0..1.

    Images are reduced to `SIDE` pixels first. Two different paintings differ more than a reduced image hides, and what
    JPEG and WebP change is averaged out.

    Args:
        portraits: n images, uint8 (height, width, 3).
        paintings: m images.
    """
    first, second = _reduce(portraits), _reduce(paintings)
    likeness: Vector = 1 - cdist(first, second, "cityblock") / first.shape[1]
    return likeness


def _reduce(images: Iterable[Pixels]) -> Vector:
    """Small images as rows (n, d), 0..1."""
    small = (Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX) for image in images)
    return np.stack([np.asarray(image, np.float64).ravel() for image in small]) / 255


def _pixels(images: Iterable[ImageFile]) -> Iterator[Pixels]:
    return (image.pixels() for image in images)
