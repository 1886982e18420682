"""The report in Markdown: the paper's three tables, k-anonymity, and every figure by group."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from .labels import HELD_OUT
from .predictors import DeepFaceDemography, HSEmotion
from .quality import CleanFid, TorchFidelity, VisualDna
from .reidentification import DEPTH, KS
from .types import Figures

REID = (*(f"Re-ID@{k}" for k in KS), f"mAP@{DEPTH}")
MISSING = "missing"
ENGINES, DEEPFACE, HSEMOTION = "face engines", DeepFaceDemography.name, HSEmotion.name
PREDICTORS = (ENGINES, DEEPFACE, HSEMOTION)
# The columns of Table II: title, predictor and figure.
UTILITY = {
    "inner AUC": (ENGINES, "inner AUC"),
    "outer AUC": (ENGINES, "outer AUC"),
    "emotion AUC, DeepFace": (DEEPFACE, "emotion AUC"),
    "emotion AUC, HSEmotion": (HSEMOTION, "emotion AUC"),
    "VA MSE": (HSEMOTION, "VA MSE"),
    "ethnicity": (ENGINES, "ethnicity accuracy"),
    "gender": (ENGINES, "gender accuracy"),
    "ethnicity, DeepFace": (DEEPFACE, "ethnicity accuracy"),
    "gender, DeepFace": (DEEPFACE, "gender accuracy"),
}
# The columns of Table III: title, network and figure.
QUALITY = {
    "FID, clean-fid": (CleanFid.name, "value"),
    "FID, torch-fidelity": (TorchFidelity.name, "value"),
    "Visual DNA, data set": (VisualDna.name, "data set"),
    "Visual DNA, image": (VisualDna.name, "image"),
}
K_ANONYMITY = ("people", "different prompts", "unique (k = 1)", "k < 5", "median k")
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
Columns = Mapping[str, tuple[str, Callable[[Figures], str]]]  # the figure of each column, and how it is written


def render(figures: Figures) -> str:
    """The whole report."""
    parts = [["# Evaluation", *_overview(figures)]]
    tables: dict[str, Callable[[Figures], Iterator[str]]] = {
        "reid": reidentification_table,
        "utility": utility_table,
        "quality": quality_table,
        "attributes": k_anonymity_table,
    }
    parts += [list(table(figures)) for name, table in tables.items() if name in figures]
    parts += [["## Rules", "", RULES], list(_missing(figures)), list(_groups(figures))]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; vertical bars and line breaks in cells are replaced."""
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
    yield from lines(["method", "pairs", "missing", "reasons", "images without an original"], rows)
    labelled = ", ".join(figures["labelled"])
    read = "Everything else is compared with what was read from the originals."
    yield f"\nLabels were given for {labelled}. {read}" if labelled else f"\nNo labels were given. {read}"


def reidentification_table(figures: Figures) -> Iterator[str]:
    """Table I."""
    yield "## Re-identification (the paper's Table I)\n\nFigures are in percent; lower figures mean more anonymity.\n"
    chance = figures["reid"]["chance"].items()
    rows = [["", guess, "", "", *(_percent(own[name]) for name in REID)] for guess, own in chance]
    for encoder, own in figures["reid"].items():
        if encoder == "chance":
            continue
        if MISSING in own:
            rows.append([encoder, own[MISSING].removeprefix(f"{encoder}: "), *[""] * (2 + len(REID))])
            continue
        for method, row in own["methods"].items():
            for title, found in _shown(method, row):
                queries = str(found[REID[0]]["of"])
                faceless = str(row["no face"]) if title == method else ""
                rows.append([encoder, title, queries, faceless, *(_interval(found[name]) for name in REID)])
    yield from lines(["encoder", "method", "queries", "no face", *REID], rows)


def utility_table(figures: Figures) -> Iterator[str]:
    """Table II."""
    own = figures["utility"]
    yield (
        "## Utility (the paper's Table II)\n\nAUC and accuracy are in percent; higher figures mean more utility. VA "
        "MSE is an error; lower figures mean more utility.\n"
    )
    predictors = [predictor for predictor in PREDICTORS if MISSING not in own[predictor]]
    methods = dict.fromkeys(method for predictor in predictors for method in own[predictor])
    rows = []
    for method in methods or figures["methods"]:
        shown = {predictor: dict(_shown(method, own[predictor].get(method, {}))) for predictor in PREDICTORS}
        for title in sorted({method}.union(*shown.values())):
            row = [title]
            for predictor, figure in UTILITY.values():
                found = shown[predictor].get(title, {}).get(figure)
                row.append(MISSING if MISSING in own[predictor] else _score(found, as_number=figure == "VA MSE"))
            rows.append([*row, str(own[ENGINES].get(method, {}).get("no face", "")) if title == method else ""])
    yield from lines(["method", *UTILITY, "no face"], rows)
    if "inner" in own:
        yield f"\nInner face, {len(own['inner'])} attributes: {', '.join(own['inner'])}."
        yield f"\nOuter face, {len(own['outer'])} attributes: {', '.join(own['outer'])}."
        yield "\nThe brackets show the number of attributes or emotions that are scored, or the interval."


def quality_table(figures: Figures) -> Iterator[str]:
    """Table III."""
    own = figures["quality"]
    yield "## Quality (the paper's Table III)\n\nDistances to the originals; lower figures mean more similar images.\n"
    rows = []
    for method in figures["methods"]:
        row = [method]
        for network, figure in QUALITY.values():
            row.append(MISSING if MISSING in own[network] else f"{own[network][method]['all'][figure]:.2f}")
        rows.append(row)
    yield from lines(["method", *QUALITY], rows)


def k_anonymity_table(figures: Figures) -> Iterator[str]:
    """k-anonymity of the prompts."""
    own = figures["attributes"]
    yield "## Attribute k-anonymity\n"
    if MISSING in own:
        yield own[MISSING]
        return
    yield (
        "The prompt is the only information about a person that reaches the portrait. The table shows how many people "
        "of the originals share a prompt; k is the number of people with a person's prompt.\n"
    )
    rows = []
    for age, title in (("age", "age in years"), ("decade", "age rounded down to a decade")):
        rows.append([title, *_counts(own[age]["as it is"])])
        steps = own[age]["ignore"]
        for number in sorted({1, 2, 5, 10, 20, len(steps)}):
            ignored = "all attributes" if number == len(steps) else f"the best {number}"
            if number == 1:
                ignored = steps[0][0]
            rows.append([f"{title}, --ignore {ignored}", *_counts(steps[number - 1][1])])
    yield from lines(["", *K_ANONYMITY], rows)
    best = ", ".join(name for name, _ in own["age"]["ignore"][:10])
    yield f"\nThe ten attributes that are best to leave out, one after the other: {best}."
    yield f"\nNo face was found in {own['no face']} originals, which are not counted."


def _counts(count: Figures) -> list[str]:
    unique = f"{count['alone']} ({100 * count['alone'] / (count['people'] or 1):.0f} %)"
    return [str(count["people"]), str(count["prompts"]), unique, str(count["fewer_than_five"]), f"{count['median']:g}"]


def _missing(figures: Figures) -> Iterator[str]:
    messages = {
        own[MISSING]: None
        for table in ("reid", "utility", "quality")
        for own in figures.get(table, {}).values()
        if isinstance(own, dict) and MISSING in own
    }
    if messages:
        yield "## What is missing\n"
        yield from (f"- {message}" for message in messages)


def _groups(figures: Figures) -> Iterator[str]:
    """Every figure by group."""
    yield "## By group\n\nThe average can hide that a group is less protected than others.\n"
    for encoder, own in figures.get("reid", {}).items():
        if encoder != "chance" and MISSING not in own:
            yield from _by_group(figures, encoder, own["methods"], {name: (name, _interval) for name in REID})
    utility = figures.get("utility", {})
    for predictor in PREDICTORS:
        if predictor in utility and MISSING not in utility[predictor]:
            columns: Columns = {
                title: (figure, partial(_score, as_number=figure == "VA MSE"))
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
        rows = [[group, *_counts(count)] for group, count in figures["attributes"]["groups"].items()]
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


def _shown(method: str, row: Figures) -> list[tuple[str, Figures]]:
    """The rows of a method in the main tables, by title: all images and, if there are any, the held-out images."""
    found = [(method, row.get("all", {}))]
    if HELD_OUT in row.get("groups", {}):
        found.append((f"{method} ({HELD_OUT})", row["groups"][HELD_OUT]))
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(found: Figures) -> str:
    return f"{_percent(found['value'])} ({_percent(found['low'])}-{_percent(found['high'])})"


def _score(found: Figures | None, *, as_number: bool) -> str:
    """A share in percent, or a number, with its interval or with the number of attributes that it is the mean of."""
    if not found or not found["of"]:
        return ""
    if as_number:
        return f"{found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})"
    return _interval(found) if "low" in found else f"{_percent(found['value'])} ({found['of']})"
