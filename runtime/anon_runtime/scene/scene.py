"""A photo whose faces are replaced one after the other."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..diffusion.inpainting import make_canvas
from ..faces.detection import Face
from ..faces.geometry import Reals, reduce, sample_bilinear
from ..types import Canvas, Mask, Pixels
from .blending import extend
from .places import Place, Window, find_place

FADE = 0.7  # of the region's radius: colours are matched from there to its border


class Scene:
    """A photo from which all faces were removed, and into which others are put.

    Nothing of the regions of the faces is kept: they are filled from what lies around them, all of them before the
    first picture is cut. Pixels outside of all regions are never changed.

    Args:
        pixels: uint8 (height, width, 3), RGB, the photo.
        faces: its faces.
        shape: height and width of the pictures that are painted, in pixels.
        block: the height and width of the pixels that a latent stands for; see `make_canvas`.

    Attributes:
        pixels: uint8 (height, width, 3), RGB, the photo without its faces.
        places: of the faces, in the same order.
    """

    def __init__(self, pixels: Pixels, faces: Sequence[Face], shape: tuple[int, int], block: int) -> None:
        self.pixels, self._block = pixels.copy(), block
        self.places = [find_place(face, shape) for face in faces]
        windows = [self._window(place) for place in self.places]
        regions = [place.region(window) for place, window in zip(self.places, windows, strict=True)]
        removed = np.zeros(pixels.shape[:2], np.bool_)
        for window, inside in zip(windows, regions, strict=True):
            removed[window] |= inside
        for window, inside in zip(windows, regions, strict=True):
            filled = extend(pixels[window], ~removed[window])
            self.pixels[window][inside] = _to_pixels(filled)[inside]

    def _window(self, place: Place) -> Window:
        return place.window(*self.pixels.shape[:2])

    def canvas(self, place: Place) -> Canvas:
        """Return the canvas for a face: the photo around it without any faces, turned and scaled to the picture.

        Args:
            place: the place of the face.

        Raises:
            UsageError: the region fills the whole picture.
        """
        return make_canvas(cut(self.pixels, place), place.mask(), self._block)

    def compose(self, images: Sequence[tuple[Place, Pixels]]) -> Pixels:
        """Return the photo with pictures in the regions of faces.

        Small ones are put in first, since what is larger is nearer and covers them. The colours of a picture are
        matched to what lies around its region.

        Args:
            images: places, and the picture for each: uint8 (height, width, 3), RGB.

        Returns:
            uint8 (height, width, 3), RGB.
        """
        pixels = self.pixels.copy()
        for place, image in sorted(images, key=lambda pair: pair[0].face.area):
            self._put(pixels, place, image)
        return pixels

    def _put(self, pixels: Pixels, place: Place, image: Pixels) -> None:
        window = self._window(place)
        xs, ys = place.positions(window)
        radius, height, width = place.radius(xs, ys), *place.shape
        painted, inside = _turn(image, place, window), radius < 1
        around: Mask = ~inside & (xs > 0) & (xs < width) & (ys > 0) & (ys < height)
        offset = extend(pixels[window] - painted, around)
        weight = np.clip((radius - FADE) / (1 - FADE), 0, 1)[..., None]
        matched = painted + offset * (weight * weight * (3 - 2 * weight)).astype(np.float32)
        pixels[window][inside] = _to_pixels(matched)[inside]


def cut(pixels: Pixels, place: Place) -> Pixels:
    """Return the picture of a face: the photo around it, turned so that the face is upright, and scaled.

    Args:
        pixels: uint8 (height, width, 3), RGB, the photo.
        place: the place of the face.

    Returns:
        uint8 (height, width, 3), RGB, of the shape of the place; the border is repeated outside of the photo.
    """
    height, width = place.shape
    ys, xs = np.mgrid[:height, :width] + 0.5
    return _to_pixels(_sample(pixels, *place.inverse(xs, ys), max(1, int(1 / place.scale))))


def _turn(image: Pixels, place: Place, window: Window) -> Reals:
    """Turn and scale a picture to a part of the photo; it is black beyond the picture."""
    factor = max(1, int(place.scale))
    matrix = place.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (window[1].start, window[0].start)
    size = window[1].stop - window[1].start, window[0].stop - window[0].start
    turned = Image.fromarray(reduce(image, factor)).transform(
        size, Image.Transform.AFFINE, (matrix / factor).ravel().tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(turned).astype(np.float32)


def _sample(pixels: Pixels, xs: Reals, ys: Reals, factor: int) -> Reals:
    """Interpolate an image at coordinates, after it was made smaller by a factor so that no detail becomes noise."""
    return sample_bilinear(reduce(pixels, factor), xs / factor - 0.5, ys / factor - 0.5, outside="edge")


def _to_pixels(values: Reals) -> Pixels:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
