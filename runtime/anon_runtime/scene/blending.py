"""Smooth continuation of colours into a region, from what lies around it."""

import numpy as np
from PIL import Image

from ..faces.geometry import Reals, sample_bilinear
from ..types import Mask, Pixels

FINEST = 512  # pixels of the longer side; a continuation is smooth, so that a larger one is computed at this size
ROUNDS = 20  # of smoothing; the continuation is smooth already except for steps between its levels


def extend(values: Reals | Pixels, known: Mask) -> Reals:
    """Return an image whose unknown pixels continue the known ones smoothly.

    Averages over ever larger blocks are taken of the known pixels alone, and unknown pixels get the average of the
    smallest block that has one (pull-push; Gortler et al., 1996). Some rounds of Jacobi's method for Laplace's equation
    remove the steps between blocks. Of an image that is larger than `FINEST`, averages over blocks are continued, and
    then enlarged.

    Args:
        values: (height, width, channels); what is unknown is not looked at.
        known: bool (height, width). If nothing is known, everything becomes 0.

    Returns:
        float32 of the same shape.
    """
    blank = np.where(known[..., None], values, 0).astype(np.float32)
    factor = -(-max(known.shape) // FINEST)
    if factor == 1:
        return _smooth(blank, known)
    means, some = _average(blank, known, factor)
    return np.where(known[..., None], blank, _enlarge(_smooth(means, some), factor, known.shape))


def _smooth(values: Reals, known: Mask) -> Reals:
    found = _pull_push(values, known)
    for _ in range(ROUNDS):
        padded = np.pad(found, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        found = np.where(known[..., None], found, around / 4)
    return found


def _pull_push(values: Reals, known: Mask) -> Reals:
    height, width = known.shape
    if known.all() or not known.any() or height == width == 1:
        return values
    coarse = _pull_push(*_average(values, known, 2))
    ys, xs = (np.mgrid[:height, :width] + 0.5) / 2 - 0.5
    return np.where(known[..., None], values, sample_bilinear(coarse, xs, ys, outside="edge"))


def _average(values: Reals, known: Mask, factor: int) -> tuple[Reals, Mask]:
    """Average what is known over blocks, and tell which blocks have something known."""
    share = _reduce(known.astype(np.float32), factor)
    some = share > 0
    sums = [_reduce(np.where(known, values[..., i], np.float32(0)), factor) for i in range(values.shape[2])]
    return np.stack(sums, axis=-1) / np.where(some, share, np.float32(1))[..., None], some


def _reduce(values: Reals, factor: int) -> Reals:
    return np.asarray(Image.fromarray(values).reduce(factor))


def _enlarge(values: Reals, factor: int, shape: tuple[int, ...]) -> Reals:
    """Enlarge an image bilinearly, and cut it to a height and a width."""
    size = values.shape[1] * factor, values.shape[0] * factor
    channels = [Image.fromarray(np.ascontiguousarray(values[..., i])) for i in range(values.shape[2])]
    enlarged = [np.asarray(channel.resize(size, Image.Resampling.BILINEAR)) for channel in channels]
    return np.stack(enlarged, axis=-1)[: shape[0], : shape[1]]
