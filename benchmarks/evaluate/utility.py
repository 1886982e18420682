"""Utility: whether what could be read from the originals can still be read from the anonymized images (Table II).

An image without a face counts: nothing can be read from it, so that every comparison of it in an AUC is a coin toss,
its ethnicity and gender are wrong, and its valence and arousal are 0, the middle of their scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from ..metrics import column_aucs
from .cache import Vector
from .labels import Labels, Mask
from .predictors import DeepFaceDemography, FaceEngines, HSEmotion
from .reidentification import bootstrap

# Inner and outer face, 21 and 17 attributes, after FALCO (Barattin et al., 2023), whose own lists could not be looked
# up: these follow where in an image an attribute is seen. `Attractive` and `Blurry` are seen nowhere in particular.
INNER = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Bags_Under_Eyes", "Big_Lips", "Big_Nose", "Bushy_Eyebrows", "Eyeglasses",
    "Goatee", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Pale_Skin", "Pointy_Nose", "Rosy_Cheeks", "Smiling", "Wearing_Lipstick", "Young",
)  # fmt: skip
OUTER = (
    "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Chubby", "Double_Chin", "Gray_Hair", "Oval_Face",
    "Receding_Hairline", "Sideburns", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Necklace", "Wearing_Necktie",
)  # fmt: skip
VALENCE = ("valence", "arousal")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """What is true of n originals, by labels or, where there are none, by what a predictor read from the originals.

    Attributes:
        attributes: (n, 40), above 0.5 for present; NaN where unknown.
        ethnicity, sex: text; empty where unknown.
        age: (n,) years; NaN where unknown.
        labelled: which of attributes, ethnicity, sex and age are labels.
    """

    attributes: Vector
    ethnicity: Sequence[str]
    sex: Sequence[str]
    age: Vector
    labelled: frozenset[str]


def find_truth(labels: Labels | None, reading: Vector) -> Truth:
    """Truth from labels, and from a reading (n, k) of `FaceEngines` on the originals for columns without any label."""
    column = {name: reading[:, i] for i, name in enumerate(FaceEngines.columns)}
    labelled = set()

    def numbers(name: str, read: Vector) -> Vector:
        own = np.full(len(reading), np.nan) if labels is None else labels.numbers(name)
        if np.isnan(own).all():
            return read
        labelled.add(name)
        return own

    def present(name: str) -> Vector:
        return np.where(np.isnan(column[name]), np.nan, column[name] > 0.5)

    attributes = np.stack([numbers(name, present(name)) for name in CELEBA], axis=1)
    ethnicity = [""] * len(reading) if labels is None else labels.text("ethnicity")
    if any(ethnicity):
        labelled.add("ethnicity")
    else:
        ethnicity = _most_likely(ETHNICITIES, np.stack([column[name] for name in ETHNICITIES], axis=1))
    sex = [{0.0: "woman", 1.0: "man"}.get(value, "") for value in attributes[:, CELEBA.index("Male")].tolist()]
    return Truth(attributes, ethnicity, sex, numbers("age", column["Age"]), frozenset(labelled))


def _most_likely(names: Sequence[str], scores: Vector) -> list[str]:
    """The best name of each row (n, k); empty where nothing was read."""
    return ["" if np.isnan(row).any() else names[int(row.argmax())] for row in scores]


def from_engines(truth: Truth, own: Sequence[int], reading: Vector, mask: Mask) -> Figures:
    """AUC of inner and outer attributes, accuracy of ethnicity and gender.

    Args:
        truth: of the originals.
        own: the original of each anonymized image.
        reading: (n, k) of `FaceEngines` on the anonymized images.
        mask: which of these images count.
    """
    rows, read = np.asarray(own)[mask], reading[mask]
    aucs = column_aucs(CELEBA, truth.attributes[rows], read[:, : len(CELEBA)])
    found: Figures = {"attributes": aucs}
    for name, group in (("inner", INNER), ("outer", OUTER)):
        scored = [aucs[attribute] for attribute in group if attribute in aucs]
        found[f"{name} AUC"] = {"value": float(np.mean(scored)) if scored else None, "of": len(scored)}
    first = len(CELEBA)
    ethnicity = _most_likely(ETHNICITIES, read[:, first : first + len(ETHNICITIES)])
    male = read[:, CELEBA.index("Male")]
    sex = ["" if np.isnan(score) else "man" if score > 0.5 else "woman" for score in male.tolist()]
    return found | _accuracies(truth, rows.tolist(), ethnicity, sex)


def _accuracies(truth: Truth, rows: Sequence[int], ethnicity: Sequence[str], sex: Sequence[str]) -> Figures:
    def accuracy(true: Sequence[str], read: Sequence[str]) -> Figures:
        known = [(true[row], value) for row, value in zip(rows, read, strict=True) if true[row]]
        return asdict(bootstrap(np.array([a == b for a, b in known], np.float64)))

    return {
        "ethnicity accuracy": accuracy(truth.ethnicity, ethnicity),
        "gender accuracy": accuracy(truth.sex, sex),
    }


def from_deepface(truth: Truth, emotions: Vector, own: Sequence[int], reading: Vector, mask: Mask) -> Figures:
    """Emotion AUC, and accuracy of ethnicity and gender by DeepFace; see `from_engines` and `true_emotions`."""
    rows, read = np.asarray(own)[mask], reading[mask]
    count = len(DeepFaceDemography.emotions)
    ethnicity = _most_likely(ETHNICITIES, read[:, count : count + len(ETHNICITIES)])
    sex = [{"Woman": "woman", "Man": "man"}.get(name, "") for name in _most_likely(("Woman", "Man"), read[:, -2:])]
    return _emotion_auc(DeepFaceDemography.emotions, emotions[rows], read) | _accuracies(
        truth, rows.tolist(), ethnicity, sex
    )


def from_hsemotion(emotions: Vector, valence: Vector, own: Sequence[int], reading: Vector, mask: Mask) -> Figures:
    """Emotion AUC, and the mean squared error of valence and arousal together, whose scale is -1..1.

    Args:
        emotions: of the originals, see `true_emotions`.
        valence: (n, 2) of the originals: valence and arousal; NaN where unknown.
        own, reading, mask: see `from_engines`.
    """
    rows, read = np.asarray(own)[mask], reading[mask]
    errors = ((np.nan_to_num(read[:, -2:]) - valence[rows]) ** 2).mean(axis=1)
    known = errors[~np.isnan(errors)]
    return _emotion_auc(HSEmotion.emotions, emotions[rows], read) | {"VA MSE": asdict(bootstrap(known))}


def _emotion_auc(names: Sequence[str], truth: Vector, reading: Vector) -> Figures:
    """Mean over the emotions that enough images show and enough do not, one against the rest."""
    aucs = column_aucs(names, truth, reading[:, : len(names)])
    return {"emotion AUC": {"value": float(np.mean(list(aucs.values()))) if aucs else None, "of": len(aucs)}}


def true_emotions(names: Sequence[str], labels: Labels | None, reading: Vector) -> Vector:
    """Which emotion each original shows, (n, k) of 0 and 1, NaN where unknown: labels', else the likeliest one read."""
    told = [] if labels is None else [text.lower() for text in labels.text("emotion")]
    if not any(told):
        told = [name.lower() for name in _most_likely(names, reading[:, : len(names)])]
    rows: Mapping[str, Vector] = {name.lower(): np.eye(len(names))[i] for i, name in enumerate(names)}
    return np.stack([rows.get(name, np.full(len(names), np.nan)) for name in told])


def true_valence(labels: Labels | None, reading: Vector) -> Vector:
    """Valence and arousal (n, 2) of the originals: labels', else what HSEmotion read."""
    if labels is not None:
        own = np.stack([labels.numbers(name) for name in VALENCE], axis=1)
        if not np.isnan(own).all():
            return own
    return reading[:, -2:]
