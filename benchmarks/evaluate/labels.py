"""What is known of the people in the originals, and the groups that figures are also given for."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anon_runtime.errors import UsageError
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from .cache import Vector
from .pairs import ImageFile

COLUMNS = (*CELEBA, "ethnicity", "age", "emotion", "valence", "arousal")
# First and last year of each band; they are DeepFace's and nobody's official ones.
AGES = ((0, 19), (20, 39), (40, 59), (60, 200))
HELD_OUT = "held out"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """A table with a row an original; a cell that is empty, or has no row, is unknown.

    Attributes:
        rows: text by column, in the order of the originals.
    """

    rows: Sequence[Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, originals: Sequence[ImageFile]) -> "Labels":
        """A CSV file with a column ``file`` and any of `COLUMNS`; numbers are 0 or 1, years, or -1..1.

        Raises:
            UsageError: it cannot be read, or none of its rows is about an original.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                table = {Path(row["file"]).with_suffix("").as_posix(): row for row in csv.DictReader(file)}
        except (OSError, KeyError, UnicodeDecodeError) as error:
            why = (
                getattr(error, "strerror", None)
                or f"it has no column {error}" * isinstance(error, KeyError)
                or str(error)
            )
            raise UsageError(f"labels {path}", why, "give a CSV file with a column `file`") from None
        if not any(image.name in table for image in originals):
            why = f"no row is about an original such as {originals[0].path.name}"
            raise UsageError(f"labels {path}", why, "the column `file` holds paths relative to the originals' folder")
        labels = cls([table.get(image.name, {}) for image in originals])
        for column in (*CELEBA, "age", "valence", "arousal"):
            labels.numbers(column)
        return labels

    def text(self, column: str) -> list[str]:
        """Of each original; empty where unknown."""
        return [row.get(column) or "" for row in self.rows]

    def numbers(self, column: str) -> Vector:
        """Of each original; NaN where unknown.

        Raises:
            UsageError: a cell is no number.
        """
        try:
            return np.array([float(cell or "nan") for cell in self.text(column)])
        except ValueError as error:
            raise UsageError(f"labels, column {column}", str(error), "numbers or empty cells go there") from None


def read_names(path: Path, originals: Sequence[ImageFile]) -> Mask:
    """Which originals a list names, one a line, with or without ending.

    Raises:
        UsageError: it cannot be read, or names no original.
    """
    try:
        names = {
            Path(line.strip()).with_suffix("").as_posix() for line in path.read_text().splitlines() if line.strip()
        }
    except OSError as error:
        raise UsageError(f"list {path}", error.strerror or str(error), "check the path") from None
    chosen = np.array([image.name in names for image in originals])
    if not chosen.any():
        why = f"it names no original such as {originals[0].path.name}"
        raise UsageError(f"list {path}", why, "a line is a path relative to the originals' folder")
    return chosen


def make_groups(ethnicity: Sequence[str], sex: Sequence[str], age: Vector) -> dict[str, Mask]:
    """Masks (n,) over the originals by ethnicity, sex and age band; those that are unknown are in no group.

    Args:
        ethnicity, sex: of each original; empty where unknown.
        age: years; NaN where unknown.
    """
    groups = {f"ethnicity: {name}": np.array([own == name for own in ethnicity]) for name in ETHNICITIES}
    groups |= {f"sex: {name}": np.array([own == name for own in sex]) for name in ("woman", "man")}
    for first, last in AGES:
        groups[_band(first, last)] = (age >= first) & (age < last + 1)
    return {name: mask for name, mask in groups.items() if mask.any()}


def age_bands(age: Vector) -> list[str]:
    """The band of each age (n,); empty where unknown."""
    return [
        next((_band(first, last) for first, last in AGES if first <= years < last + 1), "") for years in age.tolist()
    ]


def _band(first: int, last: int) -> str:
    return f"age: {first} and over" if last == AGES[-1][1] else f"age: {first} to {last}"
