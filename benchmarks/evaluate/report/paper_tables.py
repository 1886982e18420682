"""The paper's three tables, with the paper's own figures below those of this evaluation."""

from collections.abc import Iterator, Mapping

from .. import paper
from ..predictors import DeepFaceDemography, Fer, HSEmotion
from ..quality import CleanFid, TorchFidelity, VisualDna
from ..reidentification import DEPTH, KS
from ..types import Figures
from .markdown import MISSING, interval, lines, percent, score, shown

REID = (*(f"Re-ID@{k}" for k in KS), f"mAP@{DEPTH}")
ENGINES, DEEPFACE, HSEMOTION, FER = "face engines", DeepFaceDemography.name, HSEmotion.name, Fer.name
PREDICTORS = (ENGINES, DEEPFACE, HSEMOTION, FER)
# The columns of Table II: title, predictor and figure.
UTILITY = {
    "inner AUC": (ENGINES, "inner AUC"),
    "outer AUC": (ENGINES, "outer AUC"),
    "emotion AUC, DeepFace": (DEEPFACE, "emotion AUC"),
    "emotion AUC, HSEmotion": (HSEMOTION, "emotion AUC"),
    "emotion AUC, fer": (FER, "emotion AUC"),
    "happy against Smiling, fer": (FER, "smile AUC"),
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

PAPER = f"\nRows in italics are the paper's own figures, of {paper.DATA} ({paper.SOURCE})."


def reidentification_table(figures: Figures) -> Iterator[str]:
    """Table I."""
    yield "## Re-identification (the paper's Table I)\n\nFigures are in percent; lower figures mean more anonymity.\n"
    chance = figures["reid"]["chance"].items()
    rows = [["", guess, "", "", *(percent(own[name]) for name in REID)] for guess, own in chance]
    for encoder, own in figures["reid"].items():
        if encoder == "chance":
            continue
        if MISSING in own:
            rows.append([encoder, own[MISSING].removeprefix(f"{encoder}: "), *[""] * (2 + len(REID))])
        for method, row in own.get("methods", {}).items():
            for title, found in shown(method, row):
                queries = str(found[REID[0]]["of"])
                faceless = str(row["no face"]) if title == method else ""
                rows.append([encoder, title, queries, faceless, *(interval(found[name]) for name in REID)])
        for method, of_paper in paper.REIDENTIFICATION.get(encoder, {}).items():
            rows.append([encoder, paper.title(method), "", "", *(percent(of_paper[name]) for name in REID)])
    yield from lines(["encoder", "method", "queries", "no face", *REID], rows)
    yield PAPER


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
        parts = {predictor: dict(shown(method, own[predictor].get(method, {}))) for predictor in PREDICTORS}
        for title in sorted({method}.union(*parts.values())):
            row = [title]
            for predictor, figure in UTILITY.values():
                found = parts[predictor].get(title, {}).get(figure)
                row.append(MISSING if MISSING in own[predictor] else score(found, as_number=figure == "VA MSE"))
            rows.append([*row, str(own[ENGINES].get(method, {}).get("no face", "")) if title == method else ""])
    for method, of_paper in paper.UTILITY.items():
        rows.append([paper.title(method), *(_papers(of_paper, figure) for _, figure in UTILITY.values()), ""])
    yield from lines(["method", *UTILITY, "no face"], rows)
    yield f"{PAPER} It has one column where several networks fill several here."
    if "inner" in own:
        yield f"\nInner face, {len(own['inner'])} attributes: {', '.join(own['inner'])}."
        yield f"\nOuter face, {len(own['outer'])} attributes: {', '.join(own['outer'])}."
        yield "\nThe brackets show the number of attributes or emotions that are scored, or the interval."


def _papers(of_paper: Mapping[str, float], figure: str) -> str:
    if figure not in of_paper:
        return ""
    return f"{of_paper[figure]:.3f}" if figure == "VA MSE" else percent(of_paper[figure])


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
    for method, of_paper in paper.QUALITY.items():
        dna = [f"{of_paper[name]:.1f}" for name in ("Visual DNA, data set", "Visual DNA, image")]
        rows.append([paper.title(method), f"{of_paper['FID']:.1f}", "", *dna])
    yield from lines(["method", *QUALITY], rows)
    yield PAPER
