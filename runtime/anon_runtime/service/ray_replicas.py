"""The service on a Ray cluster, by Ray Serve: a replica for each GPU, or for each group of cores."""

import asyncio
from typing import Any

from starlette.types import ASGIApp

from ..errors import UsageError, first_line
from ..folder.ray_cluster import Cluster
from .application import create_application
from .options import Access, ServiceOptions
from .protection import protect
from .server import until_signal

NAME = "anon-engines"


def serve_on_ray(cluster: Cluster, options: ServiceOptions, access: Access, host: str, port: int) -> None:
    """Answer requests on all machines of a cluster until a signal; what is being painted then is finished.

    A request and its deletion may reach different replicas, so that only closing its connection is sure to cancel it.

    Args:
        cluster: the cluster, to which this process is connected.
        options: the limits of each replica.
        access: who may use the service.
        host, port: where the machines listen.

    Raises:
        UsageError: Ray Serve is not installed, or does not start.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise UsageError("`ray`", f"Ray Serve is not installed ({first_line(error)})", "install ray[serve]") from None
    replicas = serve.deployment(
        name="replica",
        num_replicas=cluster.actors,
        ray_actor_options=dict(cluster.resources),
        max_ongoing_requests=options.queue + 1,  # one more, which the replica sends away itself
        graceful_shutdown_timeout_s=options.deadline,
    )

    def make() -> ASGIApp:
        """Return the application of a replica, on its own machine."""
        return protect(create_application(cluster.load(), options), options, access)

    try:
        serve.start(http_options={"host": host, "port": port}, proxy_location="EveryNode")
        serve.run(replicas(serve.ingress(make)()).bind(), name=NAME, route_prefix="/", logging_config=_quiet(serve))
    except Exception as error:  # noqa: BLE001 - Ray's exceptions share no base class
        raise UsageError("`ray`", f"the service does not start ({first_line(error)})", "see Ray's own log") from None
    try:
        asyncio.run(until_signal())
    finally:
        serve.shutdown()


def _quiet(serve: Any) -> Any:
    """No line for each request, as a log on many machines would keep them for long."""
    return serve.schema.LoggingConfig(enable_access_log=False, log_level="WARNING")
