"""Which anonymized image belongs to which original."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anon_runtime.errors import PhotoError, UsageError
from anon_runtime.faces.decoding import read_file, read_photo
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal import NAME as JOURNAL

SIDE = 1024  # longest side in pixels that anything here looks at: CelebA-HQ's


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        name: its path in its folder, without the ending.
        path: of the file.
    """

    name: str
    path: Path

    @cached_property
    def digest(self) -> str:
        """Of the file's content, 128 bits in hexadecimal digits."""
        return hashlib.sha256(read_file(self.path)).hexdigest()[:32]

    def pixels(self) -> NDArray[np.uint8]:
        """Upright, uint8 (height, width, 3), RGB; images larger than `SIDE` are scaled down to it.

        Raises:
            PhotoError: it cannot be read.
        """
        photo = read_photo(self.path)
        if max(photo.shape[:2]) <= SIDE:
            return photo
        image = Image.fromarray(photo)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(image)


@dataclass(frozen=True)
class Method:
    """What one anonymizer made of the originals.

    Attributes:
        name: of the anonymizer.
        pairs: index of an original -> its anonymized image.
        missing: name of an original without one -> the reason.
        extra: images that belong to no original.
    """

    name: str
    pairs: Mapping[int, ImageFile]
    missing: Mapping[str, str] = field(default_factory=dict)
    extra: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """How many originals have no image, by reason."""
        return dict(Counter(self.missing.values()))


def find_images(folder: Path) -> tuple[list[ImageFile], dict[str, str]]:
    """Images of a folder and of all folders in it that can be read, and why the others cannot.

    Raises:
        UsageError: there is none, or two differ in nothing but their ending.
    """
    if not folder.is_dir():
        raise UsageError(f"folder {folder}", "there is no such folder", "check the path")
    found: dict[str, ImageFile] = {}
    for photo in find_photos([folder], recursive=True):
        name = photo.name.with_suffix("").as_posix()
        if name in found:
            why = f"{found[name].path.name} and {photo.name.name} have one name"
            raise UsageError(f"folder {folder}", why, "images are paired by name without ending: rename one of them")
        found[name] = ImageFile(name, photo.path)
    broken = {}
    for image in found.values():
        try:
            read_photo(image.path)
        except PhotoError as error:
            broken[image.name] = error.why
    return [image for image in found.values() if image.name not in broken], broken


def pair(name: str, originals: Sequence[ImageFile], folder: Path, seed: int | None = None) -> Method:
    """Pair originals with the images of a folder: by the journal of ``anon-run`` if it has one, else by name.

    Args:
        name: of the method.
        originals: the photos.
        folder: with the images.
        seed: of the run, without which pseudonyms cannot be traced back to photos.

    Raises:
        UsageError: the folder holds no image, none of an original, or a journal that is none or hides names.
    """
    images, broken = find_images(folder)
    by_name = {image.name: image for image in images}
    journal = folder / JOURNAL
    links = Links.read(journal, seed) if journal.is_file() else None
    pairs, missing = {}, {}
    for index, original in enumerate(originals):
        told = original.name if links is None else links.output(original)
        if told in by_name:
            pairs[index] = by_name[told]
        elif told in broken:
            missing[original.name] = f"its image cannot be read: {broken[told]}"
        else:
            missing[original.name] = (links and links.failure(original)) or "there is no image of it"
    if not pairs:
        why = f"none of its {len(images)} images belongs to an original such as {originals[0].path.name}"
        raise UsageError(
            f"{name}={folder}", why, "pair by the same names, whatever the ending, or by anon-run's journal"
        )
    return Method(name, pairs, missing, len({image.path for image in images} - {p.path for p in pairs.values()}))


@dataclass(frozen=True)
class Links:
    """A journal of ``anon-run``: outputs, and reasons of those that have none, by the photo's name and pseudonym."""

    seed: int | None
    outputs: Mapping[str, str]
    reasons: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, seed: int | None) -> "Links":
        """Read a journal, from where it was last begun anew; a line that was cut off by a kill is no line.

        Raises:
            UsageError: it is no journal, or one without names, and there is no seed.
        """
        try:
            lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
            begun = max(number for number, line in enumerate(lines) if "run" in line)
            hidden = lines[begun]["run"].get("rename") == "hash"
            outputs, reasons = {}, {}
            for line in lines[begun + 1 :]:
                keys = [key for key in (_stem(line.get("input")), line["id"]) if key]
                if line["status"] == "ok":
                    outputs |= dict.fromkeys(keys, _stem(line["output"]))
                else:
                    reasons |= dict.fromkeys(keys, f"{line['status']} in the run: {line['reason'].split(';')[0]}")
        except (ValueError, KeyError, TypeError, AttributeError):
            fix = "restore the file, or delete it to pair by name"
            raise UsageError(str(path), "this is no journal of anon-run", fix) from None
        if hidden and seed is None:
            raise UsageError(str(path), "it hides the names of photos", "give the run's --seed-file")
        return cls(seed, outputs, reasons)

    def output(self, original: ImageFile) -> str | None:
        """The name of an original's portrait."""
        return self._of(original, self.outputs)

    def failure(self, original: ImageFile) -> str | None:
        """Why an original has none."""
        return self._of(original, self.reasons)

    def _of(self, original: ImageFile, table: Mapping[str, str]) -> str | None:
        if self.seed is None:
            return table.get(original.name)
        return table.get(identify(read_file(original.path), self.seed).pseudonym)


def _stem(name: Any) -> str:
    return Path(str(name)).with_suffix("").as_posix() if name else ""
