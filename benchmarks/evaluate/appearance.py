"""What a face looks like, in numbers that need no trained network: gradients of the face, colours of it and around it.

Histograms of oriented gradients (Dalal and Triggs, 2005) were the standard feature before networks. They see no colour
and only the face; a small image of the face with a margin adds the colours of skin and hair.
"""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import numpy as np
from PIL import Image
from skimage.feature import hog
from tqdm import tqdm

from anon_runtime.types import Pixels

from .cache import Cache
from .pairs import ImageFile
from .types import Vector

FACE = 64  # pixels of the grey face along each side
COLOURS = 12  # pixels of the small colour image along each side
MARGIN = 0.3  # share of the box's width and height that the colour image has on each side: hair is there
VERSION = f"1 scikit-image {version('scikit-image')}"


def describe(image: Pixels, box: Sequence[float] | None) -> Vector:
    """The features (d,) of a face, float32.

    Args:
        image: uint8 (height, width, 3), RGB.
        box: x, y, width and height of the face in pixels; None takes the whole image.
    """
    height, width = image.shape[:2]
    x, y, w, h = (0.0, 0.0, float(width), float(height)) if box is None else box
    face = np.asarray(_cut(image, x, y, w, h, FACE).convert("L"), np.float32) / 255
    gradients = hog(face, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys")
    around = _cut(image, x - MARGIN * w, y - MARGIN * h, (1 + 2 * MARGIN) * w, (1 + 2 * MARGIN) * h, COLOURS)
    return np.concatenate([gradients, np.asarray(around, np.float32).ravel() / 255]).astype(np.float32)


def _cut(image: Pixels, x: float, y: float, w: float, h: float, side: int) -> Image.Image:
    """A box at ``side`` x ``side`` pixels; beyond the edges of the image, its outermost pixels are repeated."""
    left, top = int(np.floor(x)), int(np.floor(y))
    right, bottom = max(left + 1, int(np.ceil(x + w))), max(top + 1, int(np.ceil(y + h)))
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    height, width = image.shape[:2]
    crop = image[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    return Image.fromarray(crop).resize((side, side), Image.Resampling.BOX)


def describe_all(images: Sequence[ImageFile], boxes: Vector, cache: Cache, what: str) -> Vector:
    """The features (n, d) of images.

    Args:
        images: n files.
        boxes: (n, 4), x, y, width and height of the faces; NaN takes the whole image.
        cache: of features, with `VERSION`; it is saved at the end of its block.
        what: for the progress bar.
    """
    found = []
    for image, box in zip(tqdm(images, desc=f"appearance: {what}", unit="image"), boxes.tolist(), strict=True):
        own = None if np.isnan(box).any() else box
        key = f"{image.digest} {'' if own is None else ' '.join(f'{value:.1f}' for value in own)}"
        found.append(cache.get(key, partial(_describe_file, image, own)))
    return np.stack(found)


def _describe_file(image: ImageFile, box: Sequence[float] | None) -> Vector:
    return describe(image.pixels(), box)
