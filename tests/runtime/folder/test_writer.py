import errno
import hashlib
import io
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import Base

from anon_runtime.errors import OutputError, PhotoError, UsageError
from anon_runtime.folder.discovery import Photo
from anon_runtime.folder.identity import Identity
from anon_runtime.folder.metadata import Metadata
from anon_runtime.folder.writer import ImageFormat, Output, encode, write_file
from tests.runtime.icc_profiles import colours, profile
from tests.runtime.image_files import make_image


def photo(path: str) -> Photo:
    return Photo(Path(path), Path(path).relative_to(Path(path).parts[0]))


def test_names(tmp_path: Path) -> None:
    a, b = photo("x/a.jpg"), photo("y/deep/b.tar.png")
    out = Output.parse(tmp_path)
    assert [out.name(p) for p in (a, b)] == [Path("a.png"), Path("deep/b.tar.png")]
    out = Output.parse(tmp_path, format="jpeg", suffix="_anon")
    assert [out.name(p) for p in (a, b)] == [Path("a_anon.jpg"), Path("deep/b.tar_anon.jpg")]
    hidden = Output.parse(tmp_path, rename="hash").name(b, Identity(1, "abc"))
    assert hidden == Path("abc.png"), "names of folders are hidden like names of files"


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [("a.PNG", None, "png"), ("a.jpeg", None, "jpeg"), ("a.webp", "webp", "webp"), ("a.jpg", "jpeg", "jpeg")],
)
def test_a_single_file_says_its_format(tmp_path: Path, name: str, format: ImageFormat | None, expected: str) -> None:
    out = Output.parse(tmp_path / name, format=format)
    assert (out.root, out.file, out.format) == (tmp_path, Path(name), expected)
    (tmp_path / name).mkdir()
    assert Output.parse(tmp_path / name).file is None, "a folder may have such a name, too"


@pytest.mark.parametrize(
    ("out", "choices"), [("a.bmp", {}), ("a.tif", {}), ("a.png", {"format": "webp"}), ("a", {"suffix": "../b"})]
)
def test_outputs_that_cannot_be(out: str, choices: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Output.parse(Path(out), **choices)


def test_two_portraits_never_share_a_name() -> None:
    photos = [photo("x/a.jpg"), photo("y/a.png")]
    with pytest.raises(UsageError, match="both"):
        Output.parse(Path("out")).check(photos)
    Output.parse(Path("out"), rename="hash").check(photos)
    with pytest.raises(UsageError, match="one file"):
        Output.parse(Path("out.png")).check(photos)


def test_a_portrait_never_lands_on_a_photo_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "a.png"
    path.write_bytes(b"original")
    (tmp_path / "out").symlink_to(tmp_path / "photos")
    for out in (tmp_path / "photos", tmp_path / "out", path):
        with pytest.raises(UsageError, match="overwrite"):
            Output.parse(out).check([Photo(path, Path("a.png"))])


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_files_carry_no_metadata(format: ImageFormat) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    image.info |= {"Author": "somebody", "comment": b"comment"}
    image.info |= {"exif": exif.tobytes(), "icc_profile": b"profile", "xmp": b"<x:xmpmeta>"}
    data = encode(image, format, 95)
    for word in (b"SecretCamera", b"somebody", b"comment", b"profile", b"xmpmeta", b"Exif", b"8BIM", b"iCCP", b"ICCP"):
        assert word not in data
    with Image.open(io.BytesIO(data)) as read:
        assert read.format == format.upper()
        assert read.size == (96, 96)
        assert set(read.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        if format == "png":
            np.testing.assert_array_equal(np.asarray(read), np.asarray(image))


@given(st.sampled_from(["png", "jpeg", "webp"]), st.integers(1, 8), st.integers(16, 40), st.integers(16, 40))
def test_what_is_shown_is_upright(format: ImageFormat, orientation: int, width: int, height: int) -> None:
    image, metadata = make_image(size=(width, height)), Metadata(orientation)
    with TemporaryDirectory() as folder:
        output, name = Output(Path(folder), format=format), Path(f"a.{format}")
        digest = output.write(name, image, metadata=metadata)
        shown, read = output.shown(image, metadata), output.read(name)
        data = (output.root / name).read_bytes()
    assert shown.shape == (height, width, 3)
    assert read is not None
    np.testing.assert_array_equal(read, shown)
    assert hashlib.sha256(data).hexdigest() == digest
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.size == ((height, width) if orientation >= 5 else (width, height))
        assert dict(stored.getexif()) == ({} if orientation == 1 else {Base.Orientation: orientation})
    if format == "png":
        np.testing.assert_array_equal(shown, np.asarray(image))
    else:
        assert np.abs(shown.astype(int) - np.asarray(image)).mean() < 12


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_metadata_is_written_beside_the_pixels(format: ImageFormat, tmp_path: Path) -> None:
    image, icc = make_image(), profile(colours())
    metadata = Metadata(6, icc, ((int(Base.DateTime), "2024:06:01 12:00:00"), (int(Base.SubsecTime), "042")))
    data = encode(image, format, 90, metadata)
    output = Output(tmp_path, format=format, quality=90)
    output.write(Path("a"), image, metadata=metadata)
    assert (tmp_path / "a").read_bytes() == data
    with Image.open(io.BytesIO(data)) as read:
        exif = read.getexif()
        assert read.info["icc_profile"] == icc
        assert (exif[Base.Orientation], exif[Base.DateTime]) == (6, "2024:06:01 12:00:00")
        assert exif.get_ifd(0x8769) == {Base.SubsecTime: "042"}


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_without_metadata_a_file_is_what_pillow_writes(format: ImageFormat) -> None:
    expected = io.BytesIO()
    make_image().save(expected, format, **({"compress_level": 4} if format == "png" else {"quality": 80}))
    assert encode(make_image(), format, 80, Metadata()) == expected.getvalue()


def test_files_that_are_no_pictures_are_not_read(tmp_path: Path) -> None:
    output = Output(tmp_path)
    (tmp_path / "text.png").write_bytes(b"this is no picture")
    (tmp_path / "cut.png").write_bytes(encode(make_image())[:-200])
    make_image().save(tmp_path / "odd.png", exif=b"Exif\0\0XX\0*\0\0\0\x08")
    for name in ("text.png", "cut.png", "odd.png", "missing.png"):
        assert output.read(Path(name)) is None


def test_quality_changes_the_size() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
    assert len(encode(image, "jpeg", 30)) < len(encode(image, "jpeg", 95))
    assert len(encode(image, "webp", 30)) < len(encode(image, "webp", 95))


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, path = tmp_path / "scratch", tmp_path / "deep" / "a.png"
    scratch.mkdir()
    write_file(path, b"one", scratch)
    monkeypatch.setattr(os, "fsync", lambda _handle: check_private())

    def check_private() -> None:
        for part in scratch.iterdir():
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
            assert path.read_bytes() == b"one"

    write_file(path, b"two", scratch)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_file(path, b"three", scratch)
    assert path.read_bytes() == b"two"
    assert list(scratch.iterdir()) == []
    assert list(path.parent.iterdir()) == [path]


def test_a_bad_name_is_the_fault_of_one_photo(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="too long"):
        write_file(tmp_path / ("x" * 300), b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PhotoError, match="directory"):
        write_file(tmp_path / "folder", b"")
    with pytest.raises(OutputError):
        write_file(Path("/proc/nowhere/a.png"), b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_portrait_is_no_folder_of_others() -> None:
    photos = [photo("x/a.jpg"), photo("x/a.png/b.jpg")]
    with pytest.raises(UsageError, match="into a folder of that name"):
        Output.parse(Path("out")).check(photos)


def test_removing_a_portrait(tmp_path: Path) -> None:
    output = Output.parse(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.png").write_bytes(b"portrait")
    assert output.remove(Path("deep/a.png"))
    assert not (tmp_path / "deep" / "a.png").exists()
    assert not output.remove(Path("deep/a.png"))
    assert not output.remove(Path("deep/a.png/b.png"))
    assert not output.remove(Path("deep"))
    assert (tmp_path / "deep").is_dir(), "a folder is not removed"
    with pytest.raises(OutputError, match="cannot remove"):
        Output.parse(Path("/proc/self")).remove(Path("status"))


def test_a_pseudonym_needs_the_content_of_the_photo(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identity"):
        Output.parse(tmp_path, rename="hash").name(photo("x/a.jpg"))
