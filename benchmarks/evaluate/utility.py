"""Utility: how much of what is true of the originals can be read from the anonymized images (Table II).

An image without a face counts as well: in an AUC, each of its comparisons counts one half; its ethnicity and gender are
wrong; its valence and arousal are 0, the middle of their scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES

from ..metrics import column_aucs
from .intervals import bootstrap
from .labels import Labels
from .predictors import DeepFaceDemography, FaceEngines, Fer, HSEmotion
from .types import Figures, Mask, Vector

# Attributes of the inner and the outer face, 21 and 17, as in FALCO (Barattin et al., 2023). FALCO's own lists were not
# available, so each attribute is assigned by the place where it is visible. `Attractive` and `Blurry` have no place.
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


@dataclass(frozen=True)
class Truth:
    """What is true of n originals: labels, or a predictor's readings of the originals where there are no labels.

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
    """Truth from labels, and for columns without any label from a reading (n, k) of the originals by `FaceEngines`."""
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
    """The name with the highest score in each row (n, k); empty where nothing was read."""
    return ["" if np.isnan(row).any() else names[int(row.argmax())] for row in scores]


def from_engines(truth: Truth, own: Sequence[int], reading: Vector, mask: Mask) -> Figures:
    """AUC of the inner and outer attributes, and accuracy of ethnicity and gender.

    Args:
        truth: of the originals.
        own: index of the original of each anonymized image.
        reading: (n, k) of the anonymized images by `FaceEngines`.
        mask: (n,), the images that are counted.
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


def from_fer(truth: Truth, emotions: Vector, own: Sequence[int], reading: Vector, mask: Mask) -> Figures:
    """Emotion AUC by fer, and the AUC of its happiness against CelebA's ``Smiling``; see `from_engines`.

    Few data sets have labels of emotions, and many have labels of smiles: on the originals, the second figure says how
    good the network is.
    """
    rows, read = np.asarray(own)[mask], reading[mask]
    smiling, happy = truth.attributes[rows, CELEBA.index("Smiling")], read[:, Fer.emotions.index("happy")]
    found = column_aucs(["smile"], smiling[:, None], happy[:, None])
    smile = {"value": found.get("smile"), "of": len(found)}
    return _emotion_auc(Fer.emotions, emotions[rows], read) | {"smile AUC": smile}


def _emotion_auc(names: Sequence[str], truth: Vector, reading: Vector) -> Figures:
    """Mean AUC over the emotions, one against the rest; see `column_aucs` for the emotions that are left out."""
    aucs = column_aucs(names, truth, reading[:, : len(names)])
    return {"emotion AUC": {"value": float(np.mean(list(aucs.values()))) if aucs else None, "of": len(aucs)}}


def true_emotions(names: Sequence[str], labels: Labels | None, reading: Vector) -> Vector:
    """The emotion of each original, (n, k) of 0 and 1, NaN where unknown: the label, or else the likeliest one read."""
    shown = [] if labels is None else [text.lower() for text in labels.text("emotion")]
    if not any(shown):
        shown = [name.lower() for name in _most_likely(names, reading[:, : len(names)])]
    rows: Mapping[str, Vector] = {name.lower(): np.eye(len(names))[i] for i, name in enumerate(names)}
    return np.stack([rows.get(name, np.full(len(names), np.nan)) for name in shown])


def true_valence(labels: Labels | None, reading: Vector) -> Vector:
    """Valence and arousal (n, 2) of the originals: the labels, or else what HSEmotion read."""
    if labels is not None:
        own = np.stack([labels.numbers(name) for name in VALENCE], axis=1)
        if not np.isnan(own).all():
            return own
    return reading[:, -2:]
