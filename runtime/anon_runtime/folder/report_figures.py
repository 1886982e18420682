"""The sections of a report's page that hold the figures of the run."""

import json

from ..guard.anonymity import KAnonymity
from ..guard.groups import MINIMUM, Group
from ..guard.words import DECADE, HALF_DECADE
from .markup import Html, columns, count, paragraph, section, share, table
from .plots import plot_bars
from .tally import STATUSES, Report

MEANINGS = {
    "ok": "A portrait was made and released.",
    "done": "An earlier run had made the portrait already.",
    "refused": "The guard or a person refused the portraits, so that there is no file.",
    "skipped": "No face was found, and the settings say to skip such photos.",
    "error": "The photo could not be processed, so that there is no file.",
}
CAUSES = {
    "own original": "The last portrait resembles its own original.",
    "nearest": "The own original is among the people whom the last portrait resembles most.",
    "another person": "The last portrait resembles another person of the run or of the gallery.",
    "face left": "A face of the photo, which was found only in the finished picture, would have stayed in it.",
    "no face": "No face is found in the last portrait, so that it cannot be checked.",
    "several faces": "The last portrait shows several faces, so that it cannot be checked.",
    "a person": "A person has looked at the portrait and refused it.",
    "another portrait": "A person wants another portrait. The same command paints it.",
}
SHOWN = 8  # reasons; the rest is summed up


def section_outcomes(report: Report) -> Html:
    """Return the section about what was done."""
    last = report.summary.counts if report.summary else {}
    statuses = [status for status in MEANINGS if report.counts.get(status) or last.get(status) or status in STATUSES]
    rows = [(MEANINGS[one], last.get(one, 0) if report.summary else None, report.counts.get(one)) for one in statuses]
    found = report.summary and f"The last run was given {count(report.summary.found, 'photo', 'photos')}."
    refused = count(report.withdrawn, "refused photo", "refused photos")
    withdrawn = report.withdrawn and f"{refused} had a portrait of an earlier run, which was removed."
    return section(
        "What was done",
        paragraph(found or "", withdrawn or "", _looked_at(report)),
        table("Photos by outcome", ["outcome", "in the last run", "in all runs"], rows),
        table("Why photos were refused", ["cause", "photos"], _reasons(_causes(report.refusals))),
        table("Why photos were skipped", ["reason", "photos"], _reasons(report.skipped)),
        table("Why photos failed", ["reason", "photos"], _reasons(report.errors)),
    )


def _looked_at(report: Report) -> str:
    if not any(report.decisions.values()):
        return ""
    accepted, released = report.decisions["accept"], report.counts["ok"]
    return f"People have looked at portraits, and have accepted {share(accepted, released)} released ones."


def _causes(refusals: dict[str, int]) -> dict[str, int]:
    return {CAUSES.get(cause, cause): number for cause, number in refusals.items()}


def _reasons(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the most frequent reasons, and the sum of all others."""
    reasons = list(counts.items())
    rest = sum(number for _, number in reasons[SHOWN:])
    return reasons[:SHOWN] + ([("other reasons", rest)] if rest else [])


def section_attempts(report: Report) -> Html:
    """Return the section about the attempts and the words that were left out."""
    if not report.attempts:
        return section(
            "Attempts, and words that were left out", paragraph("No attempt of a released portrait is known.")
        )
    bars = [(f"attempt {i + 1}", number) for i, number in enumerate(report.attempts)]
    bars.append(("refused", report.counts["refused"]))
    allowed = report.summary and f"At most {count(report.summary.guard.attempts, 'attempt', 'attempts')} were allowed."
    levels = [(_level(i), number) for i, number in enumerate(report.coarsening)]
    return section(
        "Attempts, and words that were left out",
        paragraph(
            "A portrait that the guard refuses is painted again with another seed and with words that say less.",
            allowed or "",
        ),
        plot_bars("attempts", "Attempts", "The number of released portraits by attempt, and of refused photos.", bars),
        table("Released portraits by their words", ["words", "portraits"], levels),
    )


def _level(level: int) -> str:
    if level == 0:
        return "all words"
    if level <= DECADE:
        return "age as a half decade" if level == HALF_DECADE else "age as a decade"
    return f"age as a decade, and attributes left out in {count(level - DECADE, 'step', 'steps')}"


def section_words(report: Report) -> Html:
    """Return the section about k-anonymity."""
    rows = []
    if report.summary and report.summary.uncoarsened:
        rows.append(_people("first attempt", report.summary.uncoarsened))
    if report.summary and report.summary.words:
        rows.append(_people("released portraits", report.summary.words))
    if not rows:
        return section("How many people the words fit", paragraph("The words of the run were not counted."))
    return section(
        "How many people the words fit",
        paragraph(
            "Only words and a seed reach a portrait. If its words fit one person only, this person can be singled out",
            "by somebody who knows the words and the attributes of everybody. The number of people of the run whom",
            "the words fit is called k (k-anonymity). Coarser words in later attempts raise it.",
        ),
        table(
            "Portraits by their words",
            ["words", "portraits", "different words", "k = 1", "k below 5", "median of k"],
            rows,
        ),
    )


def _people(name: str, words: KAnonymity) -> tuple[object, ...]:
    alone, few = (share(number, words.people) for number in (words.alone, words.fewer_than_five))
    return name, words.people, words.prompts, alone, few, words.median


def section_groups(report: Report) -> Html:
    """Return the section about the groups."""
    title = "Groups of people"
    groupings = report.summary.groups if report.summary else ()
    rows = [_group(grouping.by, row) for grouping in groupings for row in grouping.rows]
    if not rows:
        why = f"Groups are shown from {MINIMUM} people on. No group has as many, or groups were not counted."
        return section(title, paragraph(why))
    return section(
        title,
        paragraph(
            f"The attributes were read from the photos by a network, which errs. Groups of fewer than {MINIMUM} people",
            "are merged with others. Counts from which small ones follow are hidden.",
        ),
        table("Decisions by group", ["group", "people", "released", "refused", "retried", "median similarity"], rows),
    )


def _group(by: str, row: Group) -> tuple[object, ...]:
    counts = ["hidden" if number is None else number for number in (row.released, row.refused, row.retried)]
    return f"{by}: {row.name}", row.people, *counts, row.similarity


def section_settings(report: Report) -> Html:
    """Return the section about the settings, the versions and the engines."""
    rows = [(name, _plain(value)) for name, value in sorted(report.settings.items())]
    settings = table("Settings of the portraits", ["setting", "value"], rows, kind="facts")
    title = "Settings, versions and engines"
    if report.summary is None:
        return section(title, settings)
    guard, engines = report.summary.guard, report.summary.engines
    asked = [
        ("mode", guard.mode),
        ("network", guard.network or "none"),
        ("false match rate", f"{guard.fmr:g}"),
        ("attempts", f"{guard.attempts}"),
        ("people nearer than the original", f"{guard.min_rank} (applied: {guard.effective_min_rank})"),
        ("portraits, of which the best is kept", f"{guard.best_of}"),
    ]
    versions = sorted(report.summary.versions.items())
    files = sorted(engines.files.items())
    return section(
        title,
        columns(
            settings,
            table("Settings of the guard", ["setting", "value"], asked, kind="facts"),
            table("Versions", ["package", "version"], versions, kind="facts"),
        ),
        table(f"Engines of {engines.bundle}, run by {engines.target}", ["engine", "sha256"], files, kind="facts"),
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
