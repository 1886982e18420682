"""The figures as Markdown: the paper's three tables, k-anonymity, and every figure by group."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .labels import HELD_OUT
from .predictors import DeepFaceDemography, HSEmotion
from .quality import CleanFid, TorchFidelity, VisualDna
from .reidentification import DEPTH, KS

Figures = Mapping[str, Any]
REID = (*(f"Re-ID@{k}" for k in KS), f"mAP@{DEPTH}")
LACKING = "missing"
ENGINES, DEEPFACE, HSEMOTION = "face engines", DeepFaceDemography.name, HSEmotion.name
# Title of a column of Table II: the predictor and the figure.
UTILITY = {
    "inner AUC": (ENGINES, "inner AUC"), "outer AUC": (ENGINES, "outer AUC"),
    "emotion AUC, DeepFace": (DEEPFACE, "emotion AUC"), "emotion AUC, HSEmotion": (HSEMOTION, "emotion AUC"),
    "VA MSE": (HSEMOTION, "VA MSE"),
    "ethnicity": (ENGINES, "ethnicity accuracy"), "gender": (ENGINES, "gender accuracy"),
    "ethnicity, DeepFace": (DEEPFACE, "ethnicity accuracy"), "gender, DeepFace": (DEEPFACE, "gender accuracy"),
}  # fmt: skip
# Of Table III: the row of figures and the figure.
QUALITY = {
    "FID, clean-fid": (CleanFid.name, "value"), "FID, torch-fidelity": (TorchFidelity.name, "value"),
    "Visual DNA, data set": (VisualDna.name, "data set"), "Visual DNA, image": (VisualDna.name, "image"),
}  # fmt: skip
RULES = """\
- Queries are the anonymized images, the gallery is all originals; the own original is the one right answer. Equally
  similar originals are taken in random order. Intervals are 95 % bootstrap intervals over the queries.
- A face that an encoder's detector does not find is cropped where the face of its original is, as an attacker would
  who sees where it must be; without a face in the original, too, the whole image is the crop.
- An image in which the face engines find no face says nothing: in an AUC a coin toss beside any other image, for
  ethnicity and gender wrong, for valence and arousal 0.
- An original without an anonymized image is no query, and stays in the gallery.
- An attribute is scored where at least ten images have it and ten lack it; a group with fewer than ten images is
  left out (FID and Visual DNA: fifty)."""


def render(figures: Figures) -> str:
    """The whole report."""
    parts = [["# Evaluation", *_overview(figures)]]
    for name, table in (
        ("reid", identity_table), ("utility", utility_table), ("quality", quality_table),
        ("attributes", anonymity_table),
    ):  # fmt: skip
        if name in figures:
            parts.append(list(table(figures)))
    parts += [["## How it is counted", "", RULES], list(_lacking(figures)), list(_groups(figures))]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; bars in a cell would end it."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    made = [f"| {' | '.join(row)} |" for row in cells]
    return [made[0], "|---" * len(head) + "|", *made[1:]]


def _overview(figures: Figures) -> Iterator[str]:
    yield f"\n{figures['originals']} originals.\n"
    yield from (f"- {name} cannot be read and is left out: {why}" for name, why in figures["unreadable"].items())
    yield ""
    rows = []
    for name, method in figures["methods"].items():
        reasons = "; ".join(f"{count} x {reason}" for reason, count in method["reasons"].items())
        rows.append([name, str(method["pairs"]), str(method["missing"]), reasons, str(method["extra"])])
    yield from lines(["method", "pairs", "missing", "why", "images of no original"], rows)
    told = ", ".join(figures["labelled"]) or "nothing"
    yield f"\nLabels were given for {told}; the rest is compared with what was read from the originals."


def identity_table(figures: Figures) -> Iterator[str]:
    """Table I."""
    yield "## Re-identification (the paper's Table I)\n\nPercent; lower is more anonymous.\n"
    chance = figures["reid"]["chance"].items()
    rows = [["", guess, "", "", *(_percent(own[name]) for name in REID)] for guess, own in chance]
    for encoder, own in figures["reid"].items():
        if encoder == "chance":
            continue
        if LACKING in own:
            rows.append([encoder, own[LACKING].removeprefix(f"{encoder}: "), *[""] * (2 + len(REID))])
            continue
        for method, row in own["methods"].items():
            for title, found in _shown(method, row):
                count = str(found[REID[0]]["of"])
                faceless = str(row["no face"]) if title == method else ""
                rows.append([encoder, title, count, faceless, *(_interval(found[name]) for name in REID)])
    yield from lines(["encoder", "method", "queries", "no face", *REID], rows)


def utility_table(figures: Figures) -> Iterator[str]:
    """Table II."""
    own = figures["utility"]
    yield "## Utility (the paper's Table II)\n\nAUC and accuracies in percent; higher is more useful, but for VA MSE.\n"
    methods: dict[str, None] = {}
    for predictor in (ENGINES, DEEPFACE, HSEMOTION):
        methods |= dict.fromkeys(own[predictor]) if LACKING not in own[predictor] else {}
    rows = []
    for method in methods or figures["methods"]:
        subsets = {title for predictor in (ENGINES, DEEPFACE, HSEMOTION)
                   for title, _ in _shown(method, own[predictor].get(method, {"all": {}}))}  # fmt: skip
        for title in sorted(subsets):
            row = [title]
            for predictor, figure in UTILITY.values():
                found = dict(_shown(method, own[predictor].get(method, {}))).get(title, {}).get(figure)
                row.append(LACKING if LACKING in own[predictor] else _score(found, figure == "VA MSE"))
            rows.append([*row, str(own[ENGINES].get(method, {}).get("no face", "")) if title == method else ""])
    yield from lines(["method", *UTILITY, "no face"], rows)
    if "inner" in own:
        yield f"\nInner face, {len(own['inner'])} attributes: {', '.join(own['inner'])}."
        yield f"\nOuter face, {len(own['outer'])} attributes: {', '.join(own['outer'])}."
        yield "\nIn brackets: how many attributes or emotions could be scored, or the interval."


def quality_table(figures: Figures) -> Iterator[str]:
    """Table III."""
    own = figures["quality"]
    yield "## Quality (the paper's Table III)\n\nDistances to the originals; lower is nearer.\n"
    rows = []
    for method in figures["methods"]:
        row = [method]
        for network, figure in QUALITY.values():
            row.append(LACKING if LACKING in own[network] else f"{own[network][method]['all'][figure]:.2f}")
        rows.append(row)
    yield from lines(["method", *QUALITY], rows)


def anonymity_table(figures: Figures) -> Iterator[str]:
    """Attribute k-anonymity."""
    own = figures["attributes"]
    yield "## Attribute k-anonymity\n"
    if LACKING in own:
        yield own[LACKING]
        return
    yield "The prompt is all that survives of a person. So many of the originals' people share theirs:\n"
    rows = []
    for age, title in (("age", "age in years"), ("decade", "age rounded down to a decade")):
        rows.append([title, *_shares(own[age]["as it is"])])
        steps = own[age]["ignore"]
        for count in sorted({1, 2, 5, 10, 20, len(steps)}):
            told = (
                steps[count - 1][0] if count == 1 else f"the best {count}" if count < len(steps) else "all attributes"
            )
            rows.append([f"{title}, --ignore {told}", *_shares(steps[count - 1][1])])
    yield from lines(["", "people", "different prompts", "alone (k = 1)", "k < 5", "median k"], rows)
    best = ", ".join(name for name, _ in own["age"]["ignore"][:10])
    yield f"\nThe ten attributes whose loss helps most, one after the other: {best}."
    yield f"\nFaces were not found in {own['no face']} originals, which are not counted."


def _shares(count: Figures) -> list[str]:
    people = count["people"] or 1
    alone = f"{count['alone']} ({100 * count['alone'] / people:.0f} %)"
    return [str(count["people"]), str(count["prompts"]), alone, str(count["fewer_than_five"]), f"{count['median']:g}"]


def _lacking(figures: Figures) -> Iterator[str]:
    told = {own[LACKING]: None for table in ("reid", "utility", "quality")
            for own in figures.get(table, {}).values() if isinstance(own, dict) and LACKING in own}  # fmt: skip
    if told:
        yield "## What is missing\n"
        yield from (f"- {line}" for line in told)


def _groups(figures: Figures) -> Iterator[str]:
    """Every figure by group."""
    yield "## By group\n\nAn average can hide a group that is not protected.\n"
    for encoder, own in figures.get("reid", {}).items():
        if encoder != "chance" and LACKING not in own:
            yield from _by_group(figures, encoder, own["methods"], {n: (n, _interval) for n in REID})
    own = figures.get("utility", {})
    for predictor in (ENGINES, DEEPFACE, HSEMOTION):
        if predictor in own and LACKING not in own[predictor]:
            columns = {title: (figure, lambda found, figure=figure: _score(found, figure == "VA MSE"))
                       for title, (whose, figure) in UTILITY.items() if whose == predictor}  # fmt: skip
            yield from _by_group(figures, f"utility, {predictor}", own[predictor], columns)
    for network, own in figures.get("quality", {}).items():
        if LACKING not in own:
            columns = {title: (figure, lambda found: f"{found:.2f}")
                       for title, (whose, figure) in QUALITY.items() if whose == network}  # fmt: skip
            yield from _by_group(figures, network, own, columns)
    if LACKING not in figures.get("attributes", {LACKING: ""}):
        yield "### k-anonymity\n"
        rows = [[group, *_shares(count)] for group, count in figures["attributes"]["groups"].items()]
        yield from lines(["group", "people", "different prompts", "alone (k = 1)", "k < 5", "median k"], rows)


def _by_group(figures: Figures, title: str, methods: Figures, columns: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {title}\n"
    rows = []
    for method, own in methods.items():
        for group, size in figures["groups"].items():
            found = own["groups"].get(group)
            cells = [show(found[figure]) for figure, show in columns.values()] if found else ["too few"] * len(columns)
            rows.append([method, group, str(size), *cells])
    yield from lines(["method", "group", "originals", *columns], rows)
    yield ""


def _shown(method: str, row: Figures) -> list[tuple[str, Figures]]:
    """What the main tables show of a method: all of it, and the held-out images."""
    found = [(method, row.get("all", {}))]
    if HELD_OUT in row.get("groups", {}):
        found.append((f"{method} ({HELD_OUT})", row["groups"][HELD_OUT]))
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(found: Figures) -> str:
    return f"{_percent(found['value'])} ({_percent(found['low'])}-{_percent(found['high'])})"


def _score(found: Figures | None, plain: bool) -> str:
    """A share in percent or, where ``plain``, a number; with its interval, or with what it is the mean of."""
    if not found or not found["of"]:
        return ""
    if plain:
        return f"{found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
    return _interval(found) if "low" in found else f"{_percent(found['value'])} ({found['of']})"
