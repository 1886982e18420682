"""Photos at URLs, on file systems that need no network."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.errors import PhotoError, UsageError
from anon_runtime.folder import remote
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.remote import Remote, is_url, parse, safe_name

pytestmark = pytest.mark.packages
fs = pytest.importorskip("pyarrow.fs", reason="the extra `ray` is not installed")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a bucket; it holds s3://people/photos."""
    system = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    real = remote.open_file_system
    monkeypatch.setattr(remote, "open_file_system", lambda root: (system, "people") if "s3" in root else real(root))
    folder = tmp_path / "people" / "photos" / "deep"
    folder.mkdir(parents=True)
    for name in ("b.jpg", "a b.JPG", "notes.txt", "deep/c.png"):
        (folder.parent / name).write_bytes(name.encode())
    return folder.parent


def test_a_folder_of_a_bucket(bucket: Path) -> None:
    found = list(find_photos(["s3://people/photos/"]))
    assert [str(p.path) for p in found] == ["s3://people/photos/a b.JPG", "s3://people/photos/b.jpg"]
    assert [p.name for p in found] == [Path("a b.JPG"), Path("b.jpg")]
    found = list(find_photos(["s3://people/photos?region=eu-west-1"], recursive=True))
    assert {p.name for p in found} == {Path("a b.JPG"), Path("b.jpg"), Path("deep/c.png")}
    assert [p.read() for p in found if p.name == Path("b.jpg")] == [b"b.jpg"]


def test_a_single_object_and_one_that_is_missing(bucket: Path) -> None:
    (photo,) = find_photos(["s3://people/photos/a%20b.JPG"])
    assert photo.name == Path("a b.JPG")
    assert photo.read() == b"a b.JPG"
    (missing,) = find_photos(["s3://people/photos/none.jpg"])
    with pytest.raises(PhotoError, match="there is no such file"):
        missing.read()
    assert str(missing.path) == "s3://people/photos/none.jpg"
    shutil.rmtree(bucket / "deep")
    (bucket / "deep").mkdir()
    with pytest.raises(UsageError, match="s3://people/photos/deep: there is no photo in it"):
        list(find_photos(["s3://people/photos/deep"]))


def test_secrets_of_a_url_are_not_shown(bucket: Path) -> None:
    (photo,) = find_photos(["s3://key:secret@people/photos/b.jpg?endpoint_override=host"])
    assert str(photo.path) == "s3://people/photos/b.jpg"


@pytest.mark.parametrize("url", ["s3://key:SECRET@buc ket/x", "https://user:SECRET@host/x"])
def test_secrets_of_a_url_that_is_wrong_are_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        list(find_photos([url]))
    assert "SECRET" not in str(caught.value)


class Refusing:
    """A bucket to which access is denied; the messages of pyarrow contain the name of the object."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def refuse(*_: object, **__: object) -> None:
            raise OSError("When reading information for key 'photos/jane.jpg': ACCESS_DENIED")

        return refuse


def test_a_bucket_that_refuses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(remote, "open_file_system", lambda _root: (Refusing(), "people"))
    with pytest.raises(UsageError, match=r"cannot be looked into.*ACCESS_DENIED"):
        list(find_photos(["s3://people/photos"]))
    with caplog.at_level(logging.WARNING), pytest.raises(PhotoError) as caught:
        Remote("s3://people/", "people/photos/jane.jpg").read()
    assert "jane" not in caught.value.why, "the reason is written into the journal"
    assert "ACCESS_DENIED" in caplog.text, "the log has the whole message"


def test_an_object_larger_than_any_photo(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 3)
    monkeypatch.setattr("anon_runtime.faces.decoding.MAX_BYTES", 3)
    (photo,) = find_photos(["s3://people/photos/b.jpg"])
    with pytest.raises(PhotoError, match="more than the limit of 3"):
        photo.read()


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    """Otherwise a portrait could replace a photo that is named by a URL."""
    assert parse(f"file://{tmp_path}/a%20b.jpg") == tmp_path / "a b.jpg"


def test_through_pyarrow_itself(tmp_path: Path) -> None:
    (tmp_path / "ä b.jpg").write_bytes(b"photo")
    (photo,) = find_photos([f"fsspec+file://{tmp_path}"])
    assert isinstance(photo.path, Remote)
    assert photo.name == Path("ä b.jpg")
    assert photo.read() == b"photo"


def test_what_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nope:// as an input: it cannot be opened"):
        list(find_photos(["nope://bucket/photos"]))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.fs", None)
    with pytest.raises(UsageError, match=r"pyarrow, which is not installed; pip install 'anon-engines\[ray\]'"):
        list(find_photos(["s3://another-bucket/photos"]))


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "...", "ü"]) | st.text(max_size=3), max_size=6))
def test_no_name_leaves_the_folder(parts: list[str]) -> None:
    name = safe_name("/".join(parts))
    assert not name.is_absolute()
    assert ".." not in name.parts
    assert name.name


def test_what_is_a_url() -> None:
    assert is_url("s3://a")
    assert is_url("gs://a/b")
    assert is_url("fsspec+file:///a")
    assert not is_url("photos/a.jpg")
    assert not is_url("/a://b")
    assert not is_url("c:/photos")
    assert not is_url("-")
