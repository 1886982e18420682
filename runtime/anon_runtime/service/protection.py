"""What every request passes before the service looks at it: its origin, the token, and the limits of its body."""

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .options import Access, ServiceOptions
from .problems import CLOSE, problem, problem_of_status

log = logging.getLogger(__name__)
PAGE_PATHS = ("/", "/page.css", "/page.js", "/calls.js", "/portraits.js", "/review.js")
# Without a token: for those who watch over the process, and the page, which asks for the token.
OPEN_PATHS = ("/healthz", "/readyz", *PAGE_PATHS)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def protect(app: ASGIApp, options: ServiceOptions, access: Access) -> ASGIApp:
    """Return an application that answers only those who may use it, within the limits of bodies."""
    layer: ASGIApp = Protection(app, options, access)
    if not access.origins:
        return layer
    return CORSMiddleware(
        layer,
        allow_origins=access.origins,
        allow_methods=["DELETE", "GET", "POST"],
        allow_headers=["Authorization", "X-Request-Id"],
        expose_headers=["X-Seed"],
    )


class Protection:
    """A layer around an application that answers requests itself which must not reach the application.

    Args:
        app: the application.
        options: the limits of bodies.
        access: who may use the application.
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions, access: Access) -> None:
        self._app, self._options, self._access = app, options, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = self._refuse(scope["path"], headers)
        protected = _with_headers(send)
        if answer is not None:
            await answer(scope, receive, protected)
            return
        try:
            await self._app(scope, _Body(receive, self._options).receive, protected)
        except Exception as error:  # noqa: BLE001 - the server would log its text, which may tell about a photo
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            log.error("internal error (%s in %s); please report it", type(error).__name__, where)

    def _refuse(self, path: str, headers: Mapping[str, str]) -> Any:
        host, hosts, token = _host(headers.get("host", "")), self._access.hosts, self._access.token
        if hosts is not None and host not in hosts:
            detail = "the service is not called by this name; call it as one of: " + ", ".join(hosts)
            return problem(421, "host", "Another name", detail)
        origin = headers.get("origin")
        if origin is not None and origin not in self._access.origins and urlsplit(origin).netloc != headers.get("host"):
            return problem(403, "origin", "A page of another site", f"pages of {origin} may not use this service")
        if token is not None and path not in OPEN_PATHS:
            kind, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode(), token.encode())
            if kind.lower() != "bearer" or not same:
                detail = "send the header `Authorization: Bearer TOKEN`"
                return problem(
                    401, "token", "The token is missing or wrong", detail, headers={"WWW-Authenticate": "Bearer"}
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._options.max_bytes:
            return problem_of_status(413, _too_large(self._options), CLOSE)
        return None


class _Body:
    """The body of a request, which ends with an error at the limits."""

    def __init__(self, receive: Receive, options: ServiceOptions) -> None:
        self._receive, self._options, self._size, self._complete = receive, options, 0, False
        self._last = time.monotonic() + options.upload_seconds

    async def receive(self) -> Message:
        if self._complete:  # what comes next is the end of the connection
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._last - time.monotonic())
        except TimeoutError:
            detail = f"the body has to arrive within {self._options.upload_seconds:g} s"
            raise HTTPException(408, detail, CLOSE) from None
        self._size += len(message.get("body", b""))
        if self._size > self._options.max_bytes:
            raise HTTPException(413, _too_large(self._options), CLOSE)
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _too_large(options: ServiceOptions) -> str:
    return f"the body may have {options.max_bytes:,} bytes at most"


def _host(header: str) -> str:
    """The name in a header such as ``localhost:8000`` or ``[::1]:8000``."""
    return urlsplit(f"//{header}").hostname or ""


def _with_headers(send: Send) -> Callable[[MutableMapping[str, Any]], Any]:
    async def protected(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message["headers"]}
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in known)]
        await send(message)

    return protected
