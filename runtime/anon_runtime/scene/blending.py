"""Smooth continuation of colours into a region, from what lies around it."""

import numpy as np

from ..faces.geometry import Reals, sample_bilinear
from ..types import Mask, Pixels

ROUNDS = 20  # of smoothing; the continuation is smooth already except for steps between its levels


def extend(values: Reals | Pixels, known: Mask) -> Reals:
    """Return an image whose unknown pixels continue the known ones smoothly.

    Averages over ever larger blocks are taken of the known pixels alone, and unknown pixels get the average of the
    smallest block that has one (pull-push; Gortler et al., 1996). Some rounds of Jacobi's method for Laplace's equation
    remove the steps between blocks.

    Args:
        values: (height, width, channels); what is unknown is not looked at.
        known: bool (height, width). If nothing is known, everything becomes 0.

    Returns:
        float32 of the same shape.
    """
    found = _pull_push(np.where(known[..., None], values, 0).astype(np.float32), known)
    for _ in range(ROUNDS):
        padded = np.pad(found, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        found = np.where(known[..., None], found, around / 4)
    return found


def _pull_push(values: Reals, known: Mask) -> Reals:
    height, width = known.shape
    if known.all() or not known.any() or height == width == 1:
        return values
    even = ((0, height % 2), (0, width % 2))
    weights = np.pad(known, even)[..., None].astype(np.float32)
    sums = np.pad(values, (*even, (0, 0))) * weights
    blocks = sums.shape[0] // 2, 2, sums.shape[1] // 2, 2, -1
    counts = weights.reshape(blocks).sum(axis=(1, 3))
    means = sums.reshape(blocks).sum(axis=(1, 3)) / np.maximum(counts, 1)
    coarse = _pull_push(means, counts[..., 0] > 0)
    ys, xs = (np.mgrid[:height, :width] + 0.5) / 2 - 0.5
    return np.where(known[..., None], values, sample_bilinear(coarse, xs, ys, outside="edge"))
