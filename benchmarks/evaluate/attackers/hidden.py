"""What a portrait tells of attributes that its prompt did not mention, because they were left out with ``--ignore``.

Three guesses of such an attribute, each by its AUC: what the face engines read from the portrait; what an attacker
guesses who has seen portraits of other people whose attribute is known; and what the same attacker guesses from the
words of the prompt alone. The last one is the measure: a moustache follows from "man" in part, so that leaving the word
out cannot hide it. Only what the attacker knows beyond the words comes from the portrait (inference risk and its
baseline: Giomi et al., A Unified Framework for Quantifying Privacy Risk in Synthetic Data, 2023).

Words that the guard left out of single portraits count as mentioned.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.preprocessing import StandardScaler

from anon_runtime.faces.attributes import CELEBA

from ..cross_fitting import (
    are_enough,
    as_interval,
    fold_auc,
    mean_interval,
    number_folds,
    resample,
    score_with_logistic_regression,
)
from ..people import Numbers
from ..study import Study, attempt
from ..types import Figures, Mask, Vector
from . import words

READ, LEARNED, WORDS, BEYOND = "read", "learned", "from the words", "beyond the words"
# Of powers of ten and three times these, the best for guessing labels of the demo's photos, SFHQ-40, from what the face
# engines read from the photos themselves.
INVERSE_PENALTY = 0.1


def evaluate_hidden(study: Study) -> Figures:
    """How well attributes are guessed that a run left out of its prompts, for every method.

    The other methods show what is guessed of the same attributes where prompts mention them. A method without a journal
    has no words.
    """
    hidden = [name for name in CELEBA if any(name in method.ignored for method in study.methods)]
    if not hidden:
        return {"missing": "no attribute was left out with --ignore"}
    reader = attempt(lambda: study.reader)
    if isinstance(reader, dict):
        return reader
    rows: Figures = {}
    for method in study.methods:
        own = np.array(list(method.pairs), np.int64)
        readings = words.without_box(reader.read(list(method.pairs.values()), method.name))
        said = None if method.run is None else as_words(study.reading[own], method.ignored)
        truth, people = study.truth.attributes[own], study.people[own]
        guesses = {name: guess(name, truth, readings, said, number_folds(people)) for name in hidden}
        rows[method.name] = {
            "ignored": list(method.ignored),
            "no face": int(np.isnan(readings).any(axis=1).sum()),
            "all": _figures(truth, guesses, people, np.ones(len(own), bool)),
            "groups": {group: _figures(truth, guesses, people, mask) for group, mask in study.masks(method).items()},
        }
    return {"hidden": hidden, "chance": 0.5, "methods": rows}


def as_words(reading: Vector, ignored: Sequence[str]) -> Vector:
    """What prompts say of people, as numbers (n, k).

    Args:
        reading: (n, k) of the originals, by `FaceEngines`; NaN where no face is found, and there is no prompt.
        ignored: attributes that the prompts do not mention.
    """
    return np.delete(words.as_words(reading), [CELEBA.index(name) for name in ignored], axis=1)


def guess(name: str, truth: Vector, readings: Vector, said: Vector | None, fold: Numbers) -> dict[str, Vector]:
    """Scores (n,) of an attribute by every guess; NaN where nothing is known.

    Args:
        name: of the attribute.
        truth: attributes (n, 40) of the originals, see `utility.Truth`.
        readings: (n, 47) of the portraits.
        said: (n, k), see `as_words`; None if there are none.
        fold: (n,), the number of each person's test set, whose attacker has seen the other sets.
    """
    labels = _labels(name, truth)
    found = {READ: readings[:, CELEBA.index(name)], LEARNED: _learn(readings, labels, fold)}
    return found if said is None else found | {WORDS: _learn(said, labels, fold)}


def _labels(name: str, truth: Vector) -> Vector:
    column = truth[:, CELEBA.index(name)]
    return np.where(np.isnan(column), np.nan, column > 0.5)


def _learn(features: Vector, labels: Vector, fold: Numbers) -> Vector:
    """Log odds (n,) by an attacker who has seen the other folds."""
    scores = np.full(len(features), np.nan)
    seen = ~np.isnan(features).any(axis=1)
    for number in np.unique(fold):
        own: Mask = fold == number
        train, test = seen & ~own, seen & own
        if train.any() and test.any():
            scale = StandardScaler().fit(features[train])
            scores[test] = score_with_logistic_regression(
                scale.transform(features[train]), labels[train], scale.transform(features[test]), INVERSE_PENALTY
            )
    return scores


def _figures(truth: Vector, guesses: Mapping[str, Mapping[str, Vector]], people: Numbers, mask: Mask) -> Figures:
    """AUC of every guess by attribute, for attributes that enough of the images have and lack, and the mean."""
    fold, together = number_folds(people)[mask], np.zeros(int(mask.sum()), np.int64)
    weights = resample(people[mask])
    found: dict[str, dict[str, Vector]] = {}
    attributes: Figures = {}
    for name, scores in guesses.items():
        labels = _labels(name, truth)[mask]
        if not are_enough(labels):
            continue
        # What is read depends on no fold, so that all pairs can be compared.
        own = {
            kind: fold_auc(labels, score[mask], together if kind == READ else fold, weights)
            for kind, score in scores.items()
        }
        found[name] = own | ({BEYOND: own[LEARNED] - own[WORDS]} if WORDS in own else {})
        images = int((~np.isnan(labels)).sum())
        attributes[name] = {kind: as_interval(values, images) for kind, values in found[name].items()}
    kinds = next(iter(found.values()), {})
    return {
        "mean": {kind: mean_interval([own[kind] for own in found.values()]) for kind in kinds},
        "attributes": attributes,
    }
