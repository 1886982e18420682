"""A service that runs on a thread of the tests, and clients that call it over a socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi")

import httpx

from anon_runtime import Anonymizer
from anon_runtime.service.application import Service, create_application
from anon_runtime.service.options import Access, ServiceOptions
from anon_runtime.service.protection import protect
from anon_runtime.service.server import make_server


class Running:
    """A service that answers.

    Attributes:
        service: its state.
        url: where it listens.
        client: calls it.
    """

    def __init__(self, service: Service, url: str, client: httpx.Client) -> None:
        self.service, self.url, self.client = service, url, client

    def idle(self) -> bool:
        """Wait until nothing is worked on; return whether that took less than ten seconds."""
        end = time.monotonic() + 10
        while self.service.studio.active and time.monotonic() < end:
            time.sleep(0.01)
        return not self.service.studio.active


@contextmanager
def running(
    anonymizer: Anonymizer,
    options: ServiceOptions,
    access: Access = Access(),  # noqa: B008
) -> Iterator[Running]:
    """Run a service while the block lasts."""
    app = create_application(anonymizer, options)
    server = make_server(protect(app, options, access), "127.0.0.1", 0, "critical")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.01)
            yield Running(app.state.service, url, client)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serving(anonymizer: Anonymizer) -> Iterator[Running]:
    """A service with the demo; batches hold two portraits, as the demo's folder runs do."""
    with running(anonymizer, ServiceOptions(batch_size=2, max_bytes=8 * 2**20)) as found:
        yield found
