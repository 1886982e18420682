"""A service in a process of its own, for `benchmarks.serve`: its start, its end, and a client that asks it."""

import itertools
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tqdm import tqdm

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError
from anon_runtime.guard.options import Mode

COMMAND = "from anon_runtime.serve import main; main()"
HOST = "127.0.0.1"
DEADLINE = 3600  # seconds of a request; a large bundle on a slow processor needs minutes for a full queue
BOUNDARY = "0f4c1d0b6f0e4a7c9f0d2b1e8a5c7d93"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class ServiceError(AnonError):
    """The service or the load did not do what the benchmark needs."""


@dataclass(frozen=True)
class Service:
    """A service that runs in a process of its own.

    Attributes:
        pid: the number of the process.
        port: where it listens.
    """

    pid: int
    port: int

    def ask(self, form: bytes) -> bytes:
        """Send a form over a new connection, and return the portrait.

        Raises:
            ServiceError: there is no portrait.
        """
        connection = HTTPConnection(HOST, self.port, timeout=DEADLINE)
        try:
            connection.request("POST", "/v1/portraits", form, {"Content-Type": CONTENT_TYPE})
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise ServiceError("the service", f"it does not answer ({error})", "see what it says above") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ServiceError("the service", body.decode(errors="replace"), "repeat the request with curl")
        return body

    def memory(self) -> float:
        """Return the resident memory of the process, in KB."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            raise ServiceError("the service", "its process has ended", "see what it says above") from None
        return pages * resource.getpagesize() / 1e3


def write_form(fields: Mapping[str, object], photo: bytes | None = None) -> bytes:
    """Return the body of a request with some fields and a photo."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    if photo is not None:
        head = 'Content-Disposition: form-data; name="photo"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head.encode() + photo)
    return b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(anonymizer: Anonymizer, guard: Mode, *more: str) -> Iterator[Service]:
    """Run a service with the bundle and the number of threads of an anonymizer while the block lasts."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    engines = anonymizer.engines
    threads = () if engines.threads is None else ("--threads", str(engines.threads))
    options = ("--port", str(port), "--guard", guard, "--deadline", str(DEADLINE), "--quiet", *threads, *more)
    process = subprocess.Popen([sys.executable, "-c", COMMAND, "--engines", str(engines.bundle.path), *options])
    try:
        wait_until_ready(process, port)
        yield Service(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a service has loaded its engines.

    Raises:
        ServiceError: it has ended.
    """
    for _ in tqdm(itertools.count(), desc="service loads", bar_format="{desc}: {elapsed}", delay=2):
        if process.poll() is not None:
            raise ServiceError("the service", "it ended before it was ready", "see what it says above")
        connection = HTTPConnection(HOST, port, timeout=DEADLINE)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.05)
