"""The classic methods, for comparison: a face is blurred, pixelated or covered, and the rest of the image stays."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

from anon_runtime import Anonymizer
from anon_runtime.errors import UsageError
from anon_runtime.faces.detection import DETECTORS, detect
from anon_runtime.folder.writer import encode, write_file

from .pairs import ImageFile, Method

Pixels = NDArray[np.uint8]
MARGIN = 0.1  # of a box's sides, added on each side: detectors' boxes end at chin and hairline
NO_FACE = "no face was found, so nothing was written"


def blur(face: Image.Image, share: float) -> Image.Image:
    """Gaussian blur whose standard deviation is a share of the face's shorter side."""
    return face.filter(ImageFilter.GaussianBlur(share * min(face.size)))


def pixelate(face: Image.Image, blocks: int) -> Image.Image:
    """So many blocks along the shorter side, each of its mean colour."""
    scale = blocks / min(face.size)
    small = tuple(max(1, round(side * scale)) for side in face.size)
    return face.resize(small, Image.Resampling.BOX).resize(face.size, Image.Resampling.NEAREST)


def mask(face: Image.Image) -> Image.Image:
    """Nothing but grey."""
    return Image.new("RGB", face.size, (128, 128, 128))


Hide = Callable[[Image.Image], Image.Image]
BASELINES: dict[str, Mapping[str, Hide]] = {
    "blur": {"blur, weak": lambda face: blur(face, 1 / 24), "blur, strong": lambda face: blur(face, 1 / 8)},
    "pixelate": {"pixelate, weak": lambda face: pixelate(face, 16), "pixelate, strong": lambda face: pixelate(face, 8)},
    "mask": {"mask": mask},
}


def hide_faces(image: Pixels, boxes: Sequence[tuple[float, ...]], hide: Hide) -> Image.Image:
    """An image whose faces, x, y, width and height with a margin, are hidden."""
    canvas = Image.fromarray(image)
    for x, y, width, height in boxes:
        left, top = max(0, int(x - MARGIN * width)), max(0, int(y - MARGIN * height))
        right = min(canvas.width, round(x + (1 + MARGIN) * width))
        bottom = min(canvas.height, round(y + (1 + MARGIN) * height))
        canvas.paste(hide(canvas.crop((left, top, right, bottom))), (left, top))
    return canvas


def make(kinds: Sequence[str], originals: Sequence[ImageFile], anonymizer: Anonymizer, folder: Path) -> list[Method]:
    """Apply the methods of some kinds to all faces that the bundle's detector finds; writes PNG files.

    An original without a face gives no image: what is not found cannot be hidden.

    Raises:
        UsageError: no face is found in any.
    """
    hides = {name: hide for kind in kinds for name, hide in BASELINES[kind].items()}
    pairs: dict[str, dict[int, ImageFile]] = {name: {} for name in hides}
    missing: dict[str, str] = {}
    engine, detector = anonymizer.engine("face_detector"), DETECTORS[anonymizer.bundle.spec("face_detector").signature]
    for index, original in enumerate(tqdm(originals, desc="baselines", unit="image", disable=not hides)):
        image = original.pixels()
        boxes = [face.box for face in detect(engine, detector, [image])[0]]
        if not boxes:
            missing[original.name] = NO_FACE
            continue
        for name, hide in hides.items():
            path = folder / name.replace(", ", "-") / f"{original.name}.png"
            write_file(path, encode(hide_faces(image, boxes, hide)))
            pairs[name][index] = ImageFile(original.name, path)
    if hides and len(missing) == len(originals):
        why = f"no face was found in any of {len(originals)} originals"
        raise UsageError(f"--baselines {','.join(kinds)}", why, "give photos of faces, or leave it out")
    return [Method(name, pairs[name], missing) for name in hides]
