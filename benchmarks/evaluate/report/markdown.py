"""Tables in Markdown, and how figures are written in them."""

import html
from collections.abc import Sequence

from ..labels import HELD_OUT
from ..types import Figures

MISSING = "missing"


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; what Markdown or HTML would read as markup in cells is replaced."""
    cells = [[plain(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    made = [f"| {' | '.join(row)} |" for row in cells]
    return [made[0], "|---" * len(head) + "|", *made[1:]]


def plain(text: str) -> str:
    """Text that stays as it is on the page, such as the name of a file."""
    return html.escape(text.replace("\n", " "), quote=False)


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f}"


def interval(found: Figures) -> str:
    """A share and its interval in percent."""
    return f"{percent(found['value'])} ({percent(found['low'])}-{percent(found['high'])})"


def optional(found: Figures) -> str:
    """A share and its interval, or the reason why there is none."""
    return interval(found) if found["value"] is not None else str(found.get("reason", ""))


def score(found: Figures | None, *, as_number: bool) -> str:
    """A share in percent, or a number, with its interval or with the number of attributes that it is the mean of."""
    if not found or not found["of"]:
        return ""
    if as_number:
        return f"{found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
    return interval(found) if "low" in found else f"{percent(found['value'])} ({found['of']})"


def shown(method: str, row: Figures) -> list[tuple[str, Figures]]:
    """The rows of a method in a table, by title: all images and, if there are any, the held-out images."""
    found = [(method, row.get("all", {}))]
    if HELD_OUT in row.get("groups", {}):
        found.append((f"{method} ({HELD_OUT})", row["groups"][HELD_OUT]))
    return found
