"""Reading and decoding of photos, safe for damaged and hostile files.

The functions of this module do not know the name of a photo. The caller adds it to an error with `PhotoError.of`.
"""

import io
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from ..errors import PhotoError, first_line
from ..types import PhotoSource, Pixels

FORMATS = ("JPEG", "PNG", "WEBP", *(("AVIF",) if features.check("avif") else ()))
MORE_FORMATS = ("BMP", "GIF", "PPM", "TIFF")  # off by default, since each decoder can be attacked with a crafted file
# Phone cameras reach 16384 x 12288 (201 megapixels). A photo with more than 250 megapixels is refused as a
# decompression bomb.
MAX_PIXELS = 250_000_000
# A photo with more pixels is decoded at a half, a quarter or an eighth of its size, so that the memory stays bounded.
# This is enough for the engines: the detector sees a photo at 640 pixels a side, and the other engines see a face at
# 224 pixels a side.
MAX_DECODED = 1 << 26
REDUCTIONS = (1, 2, 4, 8)
MAX_BYTES = 1 << 30
MIN_SIDE = 16

log = logging.getLogger(__name__)
_pillows_limit = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """A decoded, upright photo in memory.

    Attributes:
        pixels: uint8 (height, width, 3), RGB.
        reduction: the factor by which each side of the photo was reduced: 1, 2, 4 or 8.
        converted: the kind of the photo's pixels if they were not 8-bit RGB, such as ``CMYK``, ``16-bit`` or
            ``transparent``; otherwise None.
    """

    pixels: Pixels
    reduction: int = 1
    converted: str | None = None

    def log_conversion(self, name: str) -> None:
        """Log a warning if the pixels were converted to 8-bit RGB.

        Args:
            name: the name of the photo, for the message.
        """
        if self.converted is not None:
            log.warning(
                "%s: its %s pixels were converted to 8-bit RGB; the original is unchanged", name, self.converted
            )


def read_file(path: Path) -> bytes:
    """Return the content of a photo's file.

    Args:
        path: the file.

    Raises:
        PhotoError: the file is missing, is not a regular file, cannot be read, or is larger than `MAX_BYTES`.
    """
    # Without O_NONBLOCK, opening a named pipe would wait until another process writes into it.
    with reading(), os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("this is no regular file", "name an image")
        check_bytes(status.st_size)
        return file.read()


def check_bytes(size: int) -> None:
    """Check that a file is not too large for a photo.

    Args:
        size: the size of the file in bytes.

    Raises:
        PhotoError: the file is larger than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise _too_large(f"{size:,} bytes are more than the limit of {MAX_BYTES:,}")


@contextmanager
def reading() -> Iterator[None]:
    """Turn the errors of reading a file into a `PhotoError`.

    Raises:
        PhotoError: an `OSError` or a `ValueError` was raised in the block.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise PhotoError("there is no such file", "check the path") from None
    except IsADirectoryError:
        raise PhotoError("this is a folder, not an image", "name the images in it") from None
    except PermissionError:
        raise PhotoError("permission to read it is denied", "change its permissions") from None
    except ValueError:
        raise PhotoError("its name has a NUL in it", "check the path") from None
    except OSError as error:
        if not error.strerror:  # an error of a bucket: its text names the photo, which must not reach the journal
            log.warning("%s", first_line(error))
        why = error.strerror or type(error).__name__
        raise PhotoError(f"it cannot be read ({why})", "check the path and the disk") from None


def read_photo(source: PhotoSource, *, more_formats: bool = False) -> Pixels:
    """Return the pixels of a photo, uint8 (height, width, 3), RGB; see `load_photo`."""
    return load_photo(source, more_formats=more_formats).pixels


def load_photo(source: PhotoSource, *, more_formats: bool = False) -> Decoded:
    """Return the upright photo in a file, a PIL image or an RGB array; see `decode_photo`.

    Args:
        source: the path of a file, a PIL image, or a uint8 array (height, width, 3), RGB.
        more_formats: whether to read files in the formats of `MORE_FORMATS` as well.

    Raises:
        PhotoError: the photo cannot be read or decoded, or is too small or too large.
    """
    if isinstance(source, np.ndarray):
        return Decoded(_check_array(source))
    if isinstance(source, Image.Image):
        with decoding():
            return _decode(source, ours=False)
    return decode_photo(read_file(Path(source)), more_formats=more_formats)


def decode_photo(content: bytes, *, more_formats: bool = False) -> Decoded:
    """Decode the content of a file into an upright photo.

    Grayscale, palette, CMYK and 16-bit images are converted to 8-bit RGB; transparent parts become white; the EXIF
    orientation is applied; images of more than `MAX_DECODED` pixels are reduced.

    Args:
        content: the content of the file.
        more_formats: whether to read the formats of `MORE_FORMATS` as well.

    Raises:
        PhotoError: the content is not an image, or the image is damaged, animated, too small or too large.
    """
    with decoding(), open_photo(content, more_formats=more_formats) as image:
        return _decode(image, ours=True)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn the errors of decoding an image into a `PhotoError`.

    Raises:
        PhotoError: any exception was raised in the block.
    """
    try:
        yield
    except PhotoError:
        raise
    except MemoryError:
        raise _too_large("it does not fit into memory") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files; none of it may end a run
        raise PhotoError(f"the image is damaged ({error})", "get an intact copy of the file") from None


def open_photo(content: bytes, *, more_formats: bool = False) -> Image.Image:
    """Return an image whose header was read; its pixels are not decoded yet, and its size is not checked.

    Pillow's own limit on pixels is one for the whole process, and is smaller than the photos of phone cameras. It is
    therefore switched off here, and `check_size` has to be called instead.

    Args:
        content: the content of the file.
        more_formats: whether to read the formats of `MORE_FORMATS` as well.

    Raises:
        PhotoError: the content is not an image in one of these formats. Damaged content raises other errors as well,
            which `decoding` turns into this one.
    """
    with _pillows_limit:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(content), formats=FORMATS + MORE_FORMATS * more_formats)
        except UnidentifiedImageError:
            fix = f"use one of {', '.join(FORMATS)}" + (f", or {', '.join(MORE_FORMATS)}" if more_formats else "")
            if not more_formats and content.startswith((b"BM", b"GIF8", b"P5", b"P6", b"II*", b"MM\0*")):
                fix += "; `more_formats` takes BMP, GIF, PPM and TIFF, too"
            raise PhotoError("not an image in a known format", fix) from None
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


def _check_array(pixels: Pixels) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        why = f"dtype {pixels.dtype}, shape {pixels.shape}"
        raise PhotoError(why, "pass uint8 RGB of shape (height, width, 3)")
    check_size(pixels.shape[1], pixels.shape[0])
    return pixels


def check_size(width: int, height: int) -> None:
    """Check the size of a photo in pixels.

    Args:
        width: the width in pixels.
        height: the height in pixels.

    Raises:
        PhotoError: the photo has more than `MAX_PIXELS` pixels, or a side of less than `MIN_SIDE`.
    """
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE:
        why = f"{width} x {height} pixels are too few to show a face"
        raise PhotoError(why, f"use an image of at least {MIN_SIDE} pixels a side")


def _too_large(why: str) -> PhotoError:
    return PhotoError(why, "scale it down first if it really is a photograph")


def _decode(image: Image.Image, *, ours: bool) -> Decoded:
    """Decode an image whose header was read.

    Args:
        image: the image.
        ours: whether the image may be changed; an image of the caller must not be.
    """
    check_size(*image.size)
    # An MPO file holds a JPEG photo and after it further views, such as depth or a preview. The first frame is the
    # photo.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise PhotoError(f"it is animated or has pages ({frames} frames)", "extract the frames as images first")
    converted = _unusual(image)
    reduction = _reduction(image)
    if ours:  # the JPEG decoder then decodes at a lower resolution, which saves work and memory
        image.draft(None, (image.width // reduction, image.height // reduction))
    if (left := _reduction(image)) > 1:
        averaged = _AVERAGED.get(image.mode, image.mode)
        image = (image if averaged == image.mode else image.convert(averaged)).reduce(left)
    if ours:
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a large image would take hundreds of megabytes
    else:
        image = ImageOps.exif_transpose(image)
    return Decoded(np.asarray(_to_rgb(image), dtype=np.uint8), reduction, converted)


def _unusual(image: Image.Image) -> str | None:
    """Return the kind of an image's pixels, before they are decoded; None if they are 8-bit RGB."""
    if image.mode != "RGB":
        return image.mode
    if "transparency" in image.info:
        return "transparent"
    tiles = getattr(image, "tile", ())
    return "16-bit" if any(";16" in str(tile[3]) for tile in tiles) else None  # Pillow itself reduces these to 8 bits


# Pillow cannot average palette indices, single bits or 16-bit integers. Images of these modes are converted first.
_AVERAGED = {"P": "RGBA", "PA": "RGBA", "1": "L", "I;16": "I", "I;16B": "I", "I;16L": "I"}


def _reduction(image: Image.Image) -> int:
    """Return the smallest of `REDUCTIONS` that brings an image down to `MAX_DECODED` pixels."""
    return next(r for r in REDUCTIONS if image.width * image.height <= MAX_DECODED * r * r)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # Pillow's own conversion would turn all values above 255 into white.
        values = np.asarray(image, dtype=np.float64)
        full = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0.0)), 1e-12)
        return Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
