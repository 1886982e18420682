"""The three risks of Opinion 05/2014 on anonymisation (WP216): singling out, linkability and inference.

Anonymeter (Giomi et al., 2023) attacks what the face engines read from the portraits; see `table_risks`. Of near copies
of an original one is taken.
"""

import numpy as np

from ..people import Numbers
from ..requirements import require
from ..study import Study, attempt
from ..types import Figures, Mask, Vector
from ..utility import INNER, OUTER
from .tables import read_table

NAME = "risks of WP216"
MOST = 1000  # people who are attacked: Anonymeter's authors advise 500 to 1000, and time grows with the square
FEWEST_PORTRAITS = 50  # with a face


def evaluate_risks(study: Study) -> Figures:
    """The risks of each method, see `measure`; and the columns of the two sides of a link."""
    lacks = attempt(lambda: require(NAME, "anonymeter", "numba", "pandas", "polars", "scikit-learn"))
    if isinstance(lacks, dict):
        return lacks
    reading = attempt(lambda: study.reading)
    if isinstance(reading, dict):
        return reading
    found: Figures = {}
    for method in study.methods:
        own = np.array(list(method.pairs))
        portraits = study.reader.read(list(method.pairs.values()), method.name)
        rows = choose_people(study.people[own], reading[own])
        found[method.name] = measure(reading[own][rows], portraits[rows])
    return {"inner": INNER, "outer": OUTER, "methods": found}


def choose_people(people: Numbers, reading: Vector, most: int = MOST) -> Numbers:
    """Rows of the images that are attacked: for each person the first one with a face; so many of them at random.

    Args:
        people: (n,), see `find_people`.
        reading: (n, k) of the originals; NaN where no face is found.
        most: number of people.
    """
    rows = np.flatnonzero(~np.isnan(reading).any(axis=1))
    rows = rows[np.unique(people[rows], return_index=True)[1]]
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def measure(originals: Vector, portraits: Vector) -> Figures:
    """The three risks of n people.

    Args:
        originals: readings (n, k) of the originals by `FaceEngines`.
        portraits: readings (n, k) of their portraits; NaN where no face is found. Such a portrait is not in the table.

    Returns:
        The figures of `table_risks.single_out`, ``link`` and ``infer``.
    """
    faces: Mask = np.asarray(np.isfinite(portraits).all(axis=1))
    if faces.sum() < FEWEST_PORTRAITS:
        return {"missing": f"a face is found in {faces.sum()} portraits, and {FEWEST_PORTRAITS} are needed"}
    from . import table_risks  # it imports Anonymeter

    people, made = read_table(originals), read_table(np.nan_to_num(portraits))
    return {
        "people": len(faces),
        "no face": int((~faces).sum()),
        "singling out": table_risks.single_out(people, made, faces),
        "linkability": table_risks.link(people, made, faces),
        "inference": table_risks.infer(people, made, faces),
    }
