"""Prompts for training: the runtime's own code writes them from labels, and random phrases are left out."""

from dataclasses import dataclass

import numpy as np

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import STYLES, write_prompts
from anon_runtime.types import Attributes

from .data import Photos

SHORT = 0.25  # share of prompts from which many phrases are dropped
AGE_ERROR = 2  # years in both directions: the labels are not more exact


@dataclass(frozen=True)
class Mixture:
    """The shares of the kinds of prompts that an image is trained with.

    A guidance scale of 7.5 multiplies the difference between the predictions for the prompt and the negative prompt.
    If negative prompts were trained with images of any person, this difference would be so large that a small model
    gives oversaturated images. Most negative prompts are therefore trained with the person that they were written for.
    A smaller share of ``strangers`` makes guidance weaker.

    Attributes:
        negative: share of negative prompts.
        empty: share of empty prompts.
        strangers: share of the negative prompts that were written for another person.
    """

    negative: float = 0.35
    empty: float = 0.05
    strangers: float = 0.5


def labelled(photos: Photos, index: int) -> Attributes:
    """A photo's labels in the form of `read_attributes`. Attributes without a label count as absent."""
    scores = np.nan_to_num(photos.attributes[index].numpy())
    ethnicity, age = ETHNICITIES[int(photos.ethnicities[index])], int(photos.ages[index])
    return {"Ethnic": ethnicity, "Age": age, **{k: float(s) for k, s in zip(CELEBA, scores, strict=True)}}


def caption(photos: Photos, index: int, mixture: Mixture, rng: np.random.Generator) -> str:
    """A random prompt for a photo."""
    kind = rng.random()
    if kind < mixture.empty:
        return ""
    if kind < mixture.empty + mixture.negative:
        other = rng.integers(len(photos)) if rng.random() < mixture.strangers else index
        return _write(photos, int(other), rng)[1]
    return _write(photos, index, rng)[0]


def _write(photos: Photos, index: int, rng: np.random.Generator) -> tuple[str, str]:
    person = labelled(photos, index)
    person["Age"] = max(1, int(person["Age"]) + int(rng.integers(-AGE_ERROR, AGE_ERROR + 1)))
    kept = rng.uniform(0.2, 1) if rng.random() < SHORT else 1 - 0.05 * rng.random()
    dropped = [name for name in CELEBA if name != "Male" and rng.random() > kept]
    return write_prompts(person, STYLES[int(rng.random() < 0.25)], dropped)
