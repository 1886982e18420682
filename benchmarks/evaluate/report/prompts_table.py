"""k-anonymity of the prompts."""

from collections.abc import Iterator

from ..types import Figures
from .markdown import MISSING, lines, plain

K_ANONYMITY = ("people", "different prompts", "unique (k = 1)", "k < 5", "median k")


def k_anonymity_table(figures: Figures) -> Iterator[str]:
    """k-anonymity of the prompts."""
    own = figures["attributes"]
    yield "## Attribute k-anonymity\n"
    if MISSING in own:
        yield plain(own[MISSING])
        return
    yield (
        "The prompt is the only information about a person that reaches the portrait. The table shows how many people "
        "of the originals share a prompt; k is the number of people with a person's prompt.\n"
    )
    rows = []
    for age, title in (("age", "age in years"), ("decade", "age rounded down to a decade")):
        rows.append([title, *counts(own[age]["as it is"])])
        steps = own[age]["ignore"]
        for number in sorted({1, 2, 5, 10, 20, len(steps)}):
            ignored = "all attributes" if number == len(steps) else f"the best {number}"
            if number == 1:
                ignored = steps[0][0]
            rows.append([f"{title}, --ignore {ignored}", *counts(steps[number - 1][1])])
    yield from lines(["", *K_ANONYMITY], rows)
    best = ", ".join(name for name, _ in own["age"]["ignore"][:10])
    yield f"\nThe ten attributes that are best to leave out, one after the other: {best}."
    yield f"\nNo face was found in {own['no face']} originals, which are not counted."


def counts(count: Figures) -> list[str]:
    """The cells of a row, in the order of `K_ANONYMITY`."""
    unique = f"{count['alone']} ({100 * count['alone'] / (count['people'] or 1):.0f} %)"
    return [str(count["people"]), str(count["prompts"]), unique, str(count["fewer_than_five"]), f"{count['median']:g}"]
