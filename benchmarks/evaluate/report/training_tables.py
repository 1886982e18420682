"""Tables of training: what a generator remembers of its own, and what portraits are worth for that of others."""

from collections.abc import Iterator

from ..labels import HELD_OUT
from ..types import Figures
from .markdown import MISSING, interval, lines, plain

TAILS = ("95 %", "99 %")
AUCS = ("inner AUC", "outer AUC", "sex AUC", "ethnicity AUC")
AGE = "age error"


def memorisation_table(figures: Figures) -> Iterator[str]:
    """How near images are to the training set."""
    own = figures["memorisation"]
    yield "## Memory of the training set\n"
    if MISSING in own:
        yield plain(own[MISSING])
        return
    yield (
        f"{own['training pictures']} training pictures. {own['outsiders']} real people who are not among them are the "
        "yardstick: the share\nof images, in percent, that are nearer to a training picture than 95 % (99 %) of these "
        "people are. Chance is 5 (1), with\nan interval of luck. An AUC of 50: images are as near as they are.\n"
    )
    rows = []
    for encoder, found in own["encoders"].items():
        for method, row in found.get("methods", {}).items():
            for title, part in [(method, row["all"]), *((f"{method} ({g})", one) for g, one in row["groups"].items())]:
                tails = [cell for name in TAILS for cell in _tail(part[f"nearer than {name}"])]
                rows.append([encoder, title, *tails, interval(part["AUC"]) if part["AUC"] else ""])
    heads = [head for name in TAILS for head in (f"nearer than {name}", "chance")]
    yield from lines(["by", "method", *heads, "AUC"], rows)


def _tail(found: Figures | None) -> tuple[str, str]:
    return (interval(found["share"]), interval(found["chance"])) if found else ("too few people", "")


def learner_table(figures: Figures) -> Iterator[str]:
    """What learners read from real photos after training on portraits, and the difference to training on originals."""
    own = figures["learner"]
    yield "## What it costs a learner\n"
    if MISSING in own:
        yield plain(own[MISSING])
        return
    yield (
        f"Small classifiers are trained on {own['trained on']} images of the same people each, and tested on photos "
        "of other people.\nAUC in percent, age error in years; below each method the difference to training on the "
        "originals.\n"
    )
    rows = []
    for title, part in (("all", own), (HELD_OUT, own.get(HELD_OUT, {}))):
        for method, row in part.get("methods", {}).items():
            if "all" in row:
                rows.append([title, method, *_learned(row["all"])])
                if method != "originals":
                    rows.append([title, f"{method}, difference", *_learned(row["all"]["difference"])])
    yield from lines(["tested on", "trained on", *AUCS, AGE], rows)


def _learned(found: Figures) -> list[str]:
    return [_number(found[name], 1 if name == AGE else 100) for name in (*AUCS, AGE)]


def _number(found: Figures, scale: float) -> str:
    if found["value"] is None:
        return ""
    value, low, high = (f"{scale * found[end]:.1f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
