"""The server: uvicorn, with connections that are closed if their first line or headers do not arrive in time."""

import asyncio
import signal
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import OutputError

HEADER_SECONDS = 10.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 by h11, whose headers have to arrive within some seconds; uvicorn itself would wait for ever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the headers of the first request."""
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def handle_events(self) -> None:
        """Look for a request in what has arrived."""
        super().handle_events()
        if self._waiting is not None and self._busy:
            self._waiting.cancel()

    def on_response_complete(self) -> None:
        """Begin to wait for the headers of the next request; uvicorn waits itself until its first byte."""
        super().on_response_complete()
        if self._waiting is not None:
            self._waiting.cancel()
        if not self.transport.is_closing():
            self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self) -> None:
        if not self._busy and not self.transport.is_closing():
            self.transport.close()


def make_server(app: ASGIApp, host: str, port: int, log_level: str = "info") -> uvicorn.Server:
    """Return a server.

    Args:
        app: the application.
        host, port: where to listen; port 0 is any free one.
        log_level: of uvicorn; with ``info``, it logs every request's line, which says nothing about a photo.
    """
    config = uvicorn.Config(
        app,
        host,
        port,
        loop="asyncio",  # the same one whatever else is installed
        http=PatientProtocol,
        ws="none",
        log_level=log_level,
        server_header=False,
        h11_max_incomplete_event_size=16384,
    )
    return uvicorn.Server(config)


def serve(app: ASGIApp, host: str, port: int, *, quiet: bool = False) -> None:
    """Answer requests until Ctrl-C or a termination signal; what is being painted then is finished.

    Args:
        app: the application.
        host, port: where to listen; port 0 is any free one.
        quiet: whether to say only what goes wrong.

    Raises:
        OutputError: nobody can listen there.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn repeats a signal for the old handler when it is done
        signal.signal(number, lambda *_: None)
    try:
        make_server(app, host, port, "warning" if quiet else "info").run()
    except SystemExit:
        why, fix = "nobody can listen there", "choose another `port` or `host`"
        raise OutputError(f"{host}:{port}", why, fix) from None


async def until_signal() -> None:
    """Wait for Ctrl-C or a termination signal."""
    received, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received.set)
    await received.wait()
