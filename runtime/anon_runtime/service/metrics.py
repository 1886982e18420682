"""Figures of the service for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..types import Description, Retouched
from .orders import Result

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The figures of one service.

    Args:
        active: returns the number of requests that are worked on or wait.
    """

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, active: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "anon_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "anon_request_seconds", "Time of a request.", ["route"], buckets=SECONDS, registry=self._registry
        )
        self._stages = Counter("anon_stage_seconds", "Time by stage.", ["stage"], registry=self._registry)
        self._attempts = Counter("anon_attempts", "Portraits and faces that were painted.", registry=self._registry)
        Gauge("anon_active_requests", "Requests that are worked on or wait.", registry=self._registry).set_function(
            active
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def made(self, result: Result) -> None:
        """Count the work of a result."""
        product = result.product
        for stage, seconds in product.seconds.items():
            self._stages.labels(stage).inc(seconds)
        if not isinstance(product, Description):
            painted = product.people if isinstance(product, Retouched) else (product,)
            self._attempts.inc(sum(one.attempt + 1 for one in painted))

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class Counting:
    """A layer around an application that counts its answers.

    Args:
        app: the application.
        metrics: where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        start, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            if scope["type"] == "http":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.answered(route, status, time.perf_counter() - start)
