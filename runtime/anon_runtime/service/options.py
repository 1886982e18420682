"""The options of the service."""

from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class ServiceOptions:
    """The limits of a service, and how requests are put together.

    Attributes:
        batch_size: the number of portraits that are painted together, at most. As in a folder run, a portrait does not
            depend on its batch, except for a last digit if this is 1.
        wait: how long a batch waits for more requests, in seconds.
        queue: the number of requests that are worked on or wait, at most; others are sent away.
        deadline: how long a request may take, in seconds.
        max_bytes: the largest body of a request, in bytes.
        upload_seconds: how long the body of a request may take to arrive.

    Raises:
        UsageError: a value is out of range.
    """

    batch_size: int = 1
    wait: float = 0.005
    queue: int = 64
    deadline: float = 600.0
    max_bytes: int = 32 * 2**20
    upload_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "queue", "max_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` {getattr(self, name)}", "it is too small", "use 1 or more")
        for name in ("deadline", "upload_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"`{name}` {getattr(self, name)}", "it is no time", "use more than 0 seconds")
