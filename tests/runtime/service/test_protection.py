"""What requests have to pass, over a socket."""

import logging
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from anon_runtime import Anonymizer
from anon_runtime.service import server
from anon_runtime.service.options import Access, ServiceOptions

from .conftest import Running, running

TOKEN = "a-token-of-many-letters"


@pytest.fixture(scope="module")
def closed(anonymizer: Anonymizer) -> Iterator[str]:
    """The address of a service that asks for a token."""
    options = ServiceOptions(max_bytes=1000, upload_seconds=2)
    with running(anonymizer, options, Access(TOKEN, ("https://good.example",))) as found:
        yield found.url


def get(url: str, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(url + path, headers=named, trust_env=False)


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"])
def test_a_wrong_token_is_refused(closed: str, given: str | None) -> None:
    answer = get(closed, "/v1/info", **({} if given is None else {"Authorization": given}))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert TOKEN not in answer.text


def test_the_token_is_enough_and_needed_for_everything_but_the_watch(closed: str) -> None:
    assert get(closed, "/v1/info", Authorization=f"Bearer {TOKEN}").status_code == 200
    assert get(closed, "/v1/info", Authorization=f"Bearer {TOKEN}", Host="any.example").status_code == 200
    assert get(closed, "/healthz").status_code == 200
    assert get(closed, "/readyz").status_code == 200
    assert get(closed, "/metrics").status_code == get(closed, "/openapi.json").status_code == 401


def test_another_name_of_this_machine_is_refused(serving: Running) -> None:
    """A page that makes its own name point here could read answers otherwise (DNS rebinding)."""
    assert get(serving.url, "/v1/info", Host="evil.example").status_code == 421
    for name in ("localhost", "127.0.0.1:1234", "[::1]:80"):
        assert get(serving.url, "/healthz", Host=name).status_code == 200


def test_pages_of_other_sites_are_refused(serving: Running, closed: str) -> None:
    own = serving.url
    assert get(own, "/v1/info", Origin=own).status_code == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = get(own, "/v1/info", Origin=origin)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_pages_of_an_origin_that_is_let_through_can_read_answers(closed: str) -> None:
    good = "https://good.example"
    answer = get(closed, "/v1/info", Origin=good, Authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == good
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = httpx.options(f"{closed}/v1/portraits", headers={"Origin": good} | asked, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == good
    evil = get(closed, "/v1/info", Origin="https://evil.example", Authorization=f"Bearer {TOKEN}")
    assert evil.status_code == 403
    assert "access-control-allow-origin" not in evil.headers


def test_every_answer_has_the_headers(serving: Running) -> None:
    for path in ("/healthz", "/v1/info", "/nothing"):
        headers = get(serving.url, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "server" not in headers


def test_a_large_body_is_cut(closed: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    files = {"photo": ("x.png", b"x" * 2000)}
    answer = httpx.post(f"{closed}/v1/portraits", files=files, headers=headers, trust_env=False)
    assert answer.status_code == 413

    def without_length() -> Iterator[bytes]:
        yield b"--x\r\nContent-Disposition: form-data; name=prompt\r\n\r\n"
        for _ in range(100):
            yield b"x" * 100

    headers["Content-Type"] = "multipart/form-data; boundary=x"
    answer = httpx.post(f"{closed}/v1/portraits", content=without_length(), headers=headers, trust_env=False)
    assert answer.status_code == 413


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_a_slow_body_is_cut(closed: str) -> None:
    with connect(closed) as connection:
        head = f"POST /v1/portraits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 500\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
        answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")


def test_slow_headers_are_cut(anonymizer: Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    with running(anonymizer, ServiceOptions()) as serving, connect(serving.url) as connection:
        start = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        assert connection.recv(100) == b""
        assert time.monotonic() - start >= 0.3
        with connect(serving.url) as other:  # a second request of one connection, as well
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(1000).startswith(b"HTTP/1.1 200")
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
            while data := other.recv(1000):
                assert b"HTTP/1.1" not in data


def test_an_internal_error_tells_nothing_about_a_photo(
    serving: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server would log a traceback with the text of the error."""

    def fail(_: object) -> None:
        raise ValueError("Eileen Collins")

    monkeypatch.setattr("anon_runtime.service.application._info", fail)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    with caplog.at_level("ERROR"), caplog.at_level("ERROR", logger="uvicorn.error"):
        answer, end = get(serving.url, "/v1/info"), time.monotonic() + 10
        while not caplog.text and time.monotonic() < end:  # it is logged after the answer
            time.sleep(0.01)
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "internal error (ValueError in test_protection.py" in caplog.text
    for text in (answer.text, caplog.text):
        assert "Eileen" not in text
        assert "Traceback" not in text
