"""The front door: decoding photographs safely, and writing portraits without metadata."""

import io
import logging
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import OutputError, PhotoError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Phone cameras reach 200 megapixels; a picture beyond that is taken for a decompression bomb.
MAX_PIXELS = 200_000_000
MIN_SIDE = 16

log = logging.getLogger(__name__)


def read_photo(source: str | os.PathLike[str] | Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode a file, a PIL image or an RGB array into an upright photo.

    Grayscale, palette, CMYK and 16-bit pictures are converted to 8-bit RGB, with a line in the log; transparent parts
    become white; the EXIF orientation is applied.

    Returns:
        uint8, height x width x 3, RGB.

    Raises:
        PhotoError: the file is missing, unreadable, no picture, damaged, animated, too small or too large.
    """
    if isinstance(source, np.ndarray):
        return _check_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "the given image")
    name = str(source)
    # The limit below is checked on the header, before any pixel is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Path(source).open("rb") as file, Image.open(file, formats=FORMATS) as image:
                return _decode(image, name)
        except PhotoError:
            raise
        except FileNotFoundError:
            raise PhotoError(name, "there is no such file", "check the path") from None
        except IsADirectoryError:
            raise PhotoError(name, "this is a folder, not a picture", "name the pictures in it") from None
        except PermissionError:
            raise PhotoError(name, "permission to read it is denied", "change its permissions") from None
        except UnidentifiedImageError:
            raise PhotoError(name, "not a picture in a known format", f"use one of {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise _too_large(name, "its header announces more pixels than any camera makes") from None
        except MemoryError:
            raise _too_large(name, "it does not fit into memory") from None
        except Exception as error:  # Decoders raise anything on damaged files; none of it may end the run.
            raise PhotoError(name, f"the picture is damaged ({error})", "get an intact copy of the file") from None


def _check_array(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        why = f"dtype {pixels.dtype}, shape {pixels.shape}"
        raise PhotoError("the given array", why, "pass uint8 RGB of shape (height, width, 3)")
    _check_size("the given array", pixels.shape[1], pixels.shape[0])
    return pixels


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE:
        why = f"{width} x {height} pixels are too few to show a face"
        raise PhotoError(name, why, f"use a picture of at least {MIN_SIDE} pixels a side")


def _too_large(name: str, why: str) -> PhotoError:
    return PhotoError(name, why, "scale it down first if it really is a photograph")


def _decode(image: Image.Image, name: str) -> NDArray[np.uint8]:
    _check_size(name, image.width, image.height)
    # An MPO file is a JPEG photo with further views (depth, preview) behind it: the first one is the photo.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise PhotoError(name, f"it is animated or has pages ({frames} frames)", "extract the frames as pictures first")
    pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(image)), dtype=np.uint8)
    if image.mode not in ("RGB", "L"):
        log.warning("%s: its %s pixels were converted to 8-bit RGB; the original is unchanged", name, image.mode)
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion clips everything above 255 to white.
        values = np.asarray(image, dtype=np.float64)
        full = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0.0)), 1e-12)
        return Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes of a picture's pixels, with no metadata at all."""
    buffer = io.BytesIO()
    # Level 4 takes half the time of the usual 6; a photograph's file is as large, to the percent.
    Image.fromarray(np.asarray(image)).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also if the process dies.

    Raises:
        OutputError: the folder does not exist or cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are private; a result gets the permissions that the user's umask gives.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        fix = "choose a folder that exists, can be written and has space left"
        raise OutputError(f"cannot write {path}", error.strerror or str(error), fix) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
