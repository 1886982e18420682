"""The limit of requests that are in the service at a time, so that their photos fit into its memory."""

from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import CLOSE, problem_of
from .studio import Studio

WORK = ("/v1/portraits", "/v1/photos", "/v1/descriptions")


class Admission:
    """A layer around an application that sends requests away before it reads their bodies, if there are too many.

    Args:
        app: the application.
        studio: which works on the requests.
        most: the number of requests that may arrive, wait or be worked on.
    """

    def __init__(self, app: ASGIApp, studio: Studio, most: int) -> None:
        self._app, self._studio, self._most, self._inside = app, studio, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or send it away."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in WORK:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            await problem_of(self._studio.busy(), CLOSE)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
