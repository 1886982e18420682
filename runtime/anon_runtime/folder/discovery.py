"""Finding the photos of a run."""

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import UsageError
from ..faces.decoding import read_file
from .remote import Remote, is_url, parse, safe_name

log = logging.getLogger(__name__)
PRIVATE = ".anon-run"  # the private folder in an output folder, for temporary files; it never holds photos
# A file in a folder is a photo if it has one of these endings. A file that the user names is always a photo.
SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to anonymize.

    Attributes:
        path: the path of the file, or its URL.
        name: the path relative to the folder that the user named. The portrait gets the same relative path in the
            output folder, with another ending.
        face: the number of one of its faces, from 1, if each of them gets a portrait; 0 for the photo itself.
    """

    path: Path | Remote
    name: Path
    face: int = 0

    def read(self) -> bytes:
        """Return the content of the file.

        Raises:
            PhotoError: the file cannot be read.
        """
        return self.path.read() if isinstance(self.path, Remote) else read_file(self.path)


def find_photos(
    arguments: Iterable[Path | str],
    *,
    recursive: bool = False,
    avoid: Path | None = None,
    listed: BinaryIO | None = None,
) -> Iterator[Photo]:
    """Yield the photos that a user's arguments name, in the same order every time.

    Args:
        arguments: files, folders, patterns with ``*``, ``?`` or ``[``, URLs, and the text ``-`` for ``listed``.
        recursive: whether to search the folders inside a folder as well; ``**`` in a pattern always does.
        avoid: the output folder. The files in it are not photos, except for a file that the user names.
        listed: the names of files, one per line, or separated by NUL as ``find -print0`` writes them.

    Raises:
        UsageError: a folder or a pattern holds no photo, or a folder cannot be read.
    """
    avoided, sources = Avoided(avoid), list(arguments)
    for argument in sources:
        if listed is not None and argument == "-":
            yield from _some(avoided.leave_out(map(_alone, _read_names(listed))), argument)
        elif isinstance(source := _source(argument), Remote):
            yield from _some(_remote(source, recursive), source)
        elif source.is_dir() and avoided.is_it(source):
            if len(sources) == 1:
                raise UsageError(f"folder {source}", "it is the output folder", "choose another `output`")
            # The output folder is left out silently here: a shell may have put it into the list for `photos/*`.
        elif source.is_dir():
            yield from _some(_walk(source, Path(), recursive, avoided, set()), source)
        elif glob.has_magic(str(source)) and not os.path.lexists(source):
            found = (Path(name) for name in sorted(glob.glob(str(source), recursive=True)))  # noqa: PTH207
            yield from _some(avoided.leave_out(_alone(path) for path in found if not path.is_dir()), source)
        else:
            yield _alone(source)
    if avoided.count:
        log.warning("%d images were left out, as they lie in the output folder, %s", avoided.count, avoid)


class Avoided:
    """The output folder, whose files are left out, and the number of images that were left out.

    Args:
        folder: the output folder; None if there is none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.count = 0
        self._identity = _identity(folder)
        self._real = folder.resolve() if folder is not None and self._identity is not None else None

    def is_it(self, folder: Path) -> bool:
        """Return whether a folder is the output folder."""
        return self._identity is not None and _identity(folder) == self._identity

    def leave_out(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """Yield the photos that do not lie in the output folder, and count the others."""
        for photo in photos:
            if self._real is not None and isinstance(photo.path, Path) and self._holds(photo.path):
                self.count += 1
            else:
                yield photo

    def _holds(self, path: Path) -> bool:
        return (path.parent.resolve() / path.name).is_relative_to(self._real or path)


def _source(argument: Path | str) -> Path | Remote:
    return parse(argument) if isinstance(argument, str) and is_url(argument) else Path(argument)


def _alone(path: Path | Remote) -> Photo:
    """Return a photo that the user named directly, so that its name has no folder."""
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


def _some(photos: Iterator[Photo], argument: Path | Remote | str) -> Iterator[Photo]:
    empty = True
    for photo in photos:
        empty = False
        yield photo
    if empty:
        fix = "check the name, or look into the folders inside with `recursive`"
        raise UsageError(str(argument), "there is no photo in it", fix)


def _read_names(stream: BinaryIO) -> Iterator[Path | Remote]:
    content = stream.read()
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        names = [name for name in content.split(b"\n") if name]
        if all(name.endswith(b"\r") for name in names):  # the list was made on Windows
            names = [name[:-1] for name in names]
    return (_source(os.fsdecode(name)) for name in names if name)


def _walk(
    folder: Path, name: Path, recursive: bool, avoided: Avoided, seen: set[tuple[int, int] | None]
) -> Iterator[Photo]:
    """Yield the photos in a folder, then those in its folders; each folder only once, even with links."""
    identity = _identity(folder)
    if identity in seen or folder.name == PRIVATE or avoided.is_it(folder):
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
            yield from _walk(Path(entry.path), name / entry.name, recursive, avoided, seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    if entry.is_symlink():
        return Path(entry.path).is_dir()  # entry.is_dir() would raise an error for a link that leads to itself
    return entry.is_dir()


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Return a value that is the same for all paths to one folder; None if there is no such folder."""
    if folder is None or not folder.is_dir():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino
