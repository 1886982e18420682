"""Which photos a run is over."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import UsageError
from .images import read_file
from .remote import Remote, is_url, parse, safe_name

# Of a folder's files, those with these endings are photos; a file that is named is one whatever its ending.
SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to anonymize.

    Attributes:
        path: of the file, or its URL.
        name: relative to the folder that was asked for; its portrait goes to the same place in the output folder.
    """

    path: Path | Remote
    name: Path

    def read(self) -> bytes:
        """The file's content.

        Raises:
            PhotoError: it cannot be read.
        """
        return self.path.read() if isinstance(self.path, Remote) else read_file(self.path)


def find_photos(
    arguments: Iterable[Path | str],
    *,
    recursive: bool = False,
    avoid: Path | None = None,
    listed: BinaryIO | None = None,
) -> Iterator[Photo]:
    """The photos that arguments stand for, in the same order every time.

    Args:
        arguments: files, folders, patterns with ``*``, ``?`` or ``[``, URLs, and ``-`` for ``listed``.
        recursive: look into the folders of a folder, too; ``**`` in a pattern always does.
        avoid: a folder that is not looked into: where the portraits go.
        listed: names of files, a line each, or separated by NUL, as ``find -print0`` writes them.

    Raises:
        UsageError: a folder or a pattern holds no photo, or a folder cannot be read.
    """
    for argument in map(_source, arguments):
        if isinstance(argument, Remote):
            yield from _some(_remote(argument, recursive), argument)
        elif listed is not None and argument == Path("-"):
            yield from _some(map(_alone, _read_names(listed)), argument)
        elif argument.is_dir():
            yield from _some(_walk(argument, Path(), recursive, _identity(avoid), set()), argument)
        elif glob.has_magic(str(argument)) and not os.path.lexists(argument):
            found = (Path(name) for name in sorted(glob.glob(str(argument), recursive=True)))  # noqa: PTH207
            yield from _some((_alone(path) for path in found if not path.is_dir()), argument)
        else:
            yield _alone(argument)


def _source(argument: Path | str) -> Path | Remote:
    return parse(argument) if isinstance(argument, str) and is_url(argument) else Path(argument)


def _alone(path: Path | Remote) -> Photo:
    """A photo that was named, of whose folder nothing is known."""
    name = path.path.rpartition("/")[2] if isinstance(path, Remote) else path.name
    return Photo(path, safe_name(name))


def _remote(source: Remote, recursive: bool) -> Iterator[Photo]:
    files = source.files(recursive=recursive)
    if files is None:
        yield _alone(source)
        return
    for path, name in files:
        if name.suffix.lower() in SUFFIXES:
            yield Photo(path, name)


def _some(photos: Iterator[Photo], argument: Path | Remote) -> Iterator[Photo]:
    empty = True
    for photo in photos:
        empty = False
        yield photo
    if empty:
        fix = "check the name, or look into the folders inside with --recursive"
        raise UsageError(str(argument), "there is no photo in it", fix)


def _read_names(stream: BinaryIO) -> Iterator[Path | Remote]:
    content = stream.read()
    separator = b"\0" if b"\0" in content else b"\n"
    return (_source(os.fsdecode(name)) for name in content.split(separator) if name)


def _walk(
    folder: Path, name: Path, recursive: bool, avoid: tuple[int, int] | None, seen: set[tuple[int, int] | None]
) -> Iterator[Photo]:
    """A folder's photos, then those of its folders; each folder once, however many links lead to it."""
    identity = _identity(folder)
    if identity in seen or identity == avoid:
        return
    seen.add(identity)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"folder {folder}", why, "change its permissions, or leave it out") from None
    for entry in entries:
        if Path(entry.name).suffix.lower() in SUFFIXES and not _is_folder(entry):
            yield Photo(Path(entry.path), name / entry.name)
    for entry in entries if recursive else ():
        if _is_folder(entry):
            yield from _walk(Path(entry.path), name / entry.name, recursive, avoid, seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    if entry.is_symlink():
        return Path(entry.path).is_dir()  # unlike the entry's own, no error if the link leads to itself
    return entry.is_dir()


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """What all paths to one folder have in common; None if there is none."""
    if folder is None or not folder.is_dir():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino
