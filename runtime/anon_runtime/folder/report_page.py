"""The page of a report, for a data-protection officer: one file without a script, which can be printed on A4 paper."""

from .markup import Html, count, paragraph, warning
from .report_figures import section_attempts, section_groups, section_outcomes, section_settings, section_words
from .report_privacy import section_attacker, section_opinion, section_promise, section_seed, section_uncovered
from .report_similarity import section_alike, section_originals, section_worst
from .tally import Report

SECTIONS = (
    section_outcomes,
    section_promise,
    section_originals,
    section_alike,
    section_attempts,
    section_worst,
    section_words,
    section_groups,
    section_opinion,
    section_attacker,
    section_uncovered,
    section_seed,
    section_settings,
)
STYLE = """
body { font: 15px/1.45 "Liberation Sans", Arial, sans-serif; color: #1b1f24; background: #fff; max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; padding-top: .5rem; border-top: 1px solid #c8cdd4; }
p, ul { margin: .4rem 0; }
ul { padding-left: 1.2rem; }
.warning { border-left: 4px solid #b4420a; background: #fdf3ea; padding: .5rem .8rem; font-weight: bold; }
table { border-collapse: collapse; margin: .7rem 0; font-size: .9em; }
caption { text-align: left; font-weight: bold; padding-bottom: .2rem; }
th, td { text-align: left; vertical-align: top; padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid #e3e6ea; }
tbody th { font-weight: normal; }
tbody th, td { overflow-wrap: anywhere; }
thead th { border-bottom: 1px solid #777; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.facts { font-size: .8em; }
.columns { columns: 2; }
svg { display: block; width: 100%; height: auto; margin: .6rem 0; font-size: 12px; }
@page { size: A4; margin: 13mm 14mm; }
@media print {
  body { font-size: 8.6pt; line-height: 1.3; max-width: none; margin: 0; padding: 0; print-color-adjust: exact; }
  h1 { font-size: 15pt; }
  h2 { font-size: 11pt; margin: 2.2mm 0 1mm; padding-top: 1.2mm; break-after: avoid; }
  p, ul { margin: 1mm 0; }
  table { margin: 1.5mm 0; }
  th, td { padding-top: 0; padding-bottom: 0; }
  tr, svg, li, .warning { break-inside: avoid; }
  caption { break-after: avoid; }
  svg { width: 82%; margin: 1mm auto; }
}
"""
MODES = {
    "off": "No portrait was refused in the last run: the guard was off. Nobody measured whom the portraits resemble.",
    "report": "No portrait was refused in the last run: the guard only measured, and released all portraits.",
}


def render(report: Report) -> Html:
    """Return the page of a report.

    Args:
        report: the report.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        "<title>Report of an anonymization run</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        "<h1>Report of an anonymization run</h1>",
        *_top(report),
        *filter(None, (section(report) for section in SECTIONS)),
        "</main>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def _top(report: Report) -> list[Html]:
    summary = report.summary
    version = report.settings.get("anon-run", "unknown")
    source = "Every figure on this page comes from the journal of the output folder."
    if summary is None:
        return [
            paragraph(f"anon-run, version {version}.", source),
            warning(
                "The journal has no summary of the run: the run did not come to its end, or it was made by another",
                "version. The settings of the guard, the thresholds, the comparison of portraits with each other, the",
                "figures about words and the groups are therefore missing. Run the same command again to get them.",
            ),
        ]
    warnings = []
    if text := MODES.get(summary.guard.mode):
        warnings.append(warning(text))
    if summary.ending != "finished":
        why = "somebody stopped it" if summary.ending == "stopped" else "too many photos failed"
        warnings.append(warning(f"The last run ended before all photos were processed: {why}."))
    if report.later:
        photos = count(report.later, "photo was", "photos were")
        warnings.append(
            warning(
                f"After the last summary, {photos} processed by a run that did not come to its end. Counts, plots and",
                "worst cases on this page include them. All other figures do not.",
            )
        )
    started, ended = (time.replace("T", " ") for time in (summary.started, summary.ended))
    span = f"The last run started at {started} and ended at {ended}."
    return [paragraph(f"anon-run, version {version}.", span, source), *warnings]
