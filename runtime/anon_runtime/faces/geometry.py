"""Geometry of images in numpy: bilinear sampling, similarity alignment, letterboxing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..types import Pixels

Reals = NDArray[np.floating[Any]]


def sample_bilinear(pixels: Pixels | Reals, xs: Reals, ys: Reals, *, outside: str) -> Reals:
    """Interpolate an image bilinearly at given coordinates.

    Args:
        pixels: (height, width, channels).
        xs: the x coordinates, of any shape; 0 is the centre of the first pixel.
        ys: the y coordinates, of the same shape.
        outside: ``zero`` counts pixels outside the image as 0 (like ``grid_sample`` with ``padding_mode="zeros"``);
            ``edge`` repeats the pixels at the border (like OpenCV's ``resize``).

    Returns:
        float32 of the coordinates' shape and the channels, in the units of the pixels.
    """
    height, width = pixels.shape[:2]
    left, top = np.floor(xs).astype(np.int64), np.floor(ys).astype(np.int64)
    fx, fy = (xs - left).astype(np.float32)[..., None], (ys - top).astype(np.float32)[..., None]

    def corner(x: NDArray[np.int64], y: NDArray[np.int64]) -> Reals:
        values = pixels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].astype(np.float32)
        if outside == "zero":
            values *= ((x >= 0) & (x < width) & (y >= 0) & (y < height))[..., None]
        return values

    upper = corner(left, top) * (1 - fx) + corner(left + 1, top) * fx
    lower = corner(left, top + 1) * (1 - fx) + corner(left + 1, top + 1) * fx
    return upper * (1 - fy) + lower * fy


def similarity(source: Reals, target: Reals) -> Reals:
    """Return the rotation, scaling and shift that maps points closest to other points (least squares).

    This mirrors facer's ``get_similarity_transform_matrix``.

    Args:
        source: (n, 2), x and y of the points to map.
        target: (n, 2), x and y of the points to reach.

    Returns:
        The matrix (2, 3) that maps source to target.
    """
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    p, q = source - from_mean, target - to_mean
    norm = np.square(p).sum()
    a = (p * q).sum() / norm
    b = (q[:, 0] * p[:, 1] - q[:, 1] * p[:, 0]).sum() / norm
    rotation = np.array([[a, b], [-b, a]])
    return np.column_stack([rotation, to_mean - rotation @ from_mean])


def align(pixels: Pixels, points: Reals, target: Reals, size: int) -> Reals:
    """Warp an image so that its landmarks lie on given points.

    This mirrors facer's ``get_face_align_matrix``, ``make_tanh_warp_grid(warp_factor=0)`` and
    ``grid_sample(mode="bilinear", align_corners=False)``, whose grid has the pixel centres at one half.

    Args:
        pixels: (height, width, channels).
        points: (n, 2), x and y of the landmarks in the image.
        target: (n, 2), x and y of the points that the landmarks are moved to.
        size: the side of the result in pixels.

    Returns:
        float32 (size, size, channels) in the units of the pixels; 0 outside the image.
    """
    return warp(pixels, similarity(points.astype(np.float64), target.astype(np.float64)), size, centre=0.5)


def warp(pixels: Pixels, matrix: Reals, size: int, *, centre: float) -> Reals:
    """Move an image by an affine map, and cut a square from the result.

    Args:
        pixels: (height, width, channels).
        matrix: (2, 3), from coordinates of the image to those of the result.
        size: the side of the result in pixels.
        centre: the coordinate of the centre of the first pixel: 0.5 as in PyTorch, or 0 as in OpenCV.

    Returns:
        float32 (size, size, channels) in the units of the pixels; 0 outside the image.
    """
    inverse = invert(matrix)
    ys, xs = np.meshgrid(np.arange(size) + centre, np.arange(size) + centre, indexing="ij")
    at = np.stack([xs, ys, np.ones_like(xs)], axis=-1) @ inverse.T
    return sample_bilinear(pixels, at[..., 0] - centre, at[..., 1] - centre, outside="zero")


def invert(matrix: Reals) -> Reals:
    """Return the map back: (2, 3).

    Args:
        matrix: (2, 3), an affine map.
    """
    inverse: Reals = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    return inverse


def reduce(pixels: Pixels, factor: int) -> Pixels:
    """Return an image whose sides are divided by a whole number, by averaging over blocks of pixels.

    Args:
        pixels: uint8 (height, width, 3), RGB.
        factor: the side of a block in pixels.
    """
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def letterbox(pixels: Pixels, size: int) -> Reals:
    """Scale an image to fit into a square, and centre it on black.

    This mirrors DeepFace's ``preprocessing.resize_image``, which uses OpenCV's bilinear ``resize`` (without
    antialiasing).

    Args:
        pixels: (height, width, channels).
        size: the side of the square in pixels.

    Returns:
        float32 (size, size, channels) in the units of the pixels.
    """
    height, width = pixels.shape[:2]
    factor = min(size / height, size / width)
    new_height, new_width = max(1, int(height * factor)), max(1, int(width * factor))
    ys = np.clip((np.arange(new_height) + 0.5) * (height / new_height) - 0.5, 0, height - 1)
    xs = np.clip((np.arange(new_width) + 0.5) * (width / new_width) - 0.5, 0, width - 1)
    grid_y, grid_x = np.meshgrid(ys, xs, indexing="ij")
    box = np.zeros((size, size, pixels.shape[2]), np.float32)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    box[top : top + new_height, left : left + new_width] = sample_bilinear(pixels, grid_x, grid_y, outside="edge")
    return box


def fit(pixels: Pixels, side: int, multiple: int) -> tuple[Pixels, float]:
    """Scale an image so that its longer side becomes ``side``, and pad it with black to a multiple.

    The padding is added at the right and at the bottom.

    Args:
        pixels: uint8 (height, width, 3).
        side: the length of the longer side after scaling, in pixels.
        multiple: the number that both sides are multiples of after padding.

    Returns:
        The padded image and the factor by which it was scaled.
    """
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BILINEAR)
    padded = np.zeros((-(-new_height // multiple) * multiple, -(-new_width // multiple) * multiple, 3), np.uint8)
    padded[:new_height, :new_width] = np.asarray(scaled)
    return padded, scale
