"""The sections of a report's page about the similarities of portraits."""

from ..guard.summary import Summary
from ..guard.thresholds import Threshold
from .markup import Html, count, paragraph, section, share, table
from .plots import Curve, Mark, plot_similarities
from .tally import Report


def section_originals(report: Report) -> Html:
    """Return the section about portraits and their originals."""
    summary = report.summary
    own, others = (summary.own, summary.others) if summary else (None, None)
    different = summary.different if summary else None
    background = (
        [Curve("pairs of different people, from the calibration", different.histogram, "area")] if different else []
    )
    curves = [
        *background,
        Curve("released portraits and their own originals", report.released_similarity, "line"),
        Curve("refused portraits and their own originals", report.refused_similarity, "dashes"),
    ]
    nearest = [
        *background,
        Curve("released portraits and the other person nearest to each", report.nearest_similarity, "line"),
    ]
    seen = "The shares of each histogram are drawn over similarities from -1 to 1."
    measured = sum(report.released_similarity)
    return section(
        "How similar portraits are to their originals",
        paragraph(
            "A face-recognition network compares two faces by their similarity, -1 to 1. Two photos of one person",
            "have a high one." if measured else "have a high one. No released portrait was measured.",
        ),
        *(paragraph(text) for text in (_limits(summary) if summary else [])),
        plot_similarities("own", "Similarity of portraits to their own originals", seen, curves, _marks(own))
        if measured or sum(report.refused_similarity)
        else "",
        plot_similarities("nearest", "Similarity of portraits to other people", seen, nearest, _marks(others), 170)
        if sum(report.nearest_similarity)
        else "",
        paragraph(_found(report, measured), _unmeasured(report)),
    )


def _marks(threshold: Threshold | None) -> list[Mark]:
    if threshold is None or not threshold.carried:
        return []
    return [Mark(f"threshold {threshold.value:.2f}", threshold.value, threshold.low, threshold.high)]


def _limits(summary: Summary) -> list[str]:
    """Return in words what the guard compared with what."""
    texts, guard = list[str](), summary.guard
    if (own := summary.own) is not None:
        texts.append(
            f"A portrait counts as similar to its own original from {own.value:.3f} on (95 % interval {own.low:.3f} to"
            f" {own.high:.3f}). This threshold belongs to a false match rate of {own.rate:g}: of all pairs of two"
            f" different people, about one in {round(1 / own.rate):,} is at least as similar. A portrait below it"
            " is less similar to its original than these strangers are to each other."
            + ("" if own.carried else " The calibration has too few pairs to carry this rate.")
        )
    if (different := summary.different) is not None:
        texts.append(
            f"The threshold was measured with {guard.network} on {different.data}:"
            f" {count(different.people, 'person', 'people')} and {count(different.pairs, 'pair', 'pairs')} of different"
            " people. The interval covers the choice of these people, and not that other people, cameras or generators"
            " may differ. If these faces are synthetic and come from one generator, they resemble each other more than"
            " people do. The threshold is then too high for photographs, and the guard refuses less than it should."
        )
    if (others := summary.others) is not None:
        texts.append(
            f"Each portrait was also compared with all other people of the run ({summary.originals:,} originals)"
            f"{' and of the gallery' if summary.gallery else ''}. So many comparisons give more matches by chance."
            f" The rate is therefore divided by the number of people, which gives a rate of {others.rate:.2g} and a"
            f" threshold of {others.value:.3f} (95 % interval {others.low:.3f} to {others.high:.3f})."
            + (
                ""
                if others.carried
                else " The calibration cannot carry so low a rate, so that nothing was refused by it."
            )
        )
    if (gallery := summary.gallery) is not None:
        texts.append(
            f"The gallery of people who must never appear has {count(gallery.photos, 'file', 'files')}:"
            f" {count(gallery.faces, 'face', 'faces')} were compared, in {gallery.without_face:,} no face was found,"
            f" and {gallery.unreadable:,} could not be read. Whoever was not compared is not protected."
        )
    if guard.mode != "off":
        texts.append(_rank(guard.min_rank, guard.effective_min_rank))
    return texts


def _rank(asked: int, applied: int) -> str:
    if applied:
        limit = "the person" if applied == 1 else f"one of the {applied} people"
        reduced = "" if applied == asked else f" (There are too few people for the {asked} that were asked for.)"
        return f"The own original must not be {limit} whom a portrait resembles most.{reduced}"
    why = "there are too few people for it" if asked else "it was turned off"
    return f"The place of the own original among all people was not limited: {why}."


def _found(report: Report, measured: int) -> str:
    if not measured:
        return ""
    first = f"Of the released portraits, {share(report.first, measured)} resemble nobody more than their own original."
    if report.beyond is None or report.summary is None or report.summary.guard.mode == "strict":
        return first
    return f"{first} {share(report.beyond, measured)} are past a limit; a strict guard would have refused them."


def _unmeasured(report: Report) -> str:
    if not report.unmeasured:
        return ""
    portraits = count(report.unmeasured, "released portrait", "released portraits")
    return f"{portraits} could not be measured, or the guard was off. Nothing is known about whom they resemble."


def section_alike(report: Report) -> Html:
    """Return the section about portraits among each other."""
    alike = report.summary.alike if report.summary else None
    if alike is None:
        return section("Portraits among each other", paragraph("Portraits were not compared with each other."))
    compared = f"{count(alike.portraits, 'released portrait was', 'released portraits were')} compared, each with each."
    if alike.threshold is None or alike.pairs is None:
        found = "No threshold is known from which on two portraits count as alike."
    else:
        pairs = count(alike.pairs, "pair is", "pairs are")
        found = f"{pairs} alike: their similarity is {alike.threshold:.3f} or more. No portrait was refused for it."
    rows = [(f"{pair.one} and {pair.other}", pair.similarity) for pair in alike.worst[:5]]
    table_of = table("The most similar pairs, by the pseudonyms of their photos", ["pair", "similarity"], rows)
    return section("Portraits among each other", paragraph(compared, found), table_of)


def section_worst(report: Report) -> Html:
    """Return the section about the released portraits that are most similar to their originals."""
    if not report.worst:
        return ""
    rows = [(case.id, case.similarity, case.rank, case.nearest, case.attempt + 1) for case in report.worst]
    return section(
        "Worst cases",
        paragraph(
            "These released portraits are most similar to their originals. Look at them, and remove them if you are in",
            "doubt. A place of 1 means that a portrait resembles nobody more than its original, and 2 that it",
            "resembles one other person more. Photos are named by pseudonyms, and no original is shown.",
        ),
        table(
            "Released portraits with the highest similarity",
            ["pseudonym", "to its original", "place", "to the nearest other", "attempt"],
            rows,
        ),
    )
