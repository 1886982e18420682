"""Image files: intact ones, and ones whose header announces more pixels than the file holds."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def make_image(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A colour gradient."""
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces more pixels than the file holds."""
    return png(width, height, 8, b"\0")


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """An RGB PNG with ``depth`` bits for each channel; ``rows`` are its uncompressed scan lines."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg() -> bytes:
    """A JPEG of 200 x 200 pixels."""
    buffer = io.BytesIO()
    make_image(size=(200, 200)).save(buffer, format="JPEG")
    return buffer.getvalue()


def jpeg_header(side: int) -> bytes:
    """A JPEG whose header announces ``side`` x ``side`` pixels."""
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def webp_header(side: int) -> bytes:
    """A lossless WebP whose header announces ``side`` x ``side`` pixels, and which holds none."""
    size = struct.pack("<I", (side - 1) | (side - 1) << 14)
    chunk = b"VP8L" + struct.pack("<I", 5) + b"\x2f" + size + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
