"""The whole report in Markdown."""

from collections.abc import Callable, Iterator

from ..types import Figures
from .attack_tables import attackers_table, hidden_table, risks_table, verification_table
from .group_tables import group_tables
from .markdown import MISSING, lines, plain
from .paper_tables import quality_table, reidentification_table, utility_table
from .prompts_table import k_anonymity_table
from .training_tables import learner_table, memorisation_table

RULES = """\
- The queries are the anonymized images, and the gallery is all originals. The query's own original is the only right
  match. Originals that are equally similar are ranked in random order. Intervals are 95 % bootstrap intervals over the
  queries.
- If an encoder's detector finds no face in an anonymized image, the image is cropped where the face of its original is,
  because an attacker can see where the face must be. If it finds no face in the original either, the whole image is
  used.
- If the face engines find no face in an anonymized image, each comparison of the image in an AUC counts one half, its
  ethnicity and gender are wrong, and its valence and arousal are 0.
- An original without an anonymized image is not a query, and stays in the gallery.
- An attribute is scored if at least ten images have it and at least ten images lack it. A group is shown if it has at
  least ten images (for FID and Visual DNA, fifty)."""


def render(figures: Figures) -> str:
    """The whole report."""
    parts = [["# Evaluation", *_overview(figures)]]
    tables: dict[str, Callable[[Figures], Iterator[str]]] = {
        "attackers": attackers_table,
        "verification": verification_table,
        "memorisation": memorisation_table,
        "learner": learner_table,
        "hidden": hidden_table,
        "risks": risks_table,
        "reid": reidentification_table,
        "utility": utility_table,
        "quality": quality_table,
        "attributes": k_anonymity_table,
    }
    parts += [list(table(figures)) for name, table in tables.items() if name in figures]
    parts += [["## Rules", "", RULES], list(_missing(figures)), list(group_tables(figures))]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def _overview(figures: Figures) -> Iterator[str]:
    yield f"\n{figures['originals']} originals.\n"
    yield from (
        f"- {plain(name)} cannot be read and is left out: {plain(why)}" for name, why in figures["unreadable"].items()
    )
    yield ""
    rows = []
    for name, method in figures["methods"].items():
        reasons = "; ".join(f"{count} x {reason}" for reason, count in method["reasons"].items())
        rows.append([name, str(method["pairs"]), str(method["missing"]), reasons, str(method["extra"])])
    yield from lines(["method", "pairs", "missing", "reasons", "images without an original"], rows)
    labelled = ", ".join(figures["labelled"])
    read = "Everything else is compared with what was read from the originals."
    yield f"\nLabels were given for {labelled}. {read}" if labelled else f"\nNo labels were given. {read}"


def _missing(figures: Figures) -> Iterator[str]:
    messages = {
        own[MISSING]: None
        for table in ("reid", "verification", "utility", "quality")
        for own in figures.get(table, {}).values()
        if isinstance(own, dict) and MISSING in own
    }
    if messages:
        yield "## What is missing\n"
        yield from (f"- {plain(message)}" for message in messages)
