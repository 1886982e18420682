"""What anonymization costs a learner: a small one is trained on portraits and tested on real photos of other people.

A portrait keeps the labels of its original. A learner that was trained on portraits is compared with one that was
trained on the originals of the same portraits: the difference is what the user loses who may only keep the portraits
(the same comparison for detection and segmentation: Hukkelås and Lindseth, Does Image Anonymization Impact Computer
Vision Training?, 2023). The learner is classical and quick: features of `appearance`, standardised, then a logistic
regression for every attribute and ethnicity, and a ridge regression for age.

Every original is scored by a learner that saw neither photos nor portraits of its person. The generator may have been
trained on that person, and only the held-out originals tell what that changes. The intervals are those of other test
photos. Other training photos would change the figures as well, most of all where there is little to learn: after
training with shuffled labels the AUC is one half on average, but that of one learner may lie beyond its interval.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from ..metrics import FEWEST
from .appearance import VERSION, describe_all
from .cache import Cache
from .cross_fitting import (
    are_enough,
    as_interval,
    fold_auc,
    mean_interval,
    number_folds,
    resample,
    score_with_logistic_regression,
)
from .pairs import Method
from .people import Numbers
from .predictors import BOX
from .study import Study, attempt
from .types import Figures, Mask, Vector
from .utility import INNER, OUTER, Truth

ORIGINALS = "originals"
CLASSES = (*CELEBA, *ETHNICITIES)
MEANS: Mapping[str, Sequence[str]] = {
    "inner AUC": INNER,
    "outer AUC": OUTER,
    "sex AUC": ("Male",),
    "ethnicity AUC": ETHNICITIES,
}
AGE_ERROR = "age error"
# Of powers of ten and three times these, the best for a learner on the originals of the demo's photos, SFHQ-40.
INVERSE_PENALTY, AGE_PENALTY = 0.003, 1000


def evaluate_learner(study: Study) -> Figures:
    """What learners read from the originals after training on originals and on every method's images.

    All learners are trained on the same people, those of whom every method has an image, and tested on all originals.
    """
    reader = attempt(lambda: study.reader)
    if isinstance(reader, dict):
        return reader
    common = np.array(sorted(set.intersection(*({*method.pairs} for method in study.methods))), np.int64)
    if len(np.unique(study.people[common])) < FEWEST:
        return {"missing": f"there are fewer than {FEWEST} people of whom every method has an image"}
    features: dict[str, Vector] = {}
    with Cache(study.cache / "appearance.npz", VERSION) as cache:
        for method in (Method(ORIGINALS, dict(enumerate(study.originals))), *study.methods):
            which = range(len(study.originals)) if method.name == ORIGINALS else common
            images = [method.pairs[i] for i in which]
            boxes = reader.read(images, method.name)[:, -len(BOX) :]
            features[method.name] = describe_all(images, boxes, cache, method.name)
    tests, truth = features[ORIGINALS], as_columns(study.truth)
    trained = features | {ORIGINALS: tests[common]}

    def table(fold: Numbers, groups: Mapping[str, Mask]) -> Figures:
        scores = {name: score(one, common, tests, truth, study.people, fold) for name, one in trained.items()}
        return _rows(truth, scores, study.people, fold, groups) | {"guessing": _guess(truth, common, fold)}

    found: Figures = {"trained on": len(common), "people": len(np.unique(study.people[common]))}
    found |= table(number_folds(study.people), study.groups)
    if study.held_out is not None:
        strangers = ~np.isin(study.people[common], study.people[study.held_out])
        held_out = table(np.where(study.held_out, 0, -1), {})
        found["held out"] = {"trained on": int(strangers.sum()), "tested on": int(study.held_out.sum())} | held_out
    return found


def as_columns(truth: Truth) -> Vector:
    """What is learned of n originals: 1 or 0 for each of `CLASSES`, then the age (n, 47); NaN where unknown."""
    attributes = np.where(np.isnan(truth.attributes), np.nan, truth.attributes > 0.5)
    ethnicity = [[float(own == name) if own else np.nan for name in ETHNICITIES] for own in truth.ethnicity]
    return np.column_stack([attributes, np.array(ethnicity), truth.age])


def score(train: Vector, common: Numbers, tests: Vector, truth: Vector, people: Numbers, fold: Numbers) -> Vector:
    """What learners say of originals: log odds for each of `CLASSES`, then the age (n, 47).

    Args:
        train: features (c, d) of originals or portraits.
        common: (c,), the original of each of them.
        tests: features (n, d) of the originals.
        truth: (n, 47), see `as_columns`.
        people: (n,), see `people.find_people`.
        fold: (n,), the number of each original's test set, whose learner is trained on all other people; -1 for an
            original that is in none, and its scores are NaN.
    """
    scores = np.full(truth.shape, np.nan)
    for number in np.unique(fold[fold >= 0]):
        own = fold == number
        others = ~np.isin(people[common], people[own])
        scores[own] = _learn(train[others], truth[common][others], tests[own])
    return scores


def _learn(train: Vector, truth: Vector, test: Vector) -> Vector:
    """Scores (m, 47) of test images (m, d) after training on images (n, d) with labels (n, 47)."""
    if not len(train):
        return np.zeros((len(test), truth.shape[1]))
    # The rotation to principal components changes no score: it makes fewer columns of them, for speed.
    prepare = make_pipeline(StandardScaler(), PCA(svd_solver="full")).fit(train)
    rotated, wanted = prepare.transform(train), prepare.transform(test)
    columns = [score_with_logistic_regression(rotated, own, wanted, INVERSE_PENALTY) for own in truth.T[:-1]]
    known = ~np.isnan(truth[:, -1])
    age = Ridge(AGE_PENALTY).fit(rotated[known], truth[known, -1]).predict(wanted) if known.any() else 0 * wanted[:, 0]
    return np.column_stack([*columns, age])


def _rows(
    truth: Vector, scores: Mapping[str, Vector], people: Numbers, fold: Numbers, groups: Mapping[str, Mask]
) -> Figures:
    """The figures by training set, of all tested originals and by group; each with the difference to originals."""
    rows: Figures = {name: {"groups": {}} for name in scores}
    everyone = np.ones(len(fold), bool)
    for group, mask in {"all": everyone, **groups}.items():
        own = mask & (fold >= 0)
        if own.sum() < FEWEST:
            continue
        weights = resample(people[own])  # the same for all training sets, so that their differences are paired
        found = {name: measure(truth[own], one[own], fold[own], weights) for name, one in scores.items()}
        for name, columns in found.items():
            figures = _summarise(columns, found[ORIGINALS], int((~np.isnan(truth[own, -1])).sum()))
            if group == "all":
                rows[name]["all"] = figures
            else:
                rows[name]["groups"][group] = figures
    return {"methods": rows}


def measure(truth: Vector, scores: Vector, fold: Numbers, weights: Vector) -> dict[str, Vector]:
    """AUC of every class with `FEWEST` positives and negatives, and the age error, each for every resample (r,).

    Args:
        truth, scores: (m, 47), see `as_columns` and `score`.
        fold: (m,).
        weights: (r, m), see `cross_fitting.resample`.
    """
    columns = {
        name: fold_auc(truth[:, i], scores[:, i], fold, weights)
        for i, name in enumerate(CLASSES)
        if are_enough(truth[:, i])
    }
    known = ~np.isnan(truth[:, -1])
    if known.sum() >= FEWEST:
        errors, counts = np.abs(scores - truth)[known, -1], weights[:, known].astype(np.float64)
        drawn = counts.sum(axis=1)  # 0 if a resample misses the few people whose age is known
        columns[AGE_ERROR] = np.divide(counts @ errors, drawn, out=np.full(len(drawn), errors.mean()), where=drawn > 0)
    return columns


def _summarise(columns: Mapping[str, Vector], base: Mapping[str, Vector], ages: int) -> Figures:
    def figures(own: Mapping[str, Vector]) -> Figures:
        found: Figures = {mean: mean_interval([own[n] for n in names if n in own]) for mean, names in MEANS.items()}
        error = as_interval(own[AGE_ERROR], ages) if AGE_ERROR in own else {"value": None, "of": 0}
        return found | {AGE_ERROR: error}

    difference = figures({name: column - base[name] for name, column in columns.items()})
    attributes = {name: float(column[0]) for name, column in columns.items() if name in CELEBA}
    return figures(columns) | {"difference": difference, "attributes": attributes}


def _guess(truth: Vector, common: Numbers, fold: Numbers) -> Figures:
    """The figures of somebody who has no picture and knows the mean age of the people in training."""
    years, tested = truth[:, -1], (fold >= 0) & ~np.isnan(truth[:, -1])
    if not tested.any() or np.isnan(years[common]).all():
        return {"AUC": 0.5, AGE_ERROR: None}
    return {"AUC": 0.5, AGE_ERROR: float(np.abs(years[tested] - np.nanmean(years[common])).mean())}
