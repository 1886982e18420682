import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from anon_runtime.folder.icc_profile import reduce_profile
from anon_runtime.types import Pixels
from tests.runtime.icc_profiles import ADOBE_RGB, SRGB, SRGB_CURVE, colours, gamma, parametric, profile, table, xyz

ADAPTATION = b"sf32" + bytes(4) + struct.pack(">9i", 68674, 1503, -3290, 1939, 64912, -1115, -605, 989, 49280)
CURVES = [
    gamma(2.2),
    table(),
    table(*range(0, 65536, 257)),
    *(parametric(kind, *(2.2, 0.9, 0.1, 0.2, 0.05, 0.0, 0.0)[:n]) for kind, n in enumerate((1, 3, 4, 5, 7))),
    SRGB_CURVE,
]


def reduced(content: bytes) -> bytes:
    result = reduce_profile(content)
    assert result is not None
    return result


def seen(content: bytes, pixels: Pixels) -> Pixels:
    """The pixels as an sRGB display shows them."""
    image, source = Image.fromarray(pixels), ImageCms.ImageCmsProfile(io.BytesIO(content))
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    assert shown is not None
    return np.asarray(shown)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("primaries", [SRGB, ADOBE_RGB])
@pytest.mark.parametrize("major", [2, 4])
def test_colours_are_the_same(primaries: tuple[tuple[float, ...], ...], curve: bytes, major: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    white = {b"wtpt": xyz(0.9505, 1, 1.0891), b"chad": ADAPTATION}
    content = profile(colours(primaries, curve) | white, major=major)
    np.testing.assert_array_equal(seen(reduced(content), pixels), seen(content, pixels))
    assert ADAPTATION in reduced(content)


def test_profiles_that_little_cms_writes() -> None:
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(seen(reduced(content), pixels), seen(content, pixels))


def test_nothing_but_colours_stays() -> None:
    names = (b"desc", b"cprt", b"dmnd", b"dmdd", b"mmod", b"meta", b"targ", b"vcgt", b"SECR")
    secrets = {name: b"text" + bytes(4) + b"SECRET of " + name for name in names}
    elements = {name: element + b"SECRET" for name, element in colours().items()}
    first, second = colours(curve=gamma(2.2)), {b"chad": ADAPTATION + b"SECRET"}
    for tags in (secrets | elements | second, first | secrets | second):
        content = profile(tags, device=b"SECRET of the header")
        assert content.count(b"SECR") > 10
        result = reduced(content + b"SECRET")
        assert b"SECR" not in result
        assert struct.pack(">3H", 2024, 5, 17) not in result, "the time of a calibration"
        assert b"of the header" not in result


def test_reserved_bytes_are_not_copied() -> None:
    filled = {name: element[:4] + b"SECR" + element[8:] for name, element in colours().items()}
    content = profile(filled | {b"gTRC": SRGB_CURVE[:10] + b"SE" + SRGB_CURVE[12:], b"bTRC": b"curvSECR" + bytes(4)})
    assert reduced(content) == reduced(profile(colours() | {b"bTRC": table()}))


def test_a_profile_is_laid_out_as_the_standard_says() -> None:
    result = reduced(profile(colours(curve=table(0, 30000, 65535))))
    assert struct.unpack_from(">I4x4B4s4s4s", result) == (len(result), 4, 0x40, 0, 0, b"mntr", b"RGB ", b"XYZ ")
    assert struct.unpack_from(">4s28x12s", result, 36) == (b"acsp", xyz(0.9642, 1, 0.8249)[8:])
    (count,) = struct.unpack_from(">I", result, 128)
    entries = [struct.unpack_from(">4sII", result, 132 + 12 * i) for i in range(count)]
    place = 132 + 12 * count
    for _, start, length in entries:
        assert start == place, "elements follow each other, at multiples of four bytes"
        place += length + -length % 4
    assert place == len(result)
    assert {name for name, _, _ in entries} == {*colours(), b"desc", b"cprt", b"wtpt"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        profile(colours())[:200],
        profile(colours(), space=b"GRAY"),
        profile(colours(), space=b"CMYK"),
        profile(colours(), connection=b"Lab "),
        profile(colours(), major=5),
        struct.pack(">I", len(profile(colours())) + 1) + profile(colours())[4:],
        struct.pack(">I", len(profile(colours())) - 4) + profile(colours())[4:],
        profile(colours()).replace(b"acsp", b"ACSP"),
        profile({name: element for name, element in colours().items() if name != b"gTRC"}),
        profile({b"A2B0": b"mft2" + bytes(100)}),
        profile(colours(curve=b"curv" + struct.pack(">4xI", 0xFFFFFFFF) + bytes(8))),
        profile(colours(curve=parametric(5, 1.0))),
        profile(colours(curve=b"text" + bytes(40))),
    ],
)
def test_profiles_that_are_left_out(content: bytes) -> None:
    assert reduce_profile(content) is None


@given(
    st.sampled_from(CURVES),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
    st.integers(0, 900),
)
def test_damaged_profiles_give_a_profile_or_nothing(curve: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(profile(colours(curve=curve)))
    for place, value in changes:
        data[place % len(data)] = value
    result = reduce_profile(bytes(data[: cut or None]))
    if result is not None:
        assert struct.unpack_from(">I", result) == (len(result),)
        assert reduce_profile(result) == result, "nothing else is left to be taken out"


def test_many_tags_of_many_bytes_take_no_memory() -> None:
    count = 3000
    size = 132 + 12 * count
    table = b"".join(struct.pack(">III", number, 1, size - 1) for number in range(count))
    content = struct.pack(">I", size) + profile(colours())[4:128] + struct.pack(">I", count) + table
    tracemalloc.start()
    assert reduce_profile(content) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
