"""Linkage through the prompt: attackers who know the method, and match the words of portraits with those of originals.

A portrait shows what its prompt says, and the prompt says what the face engines read from the original. An attacker
with the same engines reads both sides and needs no likeness of the faces (linkage: Sweeney, k-anonymity, 2002).
Similarities are (n, m), of n portraits to m originals; higher is more similar.
"""

from collections.abc import Collection, Sequence

import numpy as np

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.guard.anonymity import say
from anon_runtime.guard.words import coarsen, count_attributes, years_apart

from ..k_anonymity import as_attributes
from ..predictors import FaceEngines
from ..reidentification import Doubles
from ..types import Vector

# Rough assumptions about the noise between a prompt and what is read from its portrait. Little depends on them: with
# 0.01 to 0.2, 0.6 to 0.95 and 7 to 20 years, mAP on the demo's portraits changes by less than a point.
WRONG_WORD = 0.05  # probability that a portrait shows the opposite of one of its words
RIGHT_ETHNICITY = 0.8  # probability that the ethnicity of the prompt is read from the portrait
AGE_ERROR = 10.0  # standard deviation of the age that is read, in years
_SCORES, _ETHNICITY = slice(len(CELEBA)), slice(len(CELEBA), len(CELEBA) + len(ETHNICITIES))
_AGE = FaceEngines.columns.index("Age")


def as_words(reading: Vector) -> Vector:
    """What a prompt says of readings (n, k): scores become 1 above 0.5 and else 0, and the box is left out: (n, 47)."""
    words = without_box(reading)
    words[:, _SCORES] = np.where(np.isnan(words[:, _SCORES]), np.nan, words[:, _SCORES] > 0.5)
    return words


def without_box(reading: Vector) -> Vector:
    """A copy of readings (n, k) of `FaceEngines` without the box, which no prompt mentions: (n, 47)."""
    return np.array(reading[:, : _AGE + 1], np.float64)


def words(portraits: Vector, originals: Vector, ignored: Collection[str] = ()) -> Doubles:
    """The log-likelihood of each original's words, if this is what the engines read from the portrait.

    The words are taken as independent of each other (naive Bayes). A score is the probability that the portrait was
    painted with the word; it is moved towards one half by `WRONG_WORD`.

    Args:
        portraits: readings (n, k) of `FaceEngines`. All similarities of a portrait without a face (NaN) are equal.
        originals: readings (m, k). An original without a face gets the mean of the others.
        ignored: attributes that no prompt mentions, so that portraits say little about them.

    Returns:
        (n, m); originals with the same words have the same similarity.
    """
    read, written = without_box(portraits), as_words(originals)
    said = [column for column, name in enumerate(CELEBA) if name not in ignored]
    shown = WRONG_WORD + (1 - 2 * WRONG_WORD) * read[:, said]
    likelihood: Doubles = np.log(shown) @ written[:, said].T + np.log(1 - shown) @ (1 - written[:, said]).T
    same = read[:, _ETHNICITY] @ written[:, _ETHNICITY].T
    wrong = (1 - RIGHT_ETHNICITY) / (len(ETHNICITIES) - 1)
    likelihood += np.log(wrong + (RIGHT_ETHNICITY - wrong) * same)
    likelihood -= ((read[:, [_AGE]] - written[:, _AGE]) / AGE_ERROR) ** 2 / 2
    faceless = np.isnan(written).any(axis=1)
    likelihood[:, faceless] = likelihood[:, ~faceless].mean(axis=1, keepdims=True) if not faceless.all() else 0
    likelihood[np.isnan(read).any(axis=1)] = 0
    return likelihood


def exact_words(
    originals: Vector, own: Sequence[int], coarsening: Sequence[int], ignored: Collection[str] = ()
) -> Doubles:
    """Guessing among the originals whom the words fit: an attacker who knows the prompt, and sees no face.

    Re-ID@1 is the mean of 1 / k, where the words fit k originals; see `anon_runtime.guard.anonymity`.

    Args:
        originals: readings (m, k) of `FaceEngines`; no words fit an original without a face (NaN).
        own: row of each portrait's original.
        coarsening: how coarse the words of each portrait are; see `anon_runtime.guard.words.coarsen`.
        ignored: attributes that no prompt mentions.

    Returns:
        (n, m): 1 where the words fit, else 0.
    """
    seen = np.flatnonzero(~np.isnan(originals).any(axis=1))
    people = dict(zip(seen.tolist(), as_attributes(originals), strict=True))
    frequencies = count_attributes(list(people.values()))
    known = [say(person, int(person["Age"])) for person in people.values()]
    affirmed, ages = (np.array(column, np.int64) for column in ([p.affirmed for p in known], [p.age for p in known]))
    ethnicities = np.array([person.ethnicity for person in known])
    fits: Doubles = np.zeros((len(own), len(originals)))
    for portrait, (number, level) in enumerate(zip(own, coarsening, strict=True)):
        if number in people:
            coarse = coarsen(people[number], level, frequencies)
            told = say(coarse, int(people[number]["Age"]), years_apart(level), ignored)
            same = (affirmed & told.mentioned == told.affirmed) & (ages // told.years == told.age)
            fits[portrait, seen] = same & (ethnicities == told.ethnicity)
    return fits


def combine(face: Vector, words: Vector) -> Doubles:
    """Face and words together: the sum of two similarities (n, m), each with mean 0 and deviation 1 in every row.

    Rows in which all are equal, because nothing is known, become 0. All similarities have to be finite.
    """
    return _standardize(face) + _standardize(words)


def _standardize(similarities: Vector) -> Doubles:
    centred = np.asarray(similarities, np.float64) - similarities.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    standardized: Doubles = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    return standardized


def within_cells(similarities: Vector, own: Sequence[int], cells: Sequence[object]) -> Doubles:
    """What a face adds to the coarse words: ranking among people of whom they say the same.

    Compare it with `reidentification.chance_within` for the same cells.

    Args:
        similarities: (n, m).
        own: row of each portrait's original.
        cells: the cell of each original (m), such as ethnicity, sex and age band.

    Returns:
        (n, m); originals in another cell are less similar than all in the own one.
    """
    numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
    number = np.array([numbers[cell] for cell in cells])
    same = number[np.asarray(own, np.int64)][:, None] == number
    likeness = np.asarray(similarities, np.float64)
    return np.where(same, likeness, likeness - np.ptp(likeness) - 1)
