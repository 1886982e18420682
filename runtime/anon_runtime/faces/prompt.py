"""Algorithm 1 of the paper: attributes to a positive and a negative prompt."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

PromptStyle = Literal["paper", "natural"]
STYLES: tuple[PromptStyle, ...] = get_args(PromptStyle)


def write_prompts(
    attributes: Mapping[str, float | int | str], style: PromptStyle = "paper", ignore: Collection[str] = ()
) -> tuple[str, str]:
    """Positive and negative prompt for a person, as Algorithm 1 of Piano et al. (2024) writes them.

    Args:
        attributes: ``Ethnic``, ``Age``, and scores in 0..1; the prompts follow the order of the scores.
        style: ``paper`` writes FACER's labels to the letter; ``natural`` writes them as words and says "34 year old".
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
    """A CelebA label as words: ``5_o_Clock_Shadow`` is "5 o'clock shadow"."""
    return name.lower().replace("_o_clock", " o'clock").replace("_", " ")
