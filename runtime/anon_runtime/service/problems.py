"""Errors as problem details for HTTP (RFC 9457), with the same words as those of the command line."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from ..errors import AnonError, PhotoError, RefusedError, UsageError
from ..folder.journal_file import InUseError
from ..folder.review import StaleError
from .studio import BusyError, ClosingError

MEDIA_TYPE = "application/problem+json"
CLOSE = {"Connection": "close"}  # the header of answers that come before the whole body has
# Statuses and the ends of types, by the class of the error; the first one that fits.
KINDS: Mapping[type[AnonError], tuple[int, str]] = {
    RefusedError: (422, "refused"),
    PhotoError: (422, "photo"),
    StaleError: (409, "stale"),
    InUseError: (409, "in-use"),
    UsageError: (400, "usage"),
    BusyError: (503, "busy"),
    ClosingError: (503, "ending"),
    AnonError: (500, "engine"),
}
TITLES = {
    "refused": "No portrait passed the guard",
    "photo": "The photo cannot be anonymized",
    "stale": "The portrait is not there any more",
    "in-use": "Another process works on the folder",
    "usage": "A value is not valid",
    "busy": "The service has too many requests",
    "ending": "The service is ending",
    "engine": "The service cannot do this",
}


def problem(
    status: int, kind: str, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return a problem.

    Args:
        status: of HTTP.
        kind: the end of its type.
        title: the same words for all problems of a type.
        detail: about this one.
        headers: of the response.
        **more: members that the type has besides those of every problem.
    """
    content = {"type": f"urn:anon-engines:{kind}", "title": title, "status": status, "detail": detail} | more
    return JSONResponse(content, status, dict(headers or {}), MEDIA_TYPE)


def problem_of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a problem that HTTP has a status for and that needs no more words; see `problem`."""
    return problem(status, f"http-{status}", "The request failed", detail, headers=headers)


def problem_of(error: AnonError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error of this project as a problem with the members ``what``, ``why`` and ``fix``; see `problem`."""
    status, kind = next(found for known, found in KINDS.items() if isinstance(error, known))
    parts = {name: re.sub(r"`(\w+)`", r"\1", getattr(error, name)) for name in ("what", "why", "fix")}
    more = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else {}
    detail = "{what}: {why}; {fix}".format(**parts)
    return problem(status, kind, TITLES[kind], detail, headers={**(headers or {}), **more}, **parts)
