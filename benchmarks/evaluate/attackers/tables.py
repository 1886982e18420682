"""Tables of what the face engines read from images: one row for each, and one column for each attribute."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from ..predictors import FaceEngines
from ..types import Mask, Vector

Table = Mapping[str, NDArray[Any]]  # columns of equal length by name
ETHNICITY, AGE = "ethnicity", "age"


def read_table(reading: Vector) -> Table:
    """The table of readings (n, k) of `FaceEngines` without NaN: 40 scores in 0..1, ethnicity, and age in years."""
    column = {name: reading[:, index] for index, name in enumerate(FaceEngines.columns)}
    likeliest = np.stack([column[name] for name in ETHNICITIES], axis=1).argmax(axis=1)
    ethnicity = np.array(ETHNICITIES, object)[likeliest]
    return {name: column[name] for name in CELEBA} | {ETHNICITY: ethnicity, AGE: column["Age"].astype(int)}


def as_facts(table: Table) -> Table:
    """A table whose 40 attributes are there or not: its scores are above 0.5 or not."""
    return {name: values > 0.5 if name in CELEBA else values for name, values in table.items()}


def select_rows(table: Table, chosen: Mask) -> Table:
    """The table of some rows (n,)."""
    return {name: values[chosen] for name, values in table.items()}
