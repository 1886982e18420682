"""Which photos a run is over, and under which names their portraits go into the output folder."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import UsageError

# Of a folder's files, those with these endings are photos; a file that is named is one whatever its ending.
SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
}  # fmt: skip
ENDINGS = {"png": "png", "jpeg": "jpg", "webp": "webp"}  # of portraits, by format


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to anonymize.

    Attributes:
        path: of the file.
        name: relative to the folder that was asked for; its portrait goes to the same place in the output folder.
    """

    path: Path
    name: Path


def find_photos(
    arguments: Iterable[Path], *, recursive: bool = False, avoid: Path | None = None, listed: BinaryIO | None = None
) -> Iterator[Photo]:
    """The photos that arguments stand for, in the same order every time.

    Args:
        arguments: files, folders, patterns with ``*``, ``?`` or ``[``, and ``-`` for ``listed``.
        recursive: look into the folders of a folder, too; ``**`` in a pattern always does.
        avoid: a folder that is not looked into: where the portraits go.
        listed: names of files, a line each, or separated by NUL, as ``find -print0`` writes them.

    Raises:
        UsageError: a folder or a pattern holds no photo, or a folder cannot be read.
    """
    for argument in arguments:
        if listed is not None and argument == Path("-"):
            yield from (Photo(path, Path(path.name)) for path in _read_names(listed))
        elif argument.is_dir():
            yield from _some(_walk(argument, Path(), recursive, _identity(avoid), set()), argument)
        elif glob.has_magic(str(argument)) and not os.path.lexists(argument):
            found = (Path(name) for name in sorted(glob.glob(str(argument), recursive=True)))  # noqa: PTH207
            yield from _some((Photo(path, Path(path.name)) for path in found if not path.is_dir()), argument)
        else:
            yield Photo(argument, Path(argument.name))


def _some(photos: Iterator[Photo], argument: Path) -> Iterator[Photo]:
    empty = True
    for photo in photos:
        empty = False
        yield photo
    if empty:
        fix = "check the name, or look into the folders inside with --recursive"
        raise UsageError(str(argument), "there is no photo in it", fix)


def _read_names(stream: BinaryIO) -> Iterator[Path]:
    content = stream.read()
    separator = b"\0" if b"\0" in content else b"\n"
    return (Path(os.fsdecode(name)) for name in content.split(separator) if name)


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
        if Path(entry.name).suffix.lower() in SUFFIXES and not entry.is_dir():
            yield Photo(Path(entry.path), name / entry.name)
    for entry in entries if recursive else ():
        if entry.is_dir():
            yield from _walk(Path(entry.path), name / entry.name, recursive, avoid, seen)


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """What all paths to one folder have in common; None if there is none."""
    if folder is None or not folder.is_dir():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Naming:
    """How portraits are called and written.

    Attributes:
        format: ``png``, ``jpeg`` or ``webp``.
        suffix: put between a photo's name and the ending.
        rename: ``none``, or ``hash`` for names that say nothing about the photo's.
    """

    format: str = "png"
    suffix: str = ""
    rename: str = "none"

    def name(self, photo: Photo, pseudonym: str) -> Path:
        """The portrait's name, relative to the output folder."""
        stem = Path(pseudonym) if self.rename == "hash" else photo.name.with_suffix("")
        return stem.with_name(f"{stem.name}{self.suffix}.{ENDINGS[self.format]}")


def check_names(photos: Sequence[Photo], naming: Naming, out: Path) -> None:
    """Make sure that no two portraits have one name, and that none would take a photo's place.

    Raises:
        UsageError: one would.
    """
    if naming.rename == "hash":
        return
    taken: dict[Path, Path] = {}
    originals = {os.path.realpath(photo.path) for photo in photos}
    folders: dict[Path, str] = {}
    for photo in photos:
        name = naming.name(photo, "")
        folder = folders.setdefault(name.parent, os.path.realpath(out / name.parent))
        if name in taken:
            why = f"{taken[name]} and {photo.path} would both go there"
            raise UsageError(
                f"output {out / name}", why, "rename one, run them into different folders, or --rename hash"
            )
        if f"{folder}/{name.name}" in originals:
            raise UsageError(f"output {out / name}", "it would overwrite a photo", "choose another folder")
        taken[name] = photo.path
