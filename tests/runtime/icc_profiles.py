"""ICC profiles as cameras and calibration software write them."""

import struct
from collections.abc import Mapping

# Primaries in the profile connection space, adapted to D50: red, green and blue of sRGB and of Adobe RGB (1998).
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
ADOBE_RGB = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def fixed(*values: float) -> bytes:
    """Numbers of 16 bits before the point and of 16 bits behind it."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + fixed(*values)


def gamma(value: float) -> bytes:
    """A curve of version 2: one power, in 256ths."""
    return b"curv" + struct.pack(">4xIH", 1, round(value * 256))


def table(*values: int) -> bytes:
    """A curve of version 2: values at equal distances, 0 to 65535."""
    return b"curv" + struct.pack(f">4xI{len(values)}H", len(values), *values)


def parametric(kind: int, *values: float) -> bytes:
    """A curve of version 4."""
    return b"para" + struct.pack(">4xH2x", kind) + fixed(*values)


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def colours(primaries: tuple[tuple[float, ...], ...] = SRGB, curve: bytes = SRGB_CURVE) -> dict[bytes, bytes]:
    """The tags of three primaries and of one curve for all of them."""
    return {
        **{name: xyz(*primary) for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }


def profile(
    tags: Mapping[bytes, bytes],
    space: bytes = b"RGB ",
    connection: bytes = b"XYZ ",
    major: int = 2,
    device: bytes = b"",
) -> bytes:
    """A profile; ``device`` is written wherever the header names a device or a program."""
    start = 132 + 12 * len(tags)
    entries, content = struct.pack(">I", len(tags)), b""
    for name, element in tags.items():
        entries += struct.pack(">4sII", name, start + len(content), len(element))
        content += element + bytes(-len(element) % 4)
    name = device[:4].ljust(4, b"\0")
    header = struct.pack(">I4sI", start + len(content), name, major << 24) + b"mntr" + space + connection
    header += struct.pack(">6H", 2024, 5, 17, 8, 30, 59) + b"acsp" + name + bytes(4) + name + name + bytes(12)
    return (header + fixed(0.9642, 1, 0.8249) + name + device).ljust(128, b"\0")[:128] + entries + content
