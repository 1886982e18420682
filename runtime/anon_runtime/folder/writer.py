"""Writing portraits: their names, their formats, and atomic writing of files."""

import errno
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image, ImageOps

from ..errors import OutputError, PhotoError, UsageError
from ..faces.decoding import decoding
from ..types import Pixels
from .discovery import Photo
from .identity import Identity
from .metadata import NOTHING, Metadata
from .remote import Remote

ImageFormat = Literal["png", "jpeg", "webp"]
Rename = Literal["none", "hash"]
ENDINGS: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
FORMATS: dict[str, ImageFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
OTHER_IMAGES = {".avif", ".bmp", ".gif", ".heic", ".tif", ".tiff"}
NUMBER = re.compile(r"-\d+(\.[^./]*)$")  # of a face, before the ending
# Errors that concern the name of one file and not the folder, so that other portraits can still be written.
OWN_FAULTS = {errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOTDIR}


@dataclass(frozen=True)
class Output:
    """The place and the format of portraits.

    Attributes:
        root: the output folder.
        file: the name of the only portrait; None if names are made from the names of the photos.
        format: ``png``, ``jpeg`` or ``webp``.
        quality: the quality of JPEG and WebP, 1 to 100.
        suffix: text between the photo's name and the ending.
        rename: ``none`` to keep the photos' names, or ``hash`` to use pseudonyms.
    """

    root: Path
    file: Path | None = None
    format: ImageFormat = "png"
    quality: int = 95
    suffix: str = ""
    rename: Rename = "none"

    @classmethod
    def parse(
        cls,
        out: Path,
        *,
        format: ImageFormat | None = None,
        quality: int = 95,
        suffix: str = "",
        rename: Rename = "none",
    ) -> Self:
        """Return the output that a path names: a folder, or the file of a single portrait.

        Args:
            out: the path.
            format: see the class; None means the format that the ending of the path names, or else ``png``.
            quality: see the class.
            suffix: see the class.
            rename: see the class.

        Raises:
            UsageError: the path names a file of another format, or the suffix cannot be part of a file name.
        """
        if "/" in suffix or "\0" in suffix:
            raise UsageError(f"`suffix` {suffix}", "it is part of a name, not of a path", "leave out the /")
        ending = out.suffix.lower()
        if out.is_dir() or ending not in {*FORMATS, *OTHER_IMAGES}:
            return cls(out, None, format or "png", quality, suffix, rename)
        own = FORMATS.get(ending)
        if own is None or format not in (None, own):
            why = f"portraits are written as {format or 'PNG, JPEG or WebP'}"
            raise UsageError(f"output {out}", why, f"name {out.with_suffix(ENDINGS[format or 'png'])}")
        return cls(out.parent, Path(out.name), own, quality, suffix, rename)

    def name(self, photo: Photo, identity: Identity | None = None) -> Path:
        """Return the name of a photo's portrait, relative to the output folder.

        Args:
            photo: the photo.
            identity: the identity of the photo, which is needed only for pseudonyms.

        Raises:
            ValueError: a pseudonym is needed, and there is no identity.
        """
        if self.file is not None:
            return self.file
        stem = photo.name.with_suffix("")
        if self.rename == "hash":
            if identity is None:
                raise ValueError("a pseudonym needs an identity")
            stem = Path(identity.pseudonym)
        number = f"-{photo.face}" if photo.face and self.rename == "none" else ""
        return stem.with_name(f"{stem.name}{self.suffix}{number}{ENDINGS[self.format]}")

    def check(self, photos: Sequence[Photo], *, each_face: bool = False) -> None:
        """Check that no two portraits would have the same name, and that none would overwrite a photo.

        Args:
            photos: all photos of the run.
            each_face: whether each face of a photo gets a portrait, whose name has a number.

        Raises:
            UsageError: two portraits would have the same name, or one would overwrite a photo.
        """
        if self.file is not None and each_face:
            why = "it names one file, and a photo may show several faces"
            raise UsageError(f"output {self.root / self.file}", why, "name a folder instead")
        if self.file is not None and len(photos) > 1:
            why = f"it names one file, and there are {len(photos)} photos"
            raise UsageError(f"output {self.root / self.file}", why, "name a folder instead")
        if self.rename == "hash":
            return
        taken: dict[Path, Path | Remote] = {}
        originals = {os.path.realpath(photo.path) for photo in photos if isinstance(photo.path, Path)}
        if each_face:  # what a portrait without its number would be called
            originals = {NUMBER.sub(r"\1", original) for original in originals if NUMBER.search(original)}
        folders: dict[Path, str] = {}
        for photo in photos:
            name = self.name(photo)
            folder = folders.setdefault(name.parent, os.path.realpath(self.root / name.parent))
            if name in taken:
                why = f"{taken[name]} and {photo.path} would both go there"
                fix = "rename one, run them into different folders, or use `rename` hash"
                raise UsageError(f"output {self.root / name}", why, fix)
            if os.path.realpath(Path(folder) / name.name) in originals:
                raise UsageError(f"output {self.root / name}", "it would overwrite a photo", "choose another folder")
            taken[name] = photo.path
        for name, path in taken.items():
            if parent := next((parent for parent in name.parents if parent in taken), None):
                why = f"the portrait of {path} would go into a folder of that name"
                raise UsageError(f"output {self.root / parent}", why, "rename one, or run them into different folders")

    def check_free(self, name: Path) -> None:
        """Check that no file has the name of a portrait for which no journal is kept.

        Args:
            name: the name, relative to the output folder.

        Raises:
            UsageError: there is such a file.
        """
        if os.path.lexists(self.root / name):
            fix = "choose another name, or replace it with `overwrite`"
            raise UsageError(f"output {self.root / name}", "there is such a file already", fix)

    def write(
        self,
        name: Path,
        image: Image.Image,
        scratch: Path | None = None,
        *,
        replace: bool = True,
        metadata: Metadata = NOTHING,
    ) -> str:
        """Encode a portrait and write it; see `write_file`.

        Args:
            name: the name, relative to the output folder.
            image: the portrait.
            scratch: see `write_file`.
            replace: whether to replace any file of that name. Otherwise only a file with the same bytes is replaced,
                which a killed run has left.
            metadata: see `encode`.

        Returns:
            The sha256 of the file as hexadecimal digits.

        Raises:
            PhotoError: the name cannot be used, or a file that must not be replaced has this name.
            OutputError: the folder cannot be written.
        """
        data, path = encode(image, self.format, self.quality, metadata), self.root / name
        if not replace and os.path.lexists(path) and not (path.is_file() and path.read_bytes() == data):
            fix = "move it away, choose another folder, or replace it with `overwrite`"
            raise PhotoError("a file that no run wrote lies under that name", fix, f"cannot write {path}")
        write_file(path, data, scratch)
        return hashlib.sha256(data).hexdigest()

    def shown(self, image: Image.Image, metadata: Metadata = NOTHING) -> Pixels:
        """Return a portrait as readers of its file see it: JPEG and WebP change pixels.

        Args:
            image: the portrait.
            metadata: see `encode`.

        Returns:
            uint8 (height, width, 3), RGB.
        """
        if self.format == "png":
            return np.asarray(image)
        with Image.open(io.BytesIO(encode(image, self.format, self.quality, metadata))) as written:
            return _upright(written)

    def read(self, name: Path) -> Pixels | None:
        """Return a portrait that an earlier run wrote, upright, or None if it cannot be read.

        Args:
            name: the name, relative to the output folder.

        Returns:
            uint8 (height, width, 3), RGB.
        """
        try:
            with decoding(), Image.open(self.root / name) as image:
                return _upright(image)
        except PhotoError:
            return None

    def remove(self, name: Path) -> bool:
        """Remove a file from the output folder.

        Args:
            name: the name, relative to the output folder.

        Returns:
            Whether there was such a file.

        Raises:
            OutputError: the file cannot be removed.
        """
        path = self.root / name
        try:
            path.unlink()
            _sync_folder(path.parent)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        except OSError as error:
            why, fix = error.strerror or str(error), "remove it: the photo that it was made from is another one now"
            raise OutputError(f"cannot remove {path}", why, fix) from None
        return True


def encode(image: Image.Image, format: ImageFormat = "png", quality: int = 95, metadata: Metadata = NOTHING) -> bytes:
    """Return an image as the content of a file, which holds pixels and the given metadata, and nothing else.

    Args:
        image: the upright image; metadata of its own is not written.
        format: ``png``, ``jpeg`` or ``webp``.
        quality: the quality of JPEG and WebP, 1 to 100.
        metadata: what is written beside the pixels. With an orientation, the pixels are stored as those of the photo
            were, and viewers turn them upright.
    """
    buffer = io.BytesIO()
    # Level 4 takes half the time of the usual level 6, and the size of a photograph's file differs by less than 1 %.
    options = {"compress_level": 4} if format == "png" else {"quality": quality}
    stored = metadata.stored(Image.fromarray(np.asarray(image)))
    stored.save(buffer, format.upper(), **options, **metadata.options())
    return buffer.getvalue()


def _upright(image: Image.Image) -> Pixels:
    """Return the pixels of a file as viewers show them, uint8 (height, width, 3), RGB; the image may be changed."""
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image.convert("RGB"))


def write_file(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Write a file atomically: even if the process or the machine fails, the file is either complete or missing.

    Args:
        path: the file; its folder is created if it is missing.
        data: the content.
        scratch: a private folder on the same file system for the temporary file; None means the folder of the file.

    Raises:
        PhotoError: the name cannot be used; other files can be written.
        OutputError: the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=scratch or path.parent, prefix=".anon-run-", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files can be read only by their owner. The result gets the permissions of the user's umask.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if error.errno == errno.EXDEV and scratch is not None:  # the file's folder is on another file system
            write_file(path, data)
            return
        why = error.strerror or str(error)
        if error.errno in OWN_FAULTS:
            raise PhotoError(why, "give the photo another name", f"cannot write {path}") from None
        fix = "choose a folder that can be written and has space left; what is done is kept"
        raise OutputError(f"cannot write {path}", why, fix) from None


def _sync_folder(folder: Path) -> None:
    """Make sure that the names of the files in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _umask() -> int:
    """Return the umask of the process.

    It can be read only by setting it for a moment. It is read once, because other threads may create files meanwhile.
    """
    mask = os.umask(0)
    os.umask(mask)
    return mask
