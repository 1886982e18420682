"""Every figure by group of people."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ..types import Figures
from .answer import strongest
from .markdown import MISSING, interval, lines, plain, score
from .paper_tables import PREDICTORS, QUALITY, REID, UTILITY
from .prompts_table import K_ANONYMITY, counts

Columns = Mapping[str, tuple[str, Callable[[Figures], str]]]  # the figure of each column, and how it is written


def group_tables(figures: Figures) -> Iterator[str]:
    """Every figure by group."""
    yield "## By group\n\nThe average can hide that a group is less protected than others.\n"
    rates: Columns = {name: (name, interval) for name in REID}
    for method in figures["methods"] if "attackers" in figures else ():
        if (best := strongest(figures, method)) is not None:
            own = {method: figures["attackers"][best]["methods"][method]}
            yield from _by_group(figures, f"{plain(method)}, the strongest attacker: {plain(best)}", own, rates)
    for encoder, own in figures.get("reid", {}).items():
        if encoder != "chance" and MISSING not in own:
            yield from _by_group(figures, encoder, own["methods"], rates)
    utility = figures.get("utility", {})
    for predictor in PREDICTORS:
        if predictor in utility and MISSING not in utility[predictor]:
            columns: Columns = {
                title: (figure, partial(score, as_number=figure == "VA MSE"))
                for title, (whose, figure) in UTILITY.items()
                if whose == predictor
            }
            yield from _by_group(figures, f"utility, {predictor}", utility[predictor], columns)
    for network, own in figures.get("quality", {}).items():
        if MISSING not in own:
            columns = {
                title: (figure, "{:.2f}".format) for title, (whose, figure) in QUALITY.items() if whose == network
            }
            yield from _by_group(figures, network, own, columns)
    if MISSING not in figures.get("attributes", {MISSING: ""}):
        yield "### k-anonymity\n"
        rows = [[group, *counts(count)] for group, count in figures["attributes"]["groups"].items()]
        yield from lines(["group", *K_ANONYMITY], rows)


def _by_group(figures: Figures, title: str, methods: Figures, columns: Columns) -> Iterator[str]:
    yield f"### {title}\n"
    rows = []
    for method, own in methods.items():
        for group, size in figures["groups"].items():
            found = own["groups"].get(group)
            cells = (
                [write(found[figure]) for figure, write in columns.values()] if found else ["too few"] * len(columns)
            )
            rows.append([method, group, str(size), *cells])
    yield from lines(["method", "group", "originals", *columns], rows)
    yield ""
