"""Tables of the attackers: who finds people again, who recognizes a pair, and what the attributes give away."""

from collections.abc import Iterator

from ..types import Figures
from .markdown import MISSING, interval, lines, optional, percent, plain, shown
from .paper_tables import REID

AMONG = ("among 100", "among 1000")
TARS = ("TAR at FAR 0.01", "TAR at FAR 0.001")
ATTACKERS = """\
## Attackers

In percent, in the gallery of all originals. `among 100` and `among 1000` are Re-ID@1 in galleries of that size, exact
if there are so many originals, and else extrapolated (*). `people` is Re-ID@1 with near copies of a photo as one
person, and `own group` in a gallery of the held-out originals only.
"""
VERIFICATION = """\
## Verification

An attacker sees a portrait and a photo, and says whether they show the same person. In percent. The threshold accepts
one in 100 (FAR 0.01) or in 1000 of the pairs of different people's originals. TAR is the share of portraits that are
accepted with their own original, and chance that of portraits with other people's originals. An EER of 50 means that
the attacker learns nothing.
"""
RISKS = """\
The three risks of the Article 29 Working Party's opinion 05/2014, in percent: Anonymeter attacks the table of what the
face engines read from the portraits. `control` is the same attack on people whose portraits are not in the table, and
`risk` is what the attack owes to the portraits: (attack - control) / (1 - control).
"""
HIDDEN = """\
Mean AUC, in percent, of attributes that a run left out with `--ignore`: as the face engines read them from the portrait
(read), as an attacker guesses them who learned from other people's portraits (learned), and as he guesses from the
other words alone. 50 is chance.
"""


def attackers_table(figures: Figures) -> Iterator[str]:
    """Every rate of every attacker."""
    yield ATTACKERS
    rows = []
    for attacker, row in figures["attackers"].items():
        for method, own in row["methods"].items():
            if MISSING in own:
                rows.append([attacker, method, own[MISSING], *[""] * (len(REID) + len(AMONG) + 1)])
                continue
            for title, found in shown(method, own):
                rates = [interval(found[name]) for name in REID]
                sizes = [_sized(found[name]) for name in AMONG]
                alone = interval(found["own group"]) if "own group" in found else ""
                rows.append([attacker, title, *rates, *sizes, interval(found["people"][REID[0]]), alone])
    yield from lines(["who", "method", *REID, *AMONG, "people", "own group"], rows)


def _sized(found: Figures) -> str:
    return optional(found) + (" *" if found.get("method") == "extrapolated" else "")


def verification_table(figures: Figures) -> Iterator[str]:
    """True accept rates and equal error rates."""
    yield VERIFICATION
    rows = []
    for encoder, own in figures["verification"].items():
        if MISSING in own:
            rows.append([encoder, MISSING, *[""] * (2 * len(TARS) + 1)])
            continue
        for method, row in own["methods"].items():
            for title, found in shown(method, row):
                tars = [cell for name in TARS for cell in _with_chance(found[name])]
                rows.append([encoder, title, *tars, optional(found["EER"])])
    yield from lines(["encoder", "method", *(head for name in TARS for head in (name, "chance")), "EER"], rows)


def _with_chance(found: Figures) -> tuple[str, str]:
    return optional(found), percent(found["chance"]["value"]) if "chance" in found else ""


def risks_table(figures: Figures) -> Iterator[str]:
    """Singling out, linkability and inference, by Anonymeter."""
    own = figures["risks"]
    yield "## Singling out, linkability and inference\n"
    if MISSING in own:
        yield plain(own[MISSING])
        return
    yield RISKS
    rows = []
    for method, found in own["methods"].items():
        if MISSING in found:
            rows.append([method, found[MISSING], "", "", "", ""])
            continue
        for title, row in _risks(found):
            cells = (interval(row["attack"]), interval(row["control"]), percent(row["baseline"]), interval(row["risk"]))
            rows.append([method, title, *cells])
    yield from lines(["method", "risk of", "attack", "control", "guessing", "risk"], rows)


def _risks(found: Figures) -> Iterator[tuple[str, Figures]]:
    yield "singling out by ten attributes", found["singling out"]
    for count, row in found["linkability"].items():
        yield f"linking inner and outer face, {count} nearest", row
    inference = found["inference"]
    if MISSING not in inference:
        yield "inferring an attribute, mean", inference["all"]
        yield f"inferring an attribute, worst: {inference['worst']}", inference["secrets"][inference["worst"]]


def hidden_table(figures: Figures) -> Iterator[str]:
    """What can be told of attributes that no prompt mentioned, together and one by one."""
    own = figures["hidden"]
    yield "## Hidden attributes\n"
    if MISSING in own:
        yield plain(own[MISSING])
        return
    yield HIDDEN
    kinds = list(dict.fromkeys(kind for row in own["methods"].values() for kind in row["all"]["mean"]))

    def cells(found: Figures) -> list[str]:
        return [optional(found[kind]) if kind in found else "" for kind in kinds]

    rows = []
    for method, row in own["methods"].items():
        rows.append([f"mean of {len(own['hidden'])}", method, *cells(row["all"]["mean"])])
    for name in own["hidden"]:
        for method, row in own["methods"].items():
            rows.append([name, method, *cells(row["all"]["attributes"].get(name, {}))])
    yield from lines(["attribute", "method", *kinds], rows)
