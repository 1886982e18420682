"""ICC profiles of RGB photos, reduced to the colours that they define.

A profile can hold far more than colours: a description such as "Jane's display", the serial number of a display (in
Apple's ``mmod`` and colord's ``meta``), measurements, the time of a calibration, and private tags of any content. No
list of such tags is ever complete. What stays is therefore written into a new profile, and nothing else is copied.

Source: ICC.1:2022 (profile version 4.4), sections *Profile header*, *Tag table* and *Three-component matrix-based
display profiles*.
"""

import struct

COLOURS = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
ADAPTATION = b"chad"
D50 = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)  # the white of all profiles' colours, in units of 1 / 65536
VALUES_OF_CURVES = (1, 3, 4, 5, 7)  # by the kind of a parametric curve
HEADER = 128


def reduce_profile(profile: bytes) -> bytes | None:
    """Return a profile with the colours of another one, and with nothing else of it.

    What stays are the three primaries, their three curves, and the adaptation to the white D50. Even these can tell
    something: the curves of a display that was calibrated with an instrument are those of this one display.

    Args:
        profile: the content of an ICC profile, which may be damaged.

    Returns:
        An ICC profile, version 4.4, of the class of displays. None if the given one is damaged, is not one for RGB, or
        defines its colours by tables instead of primaries and curves, as profiles of printers and scanners do.
    """
    try:
        tags = _tags(memoryview(profile))
        kept = {name: _element(tags[name]) for name in (*COLOURS, ADAPTATION) if name in COLOURS or name in tags}
    except (KeyError, IndexError, struct.error):
        return None
    about = {b"desc": _text("RGB"), b"cprt": _text("none"), b"wtpt": b"XYZ " + bytes(4) + D50}
    return _profile(about | kept)


def _tags(profile: memoryview) -> dict[bytes, memoryview]:
    """Return the elements of a profile by the names of their tags; there are none if it is no profile for RGB.

    Raises:
        struct.error: it is cut off.
    """
    size, major, colours, signature = struct.unpack_from(">I4xB7x8s12x4s", profile)
    if size > len(profile) or major not in (2, 4) or colours != b"RGB XYZ " or signature != b"acsp":
        return {}
    profile = profile[:size]
    (count,) = struct.unpack_from(">I", profile, HEADER)
    table = [struct.unpack_from(">4sII", profile, HEADER + 4 + 12 * i) for i in range(min(count, size // 12))]
    return {name: profile[start : start + length] for name, start, length in table}


def _element(data: memoryview) -> bytes:
    """Return an element without what its type does not define, such as bytes after its end.

    Raises:
        KeyError: it has none of the types that colours have.
        IndexError: its curve is of an unknown kind.
        struct.error: it is cut off.
    """
    kind = bytes(data[:4])
    if kind == b"para":  # the kind of a parametric curve, and its values
        (curve,) = struct.unpack_from(">H", data, 8)
        head, values = struct.pack(">H2x", curve), f">{VALUES_OF_CURVES[curve]}i"
    elif kind == b"curv":  # the number of a table's values, and these
        (length,) = struct.unpack_from(">I", data, 8)
        return kind + bytes(4) + struct.pack(f">I{length}H", length, *struct.unpack_from(f">{length}H", data, 12))
    else:
        head, values = b"", {b"XYZ ": ">3i", b"sf32": ">9i"}[kind]
    return kind + bytes(4) + head + struct.pack(values, *struct.unpack_from(values, data, 8 + len(head)))


def _text(text: str) -> bytes:
    """Return the element of a text in English; every profile has to have a description and a copyright."""
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _profile(elements: dict[bytes, bytes]) -> bytes:
    """Return the profile of a display; each element starts at a multiple of four bytes."""
    start = HEADER + 4 + 12 * len(elements)
    table, content = struct.pack(">I", len(elements)), b""
    for name, element in elements.items():
        table += struct.pack(">4sII", name, start + len(content), len(element))
        content += element + bytes(-len(element) % 4)
    # Every profile has a date; this one is the same for all.
    created = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header = struct.pack(">I4xI", start + len(content), 0x04400000) + b"mntrRGB XYZ " + created + b"acsp"
    return (header + bytes(28) + D50).ljust(HEADER, b"\0") + table + content
