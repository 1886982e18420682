"""Algorithm 1 of the paper (Piano et al., 2024): from attributes to a positive and a negative prompt."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

PromptStyle = Literal["paper", "natural"]
STYLES: tuple[PromptStyle, ...] = get_args(PromptStyle)


def write_prompts(
    attributes: Mapping[str, float | int | str], style: PromptStyle = "paper", ignore: Collection[str] = ()
) -> tuple[str, str]:
    """Return the positive and the negative prompt for a person, following Algorithm 1 of Piano et al. (2024).

    Args:
        attributes: ``Ethnic``, ``Age``, and scores in 0..1; the prompts list the attributes in the order of the
            mapping.
        style: ``paper`` uses FACER's labels as they are; ``natural`` writes them as words and says "34 year old".
        ignore: attributes that neither prompt mentions.
    """
    natural = style == "natural"
    age = f"{attributes['Age']} year old" if natural else attributes["Age"]
    sex = "man, " if float(attributes["Male"]) > 0.5 else "woman, "
    positive = f"closeup portrait photo of a {attributes['Ethnic']} {age} {sex}"
    negative = " "
    for name, score in attributes.items():
        if name in ("Ethnic", "Age", "Male") or name in ignore:
            continue
        label = in_words(name) if natural else name
        if float(score) > 0.5:
            positive += f"{label} , "
        else:
            negative += f"{label} , "
    return positive, negative


def in_words(name: str) -> str:
    """Return a CelebA label in words: ``5_o_Clock_Shadow`` becomes "5 o'clock shadow"."""
    return name.lower().replace("_o_clock", " o'clock").replace("_", " ")
