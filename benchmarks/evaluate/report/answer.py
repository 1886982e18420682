"""What a reader sees first: how many people can be found again, by whom, with what knowledge."""

from collections.abc import Iterator

from ..labels import HELD_OUT
from ..runs import PUBLIC
from ..types import Figures
from .markdown import MISSING, interval, lines, percent, plain

FOUND = "Re-ID@1"
LIMITS = """\
These are some attackers of many, on these photos: others may find more, and fewer people are found among more photos.
Intervals hold the luck of the photos, and nothing else.
"""


def answer(figures: Figures) -> str:
    """The answer in Markdown; without attackers, it says how to get one."""
    attackers = figures.get("attackers")
    if attackers is None:
        return "No attacker was evaluated: add `attackers` to `--tables` to learn who finds people again."
    return "\n".join([*_sentences(figures), "", LIMITS, *attackers_table(figures)])


def _sentences(figures: Figures) -> Iterator[str]:
    photos, people = figures["originals"], figures["people"]
    yield "**How many people can be found again, by whom, with what knowledge?**\n"
    for method in figures["methods"]:
        best = strongest(figures, method)
        if best is None:
            continue
        row = figures["attackers"][best]["methods"][method]
        yield (
            f"- **{plain(method)}**: of {photos} photos, the strongest attacker ({plain(best)}) finds "
            f"**{interval(row['all'][FOUND])} %** at once; guessing finds {percent(1 / photos)} %."
            f"{_held_out(row)}{_worst(row)}{_seeded(figures, method)}"
        )
    if people < photos:
        yield f"\nThe {photos} photos show {people} people, if near copies of a photo show the same one."


def strongest(figures: Figures, method: str) -> str | None:
    """The attacker without the seed who finds the most of a method's people at once; None if nobody could attack."""
    able = _attacks(figures, method, "attacker")
    return max(able, key=lambda name: able[name]["all"][FOUND]["value"]) if able else None


def _attacks(figures: Figures, method: str, kind: str) -> dict[str, Figures]:
    """The figures of a method by attacker, without those that something is missing for."""
    rows = {name: row["methods"].get(method, {}) for name, row in figures["attackers"].items() if row["kind"] == kind}
    return {name: row for name, row in rows.items() if "all" in row}


def _held_out(row: Figures) -> str:
    group = row["groups"].get(HELD_OUT)
    return f" Of the held-out people it finds {interval(group[FOUND])} %." if group else ""


def _worst(row: Figures) -> str:
    """The group of people of whom the most are found; halves such as held out and not held out are no such groups."""
    groups = {name: found[FOUND] for name, found in row["groups"].items() if ": " in name}
    if not groups:
        return ""
    worst = max(groups, key=lambda name: groups[name]["value"])
    return f" Least protected group: {plain(worst)} ({groups[worst]['of']} photos), {interval(groups[worst])} %."


def _seeded(figures: Figures, method: str) -> str:
    return "".join(f" {_finds_by_seed(row)}" for row in _attacks(figures, method, "with the seed").values())


def _finds_by_seed(row: Figures) -> str:
    found = f"finds {interval(row['all'][FOUND])} %."
    if row["seed"] == PUBLIC:
        return f"**The run has the default seed, which everybody knows: whoever has the engines, too, {found}**"
    return f"Whoever knows the run's seed {found}"


def attackers_table(figures: Figures) -> Iterator[str]:
    """Re-ID@1 by attacker and method, of all people and of those that are held out."""
    attackers, methods = figures["attackers"], list(figures["methods"])
    held_out = HELD_OUT in figures["groups"]
    heads = [head for name in methods for head in (name, *[f"{name} ({HELD_OUT})"] * held_out)]
    rows = []
    for name, row in attackers.items():
        cells = []
        for method in methods:
            own = row["methods"].get(method, {})
            missing = own.get(MISSING, "")
            cells.append(interval(own["all"][FOUND]) if "all" in own else missing)
            if held_out:
                group = own.get("groups", {}).get(HELD_OUT)
                cells.append(interval(group[FOUND]) if group else "")
        rows.append([name, row["knows"], *cells])
    yield "Found again at once (Re-ID@1), in percent, with 95 % intervals:\n"
    yield from lines(["who", "knows", *heads], rows)
