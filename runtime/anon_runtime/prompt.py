"""Algorithm 1 of the paper: attributes to a positive and a negative prompt."""

from collections.abc import Mapping


def write_prompts(attributes: Mapping[str, float | int | str]) -> tuple[str, str]:
    """Positive and negative prompt for a person, exactly as Algorithm 1 of Piano et al. (2024) writes them.

    Args:
        attributes: ``Ethnic``, ``Age``, and scores in 0..1; the prompts follow the order of the scores.
    """
    sex = "man, " if float(attributes["Male"]) > 0.5 else "woman, "
    positive = f"closeup portrait photo of a {attributes['Ethnic']} {attributes['Age']} {sex}"
    negative = " "
    for name, score in attributes.items():
        if name in ("Ethnic", "Age", "Male"):
            continue
        if float(score) > 0.5:
            positive += f"{name} , "
        else:
            negative += f"{name} , "
    return positive, negative
