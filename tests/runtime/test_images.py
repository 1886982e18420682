import io
import logging
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime.errors import OutputError, PhotoError
from anon_runtime.images import MAX_PIXELS, encode_png, read_photo, write_file

ORIENTATION = 0x0112


def picture(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm", "gif"])
def test_reads_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = saved(picture(), tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(picture())
    tolerance = 40 if suffix == "gif" else 0  # a palette of 256 colours
    assert np.abs(read_photo(path).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(picture(), tmp_path / "a.png", exif=exif)
    shape = (48, 32, 3) if orientation >= 5 else (32, 48, 3)
    upright = read_photo(path)
    assert upright.shape == shape
    if orientation == 3:
        np.testing.assert_array_equal(upright, np.asarray(picture())[::-1, ::-1])


def test_cmyk_is_converted_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(picture("CMYK"), tmp_path / "a.tif")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(read_photo(path).astype(int), np.asarray(picture()), atol=1)
    assert "CMYK" in caplog.text


def test_16_bit_is_scaled_not_clipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.linspace(0, 65535, 32 * 48).reshape(32, 48).astype(np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    read = read_photo(path)
    np.testing.assert_allclose(read[..., 0], values / 257, atol=0.51)
    assert "8-bit" in caplog.text


def test_transparency_becomes_white(tmp_path: Path) -> None:
    image = picture("RGBA")
    image.putalpha(0)
    assert (read_photo(saved(image, tmp_path / "a.png")) == 255).all()


def test_palette_and_gray(tmp_path: Path) -> None:
    for mode in ("P", "L", "1", "LA"):
        assert read_photo(saved(picture(mode), tmp_path / f"{mode}.png")).shape == (32, 48, 3)


def test_mpo_photos_of_phones_are_photos(tmp_path: Path) -> None:
    path = saved(picture(), tmp_path / "a.mpo", save_all=True, append_images=[picture()])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert read_photo(path).shape == (32, 48, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces a huge picture that is not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    picture(size=(200, 200)).save(buffer, format="JPEG")
    return buffer.getvalue()


BAD = {
    "text": (b"this is no picture", "not a picture"),
    "empty": (b"", "not a picture"),
    "truncated": (jpeg()[:900], "damaged"),
    "bomb": (bomb(MAX_PIXELS, 2), "pixels"),
    "bigger bomb": (bomb(60_000, 60_000), "pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    content, why = BAD[name]
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=why) as caught:
        read_photo(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_pixel_missing_animated_and_folder_are_refused(tmp_path: Path) -> None:
    cases = {
        saved(picture(size=(1, 1)), tmp_path / "one.png"): "too few",
        tmp_path / "missing.png": "no such file",
        saved(picture(), tmp_path / "film.gif", save_all=True, append_images=[picture("L")]): "animated",
        saved(picture(), tmp_path / "film.png", save_all=True, append_images=[picture().rotate(90)]): "animated",
        tmp_path: "folder",
    }
    for path, why in cases.items():
        with pytest.raises(PhotoError, match=why):
            read_photo(path)


@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), bit=st.integers(0, 7))
def test_damaged_files_give_a_photo_or_a_photo_error(cut: int, flip: int, bit: int) -> None:
    data = bytearray(jpeg()[: cut + 100])
    data[flip % len(data)] ^= 1 << bit
    image = None
    try:
        with Image.open(io.BytesIO(bytes(data))) as image:
            read_photo(image)
    except (PhotoError, OSError, SyntaxError, ValueError):
        pass


def test_arrays_are_checked() -> None:
    good = np.zeros((32, 32, 3), np.uint8)
    assert read_photo(good) is good
    for bad in (good.astype(np.float32), good[..., 0], good[:2]):
        with pytest.raises(PhotoError):
            read_photo(bad)


def test_png_carries_no_metadata() -> None:
    image = picture()
    image.info |= {"Author": "somebody", "exif": b"Exif\0\0secret", "icc_profile": b"profile"}
    with Image.open(io.BytesIO(encode_png(image))) as read:
        assert read.info == {}
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))


def test_write_file_is_atomic_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / "absent" / "a.png", b"x")
    with pytest.raises(OutputError):
        write_file(tmp_path, b"x")  # a folder cannot be replaced
    assert list(tmp_path.iterdir()) == [path]
