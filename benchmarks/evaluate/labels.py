"""Labels of the people in the originals, and the groups for which figures are also given."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anon_runtime.errors import UsageError
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from .pairs import ImageFile
from .types import Mask, Vector

COLUMNS = (*CELEBA, "ethnicity", "age", "emotion", "valence", "arousal")
# First and last year of each age band. There is no official division into bands.
AGES = ((0, 19), (20, 39), (40, 59), (60, 200))
HELD_OUT = "held out"


@dataclass(frozen=True)
class Labels:
    """A table with one row for each original; an empty or missing cell means that the label is unknown.

    Attributes:
        rows: text by column, in the order of the originals.
    """

    rows: Sequence[Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, originals: Sequence[ImageFile]) -> "Labels":
        """Read a CSV file with a column ``file`` and any of `COLUMNS`; numbers are 0 or 1, years, or -1..1.

        Raises:
            UsageError: it cannot be read, or none of its rows is about an original.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                table = {Path(row["file"]).with_suffix("").as_posix(): row for row in csv.DictReader(file)}
        except (OSError, KeyError, UnicodeDecodeError) as error:
            why = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
            if isinstance(error, OSError):
                why = error.strerror or why
            raise UsageError(f"labels {path}", why, "give a CSV file with a column `file`") from None
        if not any(image.name in table for image in originals):
            why = f"no row is about an original such as {originals[0].path.name}"
            raise UsageError(f"labels {path}", why, "the column `file` needs paths relative to the originals' folder")
        labels = cls([table.get(image.name, {}) for image in originals])
        for column in (*CELEBA, "age", "valence", "arousal"):
            labels.numbers(column)
        return labels

    def text(self, column: str) -> list[str]:
        """The text of a column for each original; empty where it is unknown."""
        return [row.get(column) or "" for row in self.rows]

    def numbers(self, column: str) -> Vector:
        """The number in a column for each original; NaN where it is unknown.

        Raises:
            UsageError: a cell is not a number.
        """
        try:
            return np.array([float(cell or "nan") for cell in self.text(column)])
        except ValueError as error:
            raise UsageError(f"labels, column {column}", str(error), "use numbers or empty cells") from None


def read_names(path: Path, originals: Sequence[ImageFile]) -> Mask:
    """Which originals a list names; a line is a name with or without extension.

    Raises:
        UsageError: the list cannot be read, or names no original.
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
        raise UsageError(f"list {path}", why, "write one path per line, relative to the originals' folder")
    return chosen


def make_groups(ethnicity: Sequence[str], sex: Sequence[str], age: Vector) -> dict[str, Mask]:
    """Masks (n,) over the originals by ethnicity, sex and age band; an unknown value belongs to no group.

    Args:
        ethnicity, sex: of each original; empty where unknown.
        age: (n,), in years; NaN where unknown.
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
