"""The attributes of a face: 40 CelebA scores, age and ethnicity, computed by engines or loaded from a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import check_finite
from ..errors import UsageError
from ..types import Arrays, Attributes, Engine, Pixels
from .detection import Face
from .geometry import Reals, align, letterbox

# fmt: off
CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)
# fmt: on
ETHNICITIES = ("asian", "indian", "black", "white", "middle eastern", "latino hispanic")

ATTRIBUTE_ROLES = ("face_attributes", "face_age", "face_race")
_SIDE = 224
# FaRL's target points for the five landmarks, as facer's get_std_points_xray(out_size=224, mid_size=500) computes them.
_FARL_POINTS = (
    np.array(
        [[85.82991, 115.7792], [169.0532, 114.3381], [127.574, 167.0006], [90.6964, 204.7014], [167.3069, 203.3733]]
    )
    - 128
    + 250
) * (_SIDE / 500)
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def farl_crop(photo: Pixels, face: Face) -> Reals:
    """Return FaRL's input for a face: the aligned face, normalized as in CLIP.

    Args:
        photo: uint8 (height, width, 3), RGB.
        face: the face to crop.

    Returns:
        float32 (3, 224, 224), RGB.
    """
    aligned = align(photo, face.landmarks, _FARL_POINTS, _SIDE) / np.float32(255)
    return ((aligned - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)


def deepface_crop(photo: Pixels, face: Face) -> Reals:
    """Return DeepFace's input for a face: the content of its box, scaled to fit into a black square.

    Args:
        photo: uint8 (height, width, 3), RGB.
        face: the face to crop.

    Returns:
        float32 (224, 224, 3), BGR, values in 0..1.
    """
    x, y, w, h = face.box
    left, top = int(x), int(y)
    crop = photo[top : max(top + 1, round(y + h)), left : max(left + 1, round(x + w))]
    return letterbox(crop, _SIDE)[..., ::-1] / np.float32(255)


def read_attributes(engines: Mapping[str, Engine], photos: Sequence[Pixels], faces: Sequence[Face]) -> list[Attributes]:
    """Compute the attributes of one face in each photo, as one batch.

    Args:
        engines: ``face_attributes``, ``face_age`` and ``face_race`` by role; the last two may be one engine with two
            outputs.
        photos: uint8 arrays (height, width, 3), RGB; at least one.
        faces: one face for each photo.

    Returns:
        For each face, ``Ethnic``, ``Age`` and the 40 CelebA scores in alphabetical order.

    Raises:
        GenerationError: an engine returned NaN or infinity.
    """
    aligned = np.stack([farl_crop(photo, face) for photo, face in zip(photos, faces, strict=True)])
    boxed = np.stack([deepface_crop(photo, face) for photo, face in zip(photos, faces, strict=True)])
    scores = engines["face_attributes"]({"image": aligned})["probabilities"]
    check_finite(scores, "face_attributes", "on a photo")
    outputs: Arrays = {}
    for role, engine in {id(engines[role]): (role, engines[role]) for role in ("face_age", "face_race")}.values():
        outputs.update(engine({"image": np.ascontiguousarray(boxed)}))
        for array in outputs.values():
            check_finite(array, role, "on a photo")
    # The age is the expected value over the classes 0..100, as in DeepFace.
    ages = (np.asarray(outputs["age_probabilities"], np.float64) * np.arange(101)).sum(axis=1)
    races = np.argmax(outputs["race_probabilities"], axis=1)
    return [
        {"Ethnic": ETHNICITIES[race], "Age": int(age), **{k: float(p) for k, p in zip(CELEBA, row, strict=True)}}
        for race, age, row in zip(races, ages, scores, strict=True)
    ]


def load_attributes(path: Path) -> Attributes:
    """Return the attributes in a JSON file, which holds the ``attributes`` object of ``anon-run --json``.

    Args:
        path: the JSON file.

    Raises:
        UsageError: the file is missing, is not JSON, or holds no valid attributes.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"attributes {path}", error.strerror or str(error), "check the path") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"attributes {path}", f"it is not JSON ({error})", _EXPECTED) from None
    return check_attributes(data, f"attributes {path}")


_EXPECTED = "give the `attributes` object of `anon-run --json`: Ethnic, Age and scores in 0..1 by CelebA's names"


def check_attributes(data: Any, what: str) -> Attributes:
    """Check attributes that a user gives, and return a copy of them.

    ``Ethnic``, ``Age`` and ``Male`` are required. The prompts do not mention attributes that are left out.

    Args:
        data: the attributes: ``Ethnic`` is text, ``Age`` is a whole number in 0..120, and the scores are in 0..1.
        what: the name of the setting or file, for the message.

    Raises:
        UsageError: a name is unknown or missing, or a value is out of range.
    """

    def refuse(why: str) -> UsageError:
        return UsageError(what, why, _EXPECTED)

    if not isinstance(data, dict):
        raise refuse("it is not an object")
    unknown = [name for name in data if name not in (*CELEBA, "Ethnic", "Age")]
    missing = [name for name in ("Ethnic", "Age", "Male") if name not in data]
    if unknown or missing:
        raise refuse(f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(missing)}")
    if not (isinstance(data["Ethnic"], str) and data["Ethnic"].strip()):
        raise refuse("Ethnic is not a word")
    if type(data["Age"]) is not int or not 0 <= data["Age"] <= 120:
        raise refuse(f"Age is {data['Age']!r}, not whole years from 0 to 120")
    for name in data.keys() - {"Ethnic", "Age"}:
        if type(data[name]) not in (int, float) or not 0 <= data[name] <= 1:
            raise refuse(f"{name} is {data[name]!r}, not a score in 0..1")
    return dict(data)
