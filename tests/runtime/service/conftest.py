"""A service that runs on a thread of the tests, and clients that call it over a socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import httpx
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.folder.review import Review
from anon_runtime.service.application import Service, create_application
from anon_runtime.service.options import Access, ServiceOptions
from anon_runtime.service.protection import protect
from anon_runtime.service.server import make_server
from tests.runtime.folder.journals import HEADER, SUMMARY, painted, write_journal


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
    review: Review | None = None,
) -> Iterator[Running]:
    """Run a service while the block lasts."""
    app = create_application(anonymizer, options, review)
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


@pytest.fixture
def reviewed(people: Path, tmp_path: Path) -> Path:
    """The output folder of a run with three portraits; the words of the first one are in the journal."""
    out = tmp_path / "reviewed"
    contents = [(people / f"0{number}.png").read_bytes() for number in range(3)]
    lines = [
        painted(out, number, content=content, similarity=0.3 - number / 10) for number, content in enumerate(contents)
    ]
    lines[0]["prompt"] = "closeup portrait photo of a woman"
    return write_journal(out, [HEADER, *lines], SUMMARY)


@pytest.fixture
def reviewing(anonymizer: Anonymizer, reviewed: Path) -> Iterator[Running]:
    """A service with a review."""
    with running(anonymizer, ServiceOptions(), review=Review(reviewed)) as found:
        yield found


@pytest.fixture(scope="session")
def serving(anonymizer: Anonymizer) -> Iterator[Running]:
    """A service with the demo; batches hold two portraits, as the demo's folder runs do."""
    with running(anonymizer, ServiceOptions(batch_size=2, max_bytes=8 * 2**20)) as found:
        yield found


@pytest.fixture(scope="session")
def couple(astronaut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with two faces, of which the left one is larger; no test may change it."""
    scene, path = Image.new("RGB", (360, 240), "slategray"), tmp_path_factory.mktemp("couple") / "Eileen.png"
    with Image.open(astronaut) as photo:  # a narrow photo takes the detector less time
        face = photo.convert("RGB").crop((150, 10, 300, 230))
    scene.paste(face, (5, 5))
    scene.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((110, 161)), (190, 60))
    scene.save(path)
    return path
