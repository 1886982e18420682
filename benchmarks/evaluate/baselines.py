"""Classic methods as baselines: faces are blurred, pixelated or masked, and the rest of the image stays as it is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageFilter
from tqdm import tqdm

from anon_runtime import Anonymizer
from anon_runtime.errors import UsageError
from anon_runtime.folder.writer import encode, write_file
from anon_runtime.types import Pixels

from .pairs import ImageFile, Method

# Share of a box's width and height that is added on each side, because detected boxes end at chin and hairline.
MARGIN = 0.1
NO_FACE = "no face was found, so no image was written"


def blur(face: Image.Image, share: float) -> Image.Image:
    """Gaussian blur whose standard deviation is a share of the face's shorter side."""
    return face.filter(ImageFilter.GaussianBlur(share * min(face.size)))


def pixelate(face: Image.Image, blocks: int) -> Image.Image:
    """Blocks of one colour, their mean; ``blocks`` is their number along the shorter side."""
    scale = blocks / min(face.size)
    small = max(1, round(face.width * scale)), max(1, round(face.height * scale))
    return face.resize(small, Image.Resampling.BOX).resize(face.size, Image.Resampling.NEAREST)


def mask(face: Image.Image) -> Image.Image:
    """A grey area."""
    return Image.new("RGB", face.size, (128, 128, 128))


Hide = Callable[[Image.Image], Image.Image]
Box = tuple[float, float, float, float]
BASELINES: dict[str, Mapping[str, Hide]] = {
    "blur": {"blur, weak": lambda face: blur(face, 1 / 24), "blur, strong": lambda face: blur(face, 1 / 8)},
    "pixelate": {"pixelate, weak": lambda face: pixelate(face, 16), "pixelate, strong": lambda face: pixelate(face, 8)},
    "mask": {"mask": mask},
}


def hide_faces(image: Pixels, boxes: Sequence[Box], hide: Hide) -> Image.Image:
    """An image whose faces are hidden; a box is x, y, width and height, and `MARGIN` is added."""
    canvas = Image.fromarray(image)
    for x, y, width, height in boxes:
        left, top = max(0, int(x - MARGIN * width)), max(0, int(y - MARGIN * height))
        right = min(canvas.width, round(x + (1 + MARGIN) * width))
        bottom = min(canvas.height, round(y + (1 + MARGIN) * height))
        canvas.paste(hide(canvas.crop((left, top, right, bottom))), (left, top))
    return canvas


def apply(kinds: Sequence[str], originals: Sequence[ImageFile], anonymizer: Anonymizer, folder: Path) -> list[Method]:
    """Apply baselines to all faces that the bundle's detector finds, and write PNG files.

    No image is written for an original without a face, because a face that is not found cannot be hidden.

    Args:
        kinds: keys of `BASELINES`.
        originals: the photos.
        anonymizer: whose face detector is used.
        folder: for the images.

    Raises:
        UsageError: no face is found in any original.
    """
    hides = {name: hide for kind in kinds for name, hide in BASELINES[kind].items()}
    pairs: dict[str, dict[int, ImageFile]] = {name: {} for name in hides}
    missing: dict[str, str] = {}
    for index, original in enumerate(tqdm(originals, desc="baselines", unit="image", disable=not hides)):
        image = original.pixels()
        boxes = [face.box for face in anonymizer.reader.detect([image])[0]]
        if not boxes:
            missing[original.name] = NO_FACE
            continue
        for name, hide in hides.items():
            path = folder / name.replace(", ", "-") / f"{original.name}.png"
            write_file(path, encode(hide_faces(image, boxes, hide)))
            pairs[name][index] = ImageFile(original.name, path)
    if hides and len(missing) == len(originals):
        why = f"no face was found in any of {len(originals)} originals"
        raise UsageError(f"--baselines {','.join(kinds)}", why, "give photos of faces, or leave --baselines out")
    return [Method(name, pairs[name], missing) for name in hides]
