"""The report of an output folder, made from its journal alone, so that it can be made again at any time."""

import json
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .journal_file import NAME, damaged, unreadable
from .report_page import render
from .tally import Report, Tally
from .writer import write_file

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def read_report(out: Path) -> Report:
    """Return the report of all runs into a folder since its journal was started anew.

    Args:
        out: the output folder.

    Raises:
        UsageError: there is no journal, it cannot be read, or a line of it is damaged.
    """
    path, tally = out / NAME, Tally()
    damage: UsageError | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # the run was killed while it was writing this line
                try:
                    value = json.loads(line, parse_constant=_refuse)
                    if "run" in value:
                        damage = None
                    tally.add(value)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    damage = damage or damaged(path, number)
    except OSError as error:
        raise unreadable(f"no report of {out}", error) from None
    if damage is not None:
        raise damage
    if (report := tally.report()) is None:
        raise UsageError(f"no report of {out}", "its journal is empty", "run the same command again")
    return report


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def write_report(out: Path) -> Report:
    """Write ``report.json`` and ``report.html`` into an output folder, and return the report.

    The same journal gives the same files.

    Args:
        out: the output folder.

    Raises:
        UsageError: see `read_report`.
        PhotoError: a folder has the name of a file of the report.
        OutputError: the folder cannot be written.
    """
    report = read_report(out)
    write_file(out / REPORT_JSON, json.dumps(report.to_dict(), indent=2, allow_nan=False).encode() + b"\n")
    # A name of an engine may hold half of a surrogate pair, which no encoding has.
    write_file(out / REPORT_HTML, render(report).encode("utf-8", "backslashreplace"))
    return report
