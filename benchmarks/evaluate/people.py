"""The people of the originals: near copies of a photo show one person, who must be on one side of every split."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anon_export.calibrate_guard import thumbnail
from anon_export.near_copies import group_copies

from .pairs import ImageFile
from .types import Mask

Numbers = NDArray[np.int64]
FOLDS = 5


def find_people(images: Sequence[ImageFile]) -> Numbers:
    """The number of each image's person (n,): that of the first image that is a near copy of it.

    Near copies are found by the correlation of thumbnails, and not by a network that is to be evaluated; see
    `anon_export.near_copies.group_copies`. Two different photos of one person are two people.
    """
    return group_copies(np.stack([thumbnail(image.pixels()) for image in images]))


def folds(people: Numbers, count: int = FOLDS, seed: int = 0) -> Iterator[Mask]:
    """Split images into test sets of about the same number of people, at random.

    Args:
        people: (n,), see `find_people`; all images of a person are in one set.
        count: number of sets.
        seed: of the random order.

    Yields:
        (n,) for each set, the images in it; each image is in one of them.
    """
    members = np.random.default_rng(seed).permutation(np.unique(people))
    for some in np.array_split(members, count):
        yield np.isin(people, some)
