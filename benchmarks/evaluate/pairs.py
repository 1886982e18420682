"""Pairs of originals and anonymized images."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from anon_runtime.errors import PhotoError, UsageError
from anon_runtime.faces.decoding import read_file, read_photo
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal_file import NAME as JOURNAL
from anon_runtime.guard.trial import FIRST, Attempt
from anon_runtime.types import Pixels

from .runs import Run

SIDE = 1024  # longest side of an image in pixels, as in CelebA-HQ; larger images are scaled down


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        name: its path relative to the folder of images, without the extension.
        path: of the file.
    """

    name: str
    path: Path

    @cached_property
    def digest(self) -> str:
        """The first 128 bits of the SHA-256 of the file, in hexadecimal digits."""
        return hashlib.sha256(read_file(self.path)).hexdigest()[:32]

    def pixels(self) -> Pixels:
        """The upright image, uint8 (height, width, 3), RGB; at most `SIDE` pixels long and wide.

        Raises:
            PhotoError: the file cannot be read.
        """
        photo = read_photo(self.path)
        if max(photo.shape[:2]) <= SIDE:
            return photo
        image = Image.fromarray(photo)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(image)


@dataclass(frozen=True)
class Method:
    """The images of one anonymizer.

    Attributes:
        name: of the anonymizer.
        pairs: anonymized images by the index of their original.
        missing: reasons by the name of an original that has no anonymized image.
        extra: number of images that belong to no original.
        run: the run of ``anon-run`` that wrote the images; None if they have no journal.
    """

    name: str
    pairs: Mapping[int, ImageFile]
    missing: Mapping[str, str] = field(default_factory=dict)
    extra: int = 0
    run: Run | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """Numbers of originals without an image, by reason."""
        return dict(Counter(self.missing.values()))

    @property
    def ignored(self) -> tuple[str, ...]:
        """The attributes that no prompt of the run mentions; none without a journal."""
        return tuple(self.run.facts.get("ignore", ())) if self.run else ()

    @property
    def coarsening(self) -> list[int]:
        """How coarse the words of each image are; see `anon_runtime.guard.words.coarsen`. 0 without a journal."""
        attempts = self.run.attempts if self.run else {}
        return [attempts.get(image.name, FIRST).coarsening for image in self.pairs.values()]


def find_images(folder: Path) -> tuple[list[ImageFile], dict[str, str]]:
    """The images of a folder and its subfolders that can be read, and the reasons why others cannot, by name.

    Raises:
        UsageError: there is no such folder, or two images differ only in their extension.
    """
    if not folder.is_dir():
        raise UsageError(f"folder {folder}", "there is no such folder", "check the path")
    found: dict[str, ImageFile] = {}
    for photo in find_photos([folder], recursive=True):
        name = photo.name.with_suffix("").as_posix()
        if name in found:
            why = f"{found[name].path.name} and {photo.name.name} have the same name"
            raise UsageError(f"folder {folder}", why, "images are paired by name without extension: rename one of them")
        found[name] = ImageFile(name, folder / photo.name)
    broken = {}
    for image in found.values():
        try:
            read_photo(image.path)
        except PhotoError as error:
            broken[image.name] = error.why
    return [image for image in found.values() if image.name not in broken], broken


def pair(name: str, originals: Sequence[ImageFile], folder: Path, seed: int | None = None) -> Method:
    """Pair originals with the images of a folder, by the journal of ``anon-run`` if the folder has one, else by name.

    Args:
        name: of the method.
        originals: the photos.
        folder: with the anonymized images.
        seed: of the run; pseudonyms can only be traced back to photos with it.

    Raises:
        UsageError: no image belongs to an original, or the journal is damaged or hides names and there is no seed.
    """
    images, broken = find_images(folder)
    by_name = {image.name: image for image in images}
    journal = folder / JOURNAL
    links = Links.read(journal, seed) if journal.is_file() else None
    pairs, missing = {}, {}
    for index, original in enumerate(originals):
        output = original.name if links is None else links.output(original)
        if output in by_name:
            pairs[index] = by_name[output]
        elif output in broken:
            missing[original.name] = f"its image cannot be read: {broken[output]}"
        else:
            missing[original.name] = (links and links.failure(original)) or "there is no image of it"
    if not pairs:
        why = f"none of its {len(images)} images belongs to an original such as {originals[0].path.name}"
        raise UsageError(
            f"{name}={folder}",
            why,
            "use the same names for images and originals, or keep anon-run's journal",
        )
    extra = len({image.path for image in images} - {p.path for p in pairs.values()})
    return Method(name, pairs, missing, extra, None if links is None else links.run)


@dataclass(frozen=True)
class Links:
    """A journal of ``anon-run``.

    Attributes:
        seed: by which photos are found by pseudonym, if it is that of the run; others are found by name, and all if it
            is None.
        outputs: names of portraits by name and pseudonym of the photo.
        reasons: why there is no portrait, by name and pseudonym of the photo.
        run: what the journal says of the run.
    """

    seed: int | None
    outputs: Mapping[str, str]
    reasons: Mapping[str, str]
    run: Run

    @classmethod
    def read(cls, path: Path, seed: int | None) -> "Links":
        """Read a journal from its last start; an incomplete last line, which a killed run leaves, is ignored.

        Raises:
            UsageError: the file is not a journal, or it hides names and there is no seed.
        """
        try:
            lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
            begun = max(number for number, line in enumerate(lines) if "run" in line)
            header = lines[begun]
            hidden = header["run"].get("rename") == "hash"
            outputs: dict[str, str] = {}
            reasons: dict[str, str] = {}
            attempts: dict[str, Attempt] = {}
            for line in lines[begun + 1 :]:
                if "summary" in line or "decision" in line:
                    continue
                keys = [key for key in (_stem(line.get("input")), line["id"]) if key]
                if line["status"] == "ok":
                    outputs |= dict.fromkeys(keys, _stem(line["output"]))
                    attempts[_stem(line["output"])] = Attempt(line.get("attempt", 0), line.get("coarsening", 0))
                else:
                    why = line.get("cause") or line["reason"].split(";")[0]
                    reasons |= dict.fromkeys(keys, f"{line['status']} in the run: {why}")
        except (ValueError, KeyError, TypeError, AttributeError):
            fix = "restore the file, or delete it to pair by name"
            raise UsageError(str(path), "it is not a journal of anon-run", fix) from None
        if hidden and seed is None:
            raise UsageError(str(path), "it hides the names of photos", "give the run's --seed-file")
        return cls(seed, outputs, reasons, Run(header["run"], header.get("secret", {}), attempts, seed))

    def output(self, original: ImageFile) -> str | None:
        """The name of an original's portrait."""
        return self._of(original, self.outputs)

    def failure(self, original: ImageFile) -> str | None:
        """The reason why an original has no portrait."""
        return self._of(original, self.reasons)

    def _of(self, original: ImageFile, table: Mapping[str, str]) -> str | None:
        pseudonym = None if self.seed is None else identify(read_file(original.path), self.seed).pseudonym
        return table.get(pseudonym or "", table.get(original.name))


def _stem(name: object) -> str:
    return Path(str(name)).with_suffix("").as_posix() if name else ""
