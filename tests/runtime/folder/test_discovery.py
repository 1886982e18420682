import errno
import io
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from anon_runtime.errors import UsageError
from anon_runtime.folder.discovery import find_photos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(folder: Path, *arguments: str | Path, **options: Any) -> list[str]:
    return [str(photo.name) for photo in find_photos([folder / a for a in arguments], **options)]


def test_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", "sub/c.webp", "sub/deep/d.jpeg", "empty/x.md", "a.b/e.heic")
    assert names(tmp_path, ".") == ["a.png", "b.JPG"]
    assert names(tmp_path, ".", recursive=True) == ["a.png", "b.JPG", "a.b/e.heic", "sub/c.webp", "sub/deep/d.jpeg"]
    assert names(tmp_path, "sub", "b.JPG", "notes.txt") == ["c.webp", "b.JPG", "notes.txt"]
    assert names(tmp_path, ".", recursive=True, avoid=tmp_path / "sub" / ".." / "sub") == [
        "a.png",
        "b.JPG",
        "a.b/e.heic",
    ]
    with pytest.raises(UsageError, match="`recursive`"):
        names(tmp_path, "empty")


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "sub/3.jpg", "odd[1].jpg")
    assert names(tmp_path, "?.jpg") == ["1.jpg", "2.jpg"]
    assert names(tmp_path, "**/*.jpg") == ["1.jpg", "2.jpg", "odd[1].jpg", "3.jpg"]
    assert names(tmp_path, "odd[1].jpg") == ["odd[1].jpg"], "the name of a file is not used as a pattern"
    with pytest.raises(UsageError, match="no photo"):
        names(tmp_path, "*.png")


def test_lists() -> None:
    def listed(content: bytes) -> list[str]:
        return [str(p.path) for p in find_photos(["-"], listed=io.BytesIO(content))]

    assert listed(b"a.jpg\nb c.jpg\n\n../d.jpg") == ["a.jpg", "b c.jpg", "../d.jpg"]
    assert listed(b"a\nb.jpg\0c.jpg\0") == ["a\nb.jpg", "c.jpg"]
    assert os.fsencode(listed(b"\xff\xfe.jpg\n")[0]) == b"\xff\xfe.jpg"
    assert [p.name for p in find_photos(["-"], listed=io.BytesIO(b"/\n../x/d.jpg"))] == [
        Path("photo"),
        Path("d.jpg"),
    ]
    assert listed(b"a.jpg\r\n\r\nb.jpg\r\n") == ["a.jpg", "b.jpg"], "the list was made on Windows"
    assert listed(b"a.jpg\r\nb.jpg\n") == ["a.jpg\r", "b.jpg"], "a name may end with a carriage return"
    with pytest.raises(UsageError, match="no photo"):
        listed(b"\n")


def test_a_file_called_dash_is_no_list() -> None:
    (photo,) = find_photos([Path("./-")], listed=io.BytesIO(b"a.jpg"))
    assert photo.path == Path("-")


def test_what_lies_in_the_output_folder_is_no_photo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.jpg", "out/a.png", "out/deep/b.png", ".anon-run/c.png")
    out = tmp_path / "out"
    (tmp_path / "link").symlink_to(out)
    content = b"\n".join(os.fsencode(tmp_path / name) for name in ("a.jpg", "out/a.png", "link/deep/b.png"))
    with caplog.at_level(logging.WARNING):
        assert names(tmp_path, "**/*.[jp][pn]g", avoid=out) == ["a.jpg"]
        assert [str(p.name) for p in find_photos(["-"], listed=io.BytesIO(content), avoid=out)] == ["a.jpg"]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["4", "2"], (
        "the link leads to the output folder, too"
    )
    assert names(tmp_path, "a.jpg", "out", avoid=out) == ["a.jpg"], "a shell expands a pattern to such a list"
    assert names(tmp_path, ".", recursive=True, avoid=out) == ["a.jpg"]
    with pytest.raises(UsageError, match="it is the output folder"):
        names(tmp_path, "out", avoid=out)
    assert names(tmp_path, "out/a.png", avoid=out) == ["a.png"], "a photo that the user names is not left out"


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    assert names(tmp_path, ".", recursive=True) == ["a.jpg", "again/b.jpg"], "each folder is visited once"
    (tmp_path / "ring.jpg").symlink_to(tmp_path / "ring.jpg")
    assert names(tmp_path, ".") == ["a.jpg", "ring.jpg"], "a photo that cannot be read is listed, and fails later"


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(UsageError, match=r"folder .*: Permission denied; change its permissions"):
        names(tmp_path, ".")


def test_names_of_any_bytes(tmp_path: Path) -> None:
    odd = [b"new\nline.jpg", b" space .jpg", b"\xff\xfe.jpg", b"x" * 251 + b".jpg", b"-o.jpg"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    assert sorted(os.fsencode(name) for name in names(tmp_path, ".")) == sorted(odd)
