import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

from anon_runtime.errors import PhotoError
from anon_runtime.faces import decoding
from anon_runtime.faces.decoding import decode_photo
from anon_runtime.folder.icc_profile import reduce_profile
from anon_runtime.folder.metadata import KINDS, NOTHING, Kind, Metadata, read_metadata
from anon_runtime.folder.writer import ImageFormat, encode
from tests.runtime.icc_profiles import colours, gamma, profile
from tests.runtime.image_files import bomb, jpeg, make_image

FORMATS: list[ImageFormat] = ["png", "jpeg", "webp"]
KINDS_OF_PHOTOS = ["JPEG", "PNG", "WEBP", "TIFF", "MPO"]
DATES: dict[int, Any] = {
    Base.DateTimeOriginal: "2024:05:17 08:30:59",
    Base.OffsetTimeOriginal: "+02:00",
    Base.SubsecTimeOriginal: "042",
    Base.DateTimeDigitized: "2024:05:18 00:00:00",
    Base.OffsetTimeDigitized: "-03:30",
    Base.SubsecTimeDigitized: "7",
    Base.OffsetTime: "+05:45",
    Base.SubsecTime: "99",
}
CHANGED = "2024:06:01 12:00:00"
PROFILE = profile(colours(curve=gamma(2.2)) | {b"desc": b"text" + bytes(4) + b"SECRET display"}, device=b"SECRET")
SECRETS_OF_EXIF: dict[int, Any] = {
    Base.MakerNote: b"SECRET maker note",
    Base.UserComment: b"ASCII\0\0\0SECRET comment",
    Base.CameraOwnerName: "SECRET owner",
    Base.BodySerialNumber: "SECRET body",
    Base.LensSerialNumber: "SECRET lens",
    Base.ImageUniqueID: "SECRET image",
}
SECRETS: dict[int, Any] = {
    Base.Make: "SECRET maker",
    Base.Model: "SECRET model",
    Base.Artist: "SECRET artist",
    Base.Copyright: "SECRET holder",
    Base.ImageDescription: "SECRET description",
    Base.Software: "SECRET program",
    Base.HostComputer: "SECRET computer",
}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d" xmp:CreateDate="SECRET"/></x:xmpmeta>'
)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(tags: Mapping[int, Any], more: Mapping[int, Any] | None = None) -> bytes:
    made = Image.Exif()
    made.update(tags)
    if more:
        made[IFD.Exif] = dict(more)
    return made.tobytes()


def turned(orientation: int) -> bytes:
    return exif({Base.Orientation: orientation})


def with_thumbnail(block: bytes) -> bytes:
    """EXIF data with a second directory, which has a thumbnail."""
    block += b"\0" * (len(block) % 2)
    start = len(block) - 6
    (count,) = struct.unpack_from(">H", block, 14)
    thumbnail = b"SECRET thumbnail"
    entries = struct.pack(">HHHIIHHIII", 2, 0x201, 4, 1, start + 30, 0x202, 4, 1, len(thumbnail), 0)
    link = 16 + 12 * count
    return block[:link] + struct.pack(">I", start) + block[link + 4 :] + entries + thumbnail


def full_of_metadata(kind: str, image: Image.Image, orientation: int = 6) -> bytes:
    """A photo with everything that a camera, a phone or an editor may write."""
    own = {**SECRETS, Base.Orientation: orientation, Base.DateTime: CHANGED}
    position = {1: "N", 2: (48.0, 8.0, 14.0), 29: "SECRET"}
    block = with_thumbnail(exif({**own, IFD.GPSInfo: position}, {**DATES, **SECRETS_OF_EXIF}))
    texts, options = PngInfo(), {"icc_profile": PROFILE, "exif": block}
    if kind == "PNG":
        for key in ("Comment", "Creation Time", "date:create", "Author"):
            texts.add_text(key, "SECRET 2024:01:01 00:00:00")
        texts.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
        texts.add(b"tIME", struct.pack(">H5B", 2024, 5, 17, 8, 30, 59))
        return saved(image, kind, pnginfo=texts, **options)
    if kind == "TIFF":
        return saved(image, kind, exif=block, icc_profile=PROFILE)
    return saved(image, kind, **options, **({"comment": "SECRET"} if kind == "JPEG" else {}), xmp=XMP % orientation)


def tags(data: bytes) -> dict[int, Any]:
    """All EXIF tags of a file, those of its inner directories as well, without the links to these."""
    with Image.open(io.BytesIO(data)) as image:
        found = image.getexif()
        inner = [found.get_ifd(part) for part in (IFD.Exif, IFD.GPSInfo, IFD.IFD1, IFD.Interop) if part in found]
        assert found.get_ifd(IFD.IFD1) == {}
        every = dict(found)
        for directory in inner:
            every |= directory
        return {tag: value for tag, value in every.items() if tag not in (IFD.Exif, IFD.GPSInfo, IFD.Interop)}


def profile_of(data: bytes) -> bytes | None:
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("icc_profile")


@given(
    st.sampled_from(KINDS_OF_PHOTOS),
    st.sampled_from(FORMATS),
    st.integers(1, 8),
    st.integers(16, 50),
    st.integers(16, 50),
)
def test_a_photo_and_its_copy_look_alike(
    kind: str, format: ImageFormat, orientation: int, width: int, height: int
) -> None:
    content = saved(make_image(size=(width, height)), kind, exif=turned(orientation))
    upright = decode_photo(content, more_formats=True).pixels
    metadata = read_metadata(content, ["orientation"], more_formats=True)
    assert metadata == Metadata(orientation)
    copy = encode(Image.fromarray(upright), format, 95, metadata)
    with Image.open(io.BytesIO(copy)) as image:
        assert image.size == (width, height), "the pixels are stored as those of the photo were"
        assert image.getexif().get(Base.Orientation, 1) == orientation
    again = decode_photo(copy).pixels
    assert again.shape == upright.shape
    if format == "png":
        np.testing.assert_array_equal(again, upright)
    else:
        assert np.abs(again.astype(int) - upright).mean() < 12
    assert read_metadata(copy, KINDS) == metadata


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_of_photos_that_decoding_converts_and_reduces(
    mode: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        content = saved(make_image(mode, (80, 40)), kind, exif=turned(8))
    except (OSError, ValueError):
        pytest.skip(f"{kind} does not hold {mode}")
    monkeypatch.setattr(decoding, "MAX_DECODED", 1000)
    upright = decode_photo(content, more_formats=True).pixels
    assert upright.shape == (40, 20, 3)
    metadata = read_metadata(content, ["orientation"], more_formats=True)
    copy = encode(Image.fromarray(upright), metadata=metadata)
    assert metadata.orientation == 8
    monkeypatch.undo()
    np.testing.assert_array_equal(decode_photo(copy).pixels, upright)


def after_the_pixels(content: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk, which comes after its pixels."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:-12] + chunk + content[-12:]


def raw_profile(block: bytes) -> PngInfo:
    """EXIF as ImageMagick wrote it into PNG before there was a chunk for it."""
    texts = PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    return texts


def xmp(orientation: int) -> PngInfo:
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
    return texts


@pytest.mark.parametrize(
    ("content", "orientation"),
    [
        (after_the_pixels(saved(make_image(), "PNG"), b"eXIf", turned(6)[6:]), 6),
        (after_the_pixels(saved(make_image(), "PNG", exif=turned(5)), b"eXIf", turned(6)[6:]), 6),
        (saved(make_image(), "PNG", pnginfo=raw_profile(turned(5))), 5),
        (saved(make_image(), "PNG", pnginfo=xmp(7)), 7),
        (saved(make_image(), "PNG", pnginfo=xmp(7), exif=turned(8)), 8),
        (saved(make_image(), "JPEG", xmp=XMP % 3), 3),
        (saved(make_image(), "WEBP", xmp=XMP % 2, lossless=True), 2),
        (saved(make_image(), "JPEG", exif=exif({Base.Orientation: 0})), 1),
        (saved(make_image(), "JPEG", exif=exif({Base.Orientation: 9})), 1),
        (saved(make_image(), "JPEG"), 1),
    ],
)
def test_orientation_is_the_one_that_decoding_applies(content: bytes, orientation: int) -> None:
    with Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image.convert("RGB"))
    metadata = read_metadata(content, ["orientation"])
    assert metadata == Metadata(orientation)
    upright = Image.fromarray(decode_photo(content).pixels)
    np.testing.assert_array_equal(np.asarray(metadata.stored(upright)), stored)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS_OF_PHOTOS)
@pytest.mark.parametrize("keep", [[], ["orientation"], ["icc"], ["datetime"], ["orientation", "datetime"], KINDS])
def test_nothing_but_what_was_asked_for_stays(kind: str, format: ImageFormat, keep: list[Kind]) -> None:
    content = full_of_metadata(kind, make_image(size=(48, 80)))
    assert content.count(b"SECRET") > 10, "the photo is full of them"
    upright = Image.fromarray(decode_photo(content, more_formats=True).pixels)
    data = encode(upright, format, 95, read_metadata(content, keep, more_formats=True))
    assert b"SECRET" not in data
    assert b"xmpmeta" not in data
    expected: dict[int, Any] = {Base.Orientation: 6} if "orientation" in keep else {}
    expected |= {Base.DateTime: CHANGED, **DATES} if "datetime" in keep else {}
    assert tags(data) == expected
    assert profile_of(data) == (reduce_profile(PROFILE) if "icc" in keep else None)
    own = {"exif", "icc_profile"} & set(info(data))
    assert own == ({"exif"} if expected else set()) | ({"icc_profile"} if "icc" in keep else set())
    usual = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "loop", "background", "timestamp", "duration"}
    assert set(info(data)) - own <= usual
    if not keep:
        assert data == encode(upright, format, 95)
    np.testing.assert_array_equal(decode_photo(data).pixels.shape, (48, 80, 3))


def info(data: bytes) -> dict[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.info


def test_a_png_has_no_other_chunks() -> None:
    content = full_of_metadata("PNG", make_image())
    data = encode(make_image(), "png", 95, read_metadata(content, KINDS))
    chunks, place = list[bytes](), 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append(data[place + 4 : place + 8])
        place += 12 + length
    assert chunks == [b"IHDR", b"iCCP", b"eXIf", b"IDAT", b"IEND"]


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_changes_no_pixel(format: ImageFormat) -> None:
    content = full_of_metadata("JPEG", make_image(), orientation=1)
    metadata = read_metadata(content, KINDS)
    plain, full = encode(make_image(), format), encode(make_image(), format, 95, metadata)
    assert len(full) > len(plain)
    np.testing.assert_array_equal(decode_photo(full).pixels, decode_photo(plain).pixels)


SECRET_DATES = [
    "SECRET",
    "2024:05:17",
    "2024-05-17 08:30:59",
    "2024:05:17 08:30:59+02:00",
    "2024:05:17 08:30:59\n",
    "2024:05:17 08:30:59\0SECRET",
    "2024:02:30 08:30:59",
    "2024:05:17 24:00:00",
    "0000:00:00 00:00:00",
    "    :  :     :  :  ",
    "2024:5:17 8:30:59",
    "",
]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("date", SECRET_DATES)
def test_malformed_dates_are_left_out(kind: str, date: str) -> None:
    malformed = exif({Base.DateTime: date}, {**DATES, Base.DateTimeOriginal: date})
    content = saved(make_image(), kind, exif=malformed)
    kept = dict(read_metadata(content, ["datetime"], more_formats=True).datetime)
    left = {tag: DATES[tag] for tag in (Base.DateTimeDigitized, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized)}
    assert kept == left, "a time zone and a fraction without a date are left out, too"


@pytest.mark.parametrize(
    ("offset", "kept"),
    [
        ("+02:00", "+02:00"),
        ("-03:30", "-03:30"),
        ("+05:45 ", "+05:45"),
        ("+14:00", "+14:00"),
        ("+15:00", None),
        ("+02:01", None),
        ("02:00", None),
        ("Z", None),
        ("+02:00 Paris", None),
    ],
)
def test_offsets(offset: str, kept: str | None) -> None:
    assert field(Base.OffsetTimeOriginal, offset) == kept


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [("7", "7"), ("042", "042"), ("123456", "123"), ("042  ", "042"), ("4a", None), ("-1", None), ("\u00b2", None)],
)
def test_fractions_of_a_second_are_milliseconds(fraction: str, kept: str | None) -> None:
    assert field(Base.SubsecTimeOriginal, fraction.encode("latin-1").decode("latin-1")) == kept


def field(tag: int, value: str) -> str | None:
    content = saved(make_image(), "JPEG", exif=exif({}, {Base.DateTimeOriginal: "2024:05:17 08:30:59", tag: value}))
    kept = dict(read_metadata(content, ["datetime"]).datetime)
    assert kept.pop(Base.DateTimeOriginal) == "2024:05:17 08:30:59"
    return kept.get(tag)


def test_a_date_alone() -> None:
    content = saved(make_image(), "JPEG", exif=exif({Base.DateTime: CHANGED}))
    metadata = read_metadata(content, ["datetime"])
    assert metadata == Metadata(datetime=((Base.DateTime, CHANGED),))
    assert tags(encode(make_image(), metadata=metadata)) == {Base.DateTime: CHANGED}


def test_values_of_other_types_are_left_out() -> None:
    date = b"2024:05:17 08:30:59"
    original, digitized = (Base.DateTimeOriginal, 4, 1, 20240517), (Base.DateTimeDigitized, 7, len(date), 56)
    start = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIII", 1, IFD.Exif, 4, 1, 26, 0)
    block = start + struct.pack(">HHHIIHHIII", 2, *original, *digitized, 0) + date
    content = saved(make_image(), "JPEG", exif=block)
    with Image.open(io.BytesIO(content)) as image:
        assert dict(image.getexif().get_ifd(IFD.Exif)) == {original[0]: 20240517, digitized[0]: date}
    assert read_metadata(content, KINDS) == NOTHING


@pytest.mark.parametrize(
    ("mode", "kind", "kept"),
    [
        ("RGB", "JPEG", True),
        ("RGBA", "PNG", True),
        ("P", "PNG", True),
        ("L", "JPEG", False),
        ("LA", "PNG", False),
        ("1", "PNG", False),
        ("I;16", "PNG", False),
        ("CMYK", "JPEG", False),
        ("YCbCr", "TIFF", False),
        ("LAB", "TIFF", False),
    ],
)
def test_profiles_fit_the_pixels(mode: str, kind: str, kept: bool) -> None:
    image = make_image("L").convert("I;16") if mode == "I;16" else make_image().convert(mode) if mode != "LAB" else None
    content = saved(image or Image.new("LAB", (32, 32)), kind, icc_profile=PROFILE)
    icc = read_metadata(content, ["icc"], more_formats=True).icc
    assert icc == (reduce_profile(PROFILE) if kept else None)


def test_profiles_of_other_colours_are_left_out() -> None:
    for other in (profile(colours(), space=b"CMYK"), b"SECRET", b""):
        assert read_metadata(saved(make_image(), "JPEG", icc_profile=other), KINDS) == NOTHING


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not an image"),
        (b"this is no image", "not an image"),
        (bomb(60_000, 60_000), "60000 x 60000 pixels are more than the limit"),
        (jpeg()[:100], "damaged"),
        (bomb(64, 64), "damaged"),
    ],
)
def test_bad_files_are_photo_errors(content: bytes, why: str) -> None:
    with pytest.raises(PhotoError, match=why):
        read_metadata(content, KINDS)


def test_other_formats_are_refused_unless_they_are_asked_for() -> None:
    with pytest.raises(PhotoError, match="`more_formats`"):
        read_metadata(saved(make_image(), "TIFF"), KINDS)


@given(
    st.sampled_from(KINDS_OF_PHOTOS),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
    st.integers(0, 3000),
)
def test_damaged_metadata_gives_no_secret(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(full_of_metadata(kind, make_image()))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        metadata = read_metadata(bytes(data[: -cut or None]), KINDS, more_formats=True)
    except PhotoError:
        return
    assert b"SECRET" not in encode(make_image(), "webp", 95, metadata)
