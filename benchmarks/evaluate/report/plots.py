"""Plots of the evaluation: CMC curves, similarities of the same and of different people, attributes, k-anonymity."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from ...plots import LINE, OURS_COLOUR, THEIR_COLOUR, save
from ..labels import HELD_OUT
from ..reidentification import BINS, DEPTH
from ..types import Figures


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw the plots of the tables in ``figures`` as PNG files.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [_attackers(figures, folder / "attackers.png")] if "attackers" in figures else []
    for encoder, own in figures.get("reid", {}).items():
        if "methods" in own:
            name = encoder.lower().replace(" ", "-").replace(",", "").replace("/", "")
            made.append(_cmc(encoder, own, figures["originals"], folder / f"cmc-{name}.png"))
            made.append(_similarities(encoder, own, folder / f"similarities-{name}.png"))
    read = figures.get("utility", {}).get("face engines", {})
    if read and "missing" not in read:
        made.append(_attributes(read, folder / "attributes.png"))
    if "age" in figures.get("attributes", {}):
        made.append(_k_anonymity(figures["attributes"], folder / "k-anonymity.png"))
    return made


def _attackers(figures: Figures, path: Path) -> Path:
    """One group of bars for each attacker, with one bar and its interval for each method."""
    attackers, methods = figures["attackers"], list(figures["methods"])
    names = [name for name, row in attackers.items() if any("all" in own for own in row["methods"].values())]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.16 * len(names) * (1 + len(methods))))
    thick = 0.8 / len(methods)
    for place, method in enumerate(methods):
        found = [(i, attackers[name]["methods"].get(method, {})) for i, name in enumerate(names)]
        rates = [(i, row["all"]["Re-ID@1"]) for i, row in found if "all" in row]
        rows, values = [i + place * thick for i, _ in rates], np.array([rate["value"] for _, rate in rates])
        ends = np.array([[rate["value"] - rate["low"], rate["high"] - rate["value"]] for _, rate in rates]).T
        axes.barh(rows, 100 * values, thick, xerr=100 * ends.clip(0), label=method, error_kw={"elinewidth": 0.8})
    axes.set_yticks(np.arange(len(names)) + 0.4 - thick / 2, names, fontsize=8)
    axes.set(xlabel="people who are found again at once (Re-ID@1), %, with 95 % intervals", xlim=(0, 100))
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    save(figure, path)
    return path


def _cmc(encoder: str, own: Figures, gallery: int, path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(9, 4.5))
    ranks = np.arange(1, DEPTH + 1)
    for method, row in own["methods"].items():
        (line,) = axes.plot(ranks, 100 * np.array(row["cmc"]["all"]), label=method)
        if HELD_OUT in row["cmc"]:
            held_out = 100 * np.array(row["cmc"][HELD_OUT])
            axes.plot(ranks, held_out, ":", color=line.get_color(), label=f"{method} ({HELD_OUT})")
    axes.plot(ranks, 100 * np.minimum(ranks / gallery, 1), "--", color=LINE, label="guessing")
    axes.set(xlabel=f"rank K of {gallery} originals", ylabel="original is among the first K, %", title=encoder)
    axes.set(ylim=(-2, 102), xlim=(1, DEPTH))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8)
    save(figure, path)
    return path


def _similarities(encoder: str, own: Figures, path: Path) -> Path:
    rows = own["methods"]
    figure, grid = plt.subplots(len(rows), figsize=(7, 1 + 1.3 * len(rows)), sharex=True, squeeze=False)
    middles = (BINS[1:] + BINS[:-1]) / 2
    shown = np.flatnonzero(sum(np.array(row["same"]) + row["different"] for row in rows.values()))
    for axes, (method, row) in zip(grid[:, 0], rows.items(), strict=True):
        for kind, title, colour in (
            ("different", "different people", THEIR_COLOUR),
            ("same", "same person", OURS_COLOUR),
        ):
            counts = np.array(row[kind], float)
            axes.bar(middles, counts / max(counts.sum(), 1), BINS[1] - BINS[0], color=colour, alpha=0.7, label=title)
        axes.set(ylabel="share", yticks=[])
        axes.set_title(method, loc="left", fontsize=9)
    grid[0, 0].legend(fontsize=8)
    measure = "1 - distance" if own["metric"] == "euclidean" else "cosine similarity"
    grid[-1, 0].set(xlabel=f"{encoder}: {measure} of an anonymized image to originals")
    grid[-1, 0].set_xlim(middles[shown[0]] - 0.05, middles[shown[-1]] + 0.05)
    save(figure, path)
    return path


def _attributes(read: Figures, path: Path) -> Path:
    """One group of bars for each attribute, with one bar for each method and a line for the originals."""
    methods = {method: row["all"]["attributes"] for method, row in read.items() if method != "originals"}
    names = sorted({name for aucs in methods.values() for name in aucs})
    figure, axes = plt.subplots(figsize=(8, 2 + 0.05 * len(names) * max(len(methods), 4)))
    thick, rows = 0.8 / max(len(methods), 1), np.arange(len(names))
    for place, (method, aucs) in enumerate(methods.items()):
        axes.barh(rows + place * thick, [aucs.get(name, np.nan) for name in names], thick, label=method)
    if "originals" in read:
        known = read["originals"]["all"]["attributes"]
        for row, name in enumerate(names):
            at = known.get(name, np.nan)
            axes.plot([at, at], [row - thick / 2, row + 0.8 - thick / 2], "k", label="originals" if row == 0 else None)
    axes.axvline(0.5, color=LINE, label="guessing")
    axes.set_yticks(rows + 0.4 - thick / 2, names, fontsize=8)
    axes.set(
        xlabel="AUC of the attribute that is read from the anonymized image", xlim=(0.3, 1), ylim=(-0.5, len(names))
    )
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4, fontsize=8)
    save(figure, path)
    return path


def _k_anonymity(own: Figures, path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for age, title, colour in (("age", "age in years", THEIR_COLOUR), ("decade", "age in decades", OURS_COLOUR)):
        counts = [own[age]["as it is"], *(left for _, left in own[age]["ignore"])]
        axes.plot([100 * c["alone"] / max(c["people"], 1) for c in counts], color=colour, label=title)
    axes.set(
        xlabel="number of attributes that --ignore leaves out, the best ones first",
        ylabel="people with a unique prompt, %",
    )
    axes.set(ylim=(-2, 102), xlim=(0, None))
    axes.legend()
    save(figure, path)
    return path
