"""Photos at URLs, such as ``s3://bucket/folder``, read through the file systems of pyarrow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from ..errors import UsageError, first_line
from ..faces.decoding import MAX_BYTES, check_bytes, reading

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(text: str) -> bool:
    """Return whether a text is a URL and not a path."""
    return URL.match(text) is not None


@dataclass(frozen=True, slots=True)
class Remote:
    """A file or a folder at a URL.

    Attributes:
        root: the URL of its file system, with scheme, bucket or host, and options; it may hold secrets.
        path: the path in that file system.
    """

    root: str
    path: str

    def __str__(self) -> str:
        """Return the URL without secrets."""
        return f"{urlsplit(self.root).scheme}://{self.path}"

    def read(self) -> bytes:
        """Return the content of the file.

        Raises:
            PhotoError: the file is missing, cannot be read, or is larger than any photo.
        """
        with reading(), open_file_system(self.root)[0].open_input_stream(self.path, compression=None) as file:
            content: bytes = file.read(MAX_BYTES + 1)
        check_bytes(len(content))
        return content

    def files(self, *, recursive: bool) -> Iterator[tuple["Remote", Path]] | None:
        """Return the files of a folder with their names relative to it, sorted by name; None if this is not a folder.

        Names in a bucket may contain ``..``; these parts are removed.

        Args:
            recursive: whether to list the files in the folders inside as well.

        Raises:
            UsageError: the folder cannot be listed.
        """
        from pyarrow.fs import FileSelector, FileType

        system = open_file_system(self.root)[0]
        try:
            if system.get_file_info(self.path).type is not FileType.Directory:
                return None
            found = system.get_file_info(FileSelector(self.path, recursive=recursive))
        except OSError as error:
            why = first_line(error).replace(self.root, "")
            raise UsageError(
                str(self), f"it cannot be looked into ({why})", "check the address and its access"
            ) from None
        paths = sorted(info.path for info in found if info.is_file)
        return ((Remote(self.root, path), safe_name(path.removeprefix(self.path))) for path in paths)


def parse(url: str) -> Remote | Path:
    """Return the file or folder at a URL; a URL with ``file:`` is returned as a path.

    Args:
        url: the URL.

    Raises:
        UsageError: there is no such file system, or pyarrow is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "file":
        return Path(unquote(parts.path))
    root = urlunsplit(SplitResult(parts.scheme, parts.netloc, "/", parts.query, ""))
    # The paths of files in a bucket begin with the name of the bucket. Paths on a host do not begin with the host.
    return Remote(root, open_file_system(root)[1].rstrip("/") + unquote(parts.path).rstrip("/"))


def safe_name(path: str) -> Path:
    """Return a relative path that cannot leave its folder, made from the name of any object in a bucket."""
    return Path(*[part for part in path.split("/") if part not in ("", ".", "..")] or ["photo"])


@cache
def open_file_system(root: str) -> tuple[Any, str]:
    """Return a file system of pyarrow, and the prefix of all paths in it.

    Args:
        root: the URL of the file system.

    Raises:
        UsageError: there is no such file system, or pyarrow is not installed.
    """
    shown = urlsplit(root).scheme + "://"
    try:
        from pyarrow.fs import FileSystem
    except ImportError:
        fix = "pip install 'anon-engines[ray]'"
        raise UsageError(f"{shown} as an input", "reading URLs needs pyarrow, which is not installed", fix) from None
    try:
        system, prefix = FileSystem.from_uri(root)
    except (ValueError, OSError, ImportError) as error:
        why = first_line(error).replace(root, shown)  # the URL may hold secrets
        fix = "use s3://bucket/folder, gs://bucket/folder, hdfs://host/folder, or a path"
        raise UsageError(f"{shown} as an input", f"it cannot be opened ({why})", fix) from None
    return system, prefix
