import contextlib
import errno
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime.errors import PhotoError
from anon_runtime.faces import decoding
from anon_runtime.faces.decoding import MAX_PIXELS, decode_photo, load_photo, read_file, read_photo, reading
from anon_runtime.types import Pixels
from tests.runtime.image_files import bomb, jpeg, jpeg_header, make_image, png, webp_header

ORIENTATION = 0x0112


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm", "gif"])
def test_reads_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = saved(make_image(), tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(make_image())
    tolerance = 40 if suffix == "gif" else 0  # GIF has a palette of 256 colours
    assert np.abs(read_photo(path, more_formats=True).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", ["bmp", "tif", "ppm", "gif"])
def test_other_formats_are_refused_unless_they_are_asked_for(tmp_path: Path, suffix: str) -> None:
    path = saved(make_image(), tmp_path / f"a.{suffix}")
    with pytest.raises(PhotoError, match="`more_formats`"):
        read_photo(path)
    path.rename(tmp_path / "a.jpg")
    with pytest.raises(PhotoError, match="`more_formats`"):  # the format follows from the content and not from the name
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "EPS", "PDF", "SGI"])
def test_formats_that_no_camera_writes_are_refused_always(kind: str) -> None:
    buffer = io.BytesIO()
    make_image().save(buffer, kind)
    with pytest.raises(PhotoError, match="not an image in a known format"):
        decode_photo(buffer.getvalue(), more_formats=True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(make_image(), tmp_path / "a.png", exif=exif)
    shape = (48, 32, 3) if orientation >= 5 else (32, 48, 3)
    upright = read_photo(path)
    assert upright.shape == shape
    if orientation == 3:
        np.testing.assert_array_equal(upright, np.asarray(make_image())[::-1, ::-1])


def test_cmyk_is_converted_with_a_note(tmp_path: Path) -> None:
    decoded = load_photo(saved(make_image("CMYK"), tmp_path / "a.tif"), more_formats=True)
    np.testing.assert_allclose(decoded.pixels.astype(int), np.asarray(make_image()), atol=1)
    assert decoded.converted == "CMYK"


def test_16_bit_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 32 * 48).reshape(32, 48).astype(np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    decoded = load_photo(path)
    np.testing.assert_allclose(decoded.pixels[..., 0], values / 257, atol=0.51)
    assert decoded.converted == "I;16"


def test_transparency_becomes_white(tmp_path: Path) -> None:
    image = make_image("RGBA")
    image.putalpha(0)
    assert (read_photo(saved(image, tmp_path / "a.png")) == 255).all()


def test_palette_and_gray(tmp_path: Path) -> None:
    for mode in ("P", "L", "1", "LA"):
        assert read_photo(saved(make_image(mode), tmp_path / f"{mode}.png")).shape == (32, 48, 3)


def test_mpo_photos_of_phones_are_photos(tmp_path: Path) -> None:
    path = saved(make_image(), tmp_path / "a.mpo", save_all=True, append_images=[make_image()])
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert read_photo(path).shape == (32, 48, 3)


LARGEST_OF_PHONES = 16384, 12288


@pytest.mark.parametrize(("kind", "size", "most"), [("JPEG", LARGEST_OF_PHONES, 3), ("PNG", (9216, 9216), 8)])
def test_large_photos_are_read_in_bounded_memory(tmp_path: Path, kind: str, size: tuple[int, int], most: int) -> None:
    """The peak memory is at most ``most`` bytes for each pixel; a separate process has a peak of its own."""
    path = tmp_path / "photo"
    Image.new("RGB", size, (200, 100, 50)).save(path, kind)
    code = (
        "import resource, sys; from pathlib import Path; from anon_runtime.faces.decoding import load_photo\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; photo = load_photo(Path(sys.argv[1]))\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(*photo.pixels.shape, photo.reduction, *photo.pixels[9, 9], peak)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    height, width, _, reduction, *colour, peak = map(int, result.stdout.split())
    assert (width * 2, height * 2, reduction) == (*size, 2)
    assert np.abs(np.array(colour) - (200, 100, 50)).max() <= 2
    assert peak * 1024 < most * size[0] * size[1]


def test_the_limit_is_ours_and_pillows_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 64
    monkeypatch.setattr(decoding, "MAX_PIXELS", side * side)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    buffer = io.BytesIO()
    make_image(size=(side, side)).save(buffer, "PNG")
    assert decode_photo(buffer.getvalue()).pixels.shape == (side, side, 3)
    with pytest.raises(PhotoError, match="65 x 64 pixels are more than the limit of 4,096"):
        decode_photo(bomb(side + 1, side))
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16"])
def test_a_reduced_photo_looks_like_the_whole_one(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = np.zeros((400, 600, 3), np.uint8)
    shapes[100:300, 200:500] = 220, 160, 100
    image, exif, buffer = Image.fromarray(shapes), Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = 6
    image = Image.fromarray(shapes[..., 0].astype(np.uint16) * 256) if mode == "I;16" else image.convert(mode)
    try:
        image.save(buffer, kind, exif=exif)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"{kind} does not hold {mode}")
    whole = decode_photo(buffer.getvalue(), more_formats=True)
    monkeypatch.setattr(decoding, "MAX_DECODED", 600 * 400 // 10)
    reduced = decode_photo(buffer.getvalue(), more_formats=True)
    assert (whole.reduction, reduced.reduction) == (1, 4)
    assert whole.pixels.shape[:2] == (600, 400)
    assert reduced.pixels.shape == (150, 100, 3)
    small = np.asarray(Image.fromarray(whole.pixels).reduce(4))
    assert np.abs(small.astype(int) - reduced.pixels).mean() < 4


def test_a_given_image_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_DECODED", 100)
    buffer = io.BytesIO()
    make_image(size=(64, 64)).save(buffer, "JPEG")
    with Image.open(buffer) as image:
        assert read_photo(image).shape == (8, 8, 3)
        assert image.size == (64, 64) == np.asarray(image).shape[:2]


BAD = {
    "text": (b"this is no image", "not an image"),
    "empty": (b"", "not an image"),
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
    assert "\n" not in str(caught.value)


def test_one_pixel_missing_animated_and_folder_are_refused(tmp_path: Path) -> None:
    cases = {
        saved(make_image(size=(1, 1)), tmp_path / "one.png"): "too few",
        tmp_path / "missing.png": "no such file",
        saved(make_image(), tmp_path / "film.gif", save_all=True, append_images=[make_image("L")]): "animated",
        saved(make_image(), tmp_path / "film.png", save_all=True, append_images=[make_image().rotate(90)]): "animated",
        tmp_path: "folder",
    }
    for path, why in cases.items():
        with pytest.raises(PhotoError, match=why):
            read_photo(path, more_formats=True)


def test_what_is_no_regular_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(PhotoError, match="no regular file"):
            read_file(path)
    with pytest.raises(PhotoError, match="NUL"):
        read_file(Path("a\0b.jpg"))
    (tmp_path / "large.jpg").write_bytes(b"12345")
    monkeypatch.setattr(decoding, "MAX_BYTES", 4)
    with pytest.raises(PhotoError, match="5 bytes are more"):
        read_file(tmp_path / "large.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_header_of_50000_pixels_takes_no_memory(kind: str) -> None:
    side = 50_000 if kind != "WEBP" else 16_383  # the largest side that a WebP header can hold
    content = {"PNG": bomb(side, side), "JPEG": jpeg_header(side), "WEBP": webp_header(side)}[kind]
    tracemalloc.start()
    with pytest.raises(PhotoError, match="pixels"):
        decode_photo(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@given(
    st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]),
    st.integers(0, 2000),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_give_a_photo_or_a_photo_error(kind: str, cut: int, changes: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    make_image(size=(200, 200)).save(buffer, kind)
    data = bytearray(buffer.getvalue()[: cut + 100])
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(PhotoError):
        assert decode_photo(bytes(data), more_formats=True).pixels.dtype == np.uint8


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"]))
def test_arbitrary_bytes_give_a_photo_error(content: bytes, start: bytes) -> None:
    with pytest.raises(PhotoError):
        decode_photo(start + content, more_formats=True)


def test_images_that_cannot_be_decoded_are_photo_errors() -> None:
    closed = Image.open(io.BytesIO(jpeg()))
    closed.close()
    for image in (Image.open(io.BytesIO(jpeg()[:900])), closed):
        with pytest.raises(PhotoError, match="the image is damaged"):
            read_photo(image)


def test_every_conversion_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    for mode in ("L", "P", "RGBA", "CMYK", "RGB"):
        buffer = io.BytesIO()
        options = {"transparency": (1, 2, 3)} if mode == "RGB" else {}
        make_image(mode).save(buffer, "TIFF" if mode == "CMYK" else "PNG", **options)
        decoded = decode_photo(buffer.getvalue(), more_formats=True)
        assert decoded.converted == {"RGB": "transparent"}.get(mode, mode)
        caplog.clear()
        decoded.log_conversion("a.jpg")
        assert f"a.jpg: its {decoded.converted} pixels were converted" in caplog.text
    assert decode_photo(png(32, 32, 16, bytes(1 + 32 * 6) * 32)).converted == "16-bit"
    usual = decode_photo(png(32, 32, 8, bytes(1 + 32 * 3) * 32))
    caplog.clear()
    usual.log_conversion("a.jpg")
    assert usual.converted is None
    assert caplog.text == ""


def test_arrays_are_checked() -> None:
    good = np.zeros((32, 32, 3), np.uint8)
    assert read_photo(good) is good
    for bad in (good.astype(np.float32), good[..., 0], good[:2]):
        with pytest.raises(PhotoError):
            read_photo(cast(Pixels, bad))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission to read it is denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "there is no such file"),
        (OSError(errno.EIO, "Input/output error"), r"it cannot be read \(Input/output error\)"),
        (OSError("reading key 'jane.jpg'"), r"it cannot be read \(OSError\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_photo_error(error: OSError, why: str) -> None:
    with pytest.raises(PhotoError, match=why), reading():
        raise error


def test_a_photo_that_does_not_fit_into_memory_is_a_photo_error() -> None:
    with pytest.raises(PhotoError, match="it does not fit into memory"), decoding.decoding():
        raise MemoryError
