"""The options of the service: its limits, and who may use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ServiceOptions:
    """The limits of a service, and how requests are put together.

    Attributes:
        batch_size: the number of portraits that are painted together, at most. As in a folder run, a portrait does not
            depend on its batch, except for a last digit if this is 1.
        wait: how long a batch waits for more requests, in seconds.
        queue: the number of requests that arrive, wait or are worked on, at most; others are sent away.
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


@dataclass(frozen=True)
class Access:
    """Who may use a service.

    Attributes:
        token: which requests have to carry; None for no token. Without one, the service is called by the names of this
            machine only, so that a page of another site cannot reach it under a name of its own.
        origins: of pages of other sites that may use the service.
    """

    token: str | None = None
    origins: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The names that the service may be called by; None for any."""
        return LOOPBACK if self.token is None else None

    @classmethod
    def of(cls, host: str, token_file: Path | None, origins: Sequence[str]) -> Self:
        """Return the access to a service that listens at a host.

        Args:
            host: where it listens.
            token_file: a file with the token; None for no token.
            origins: see the class.

        Raises:
            UsageError: others could reach the service without a token, or the token is too short.
        """
        if token_file is None:
            if host not in LOOPBACK:
                why = "everybody who reaches this machine could use the service"
                raise UsageError(f"`host` {host}", why, "add `token_file`, or listen at 127.0.0.1")
            return cls(None, tuple(origins))
        token = token_file.read_text(encoding="utf-8").strip()
        if len(token) < SHORTEST_TOKEN:
            why = f"its token has fewer than {SHORTEST_TOKEN} characters"
            raise UsageError("`token_file`", why, "write a long random one into it")
        return cls(token, tuple(origins))
