"""The command ``anon-serve``, in a process of its own."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from anon_runtime.serve import main  # noqa: E402


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    assert caught.value.code not in (0, None)
    return capsys.readouterr().err


def test_a_public_address_needs_a_token(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = failing(capsys, "--engines", demo_bundle, "--host", "0.0.0.0")
    assert "--token-file" in words
    (tmp_path / "token").write_text("short\n")
    words = failing(capsys, "--engines", demo_bundle, "--token-file", tmp_path / "token")
    assert "16 characters" in words
    assert "short" not in words.replace("shorter", "")


def test_a_port_that_is_taken_is_named(demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = failing(capsys, "--engines", demo_bundle, "--port", taken.getsockname()[1])
    assert "choose another --port" in words


def test_what_cannot_be_reviewed(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = failing(capsys, "--engines", demo_bundle, "--review", tmp_path)
    assert f"no review of {tmp_path}: it has no journal" in words
    words = failing(capsys, "--engines", demo_bundle, "--review", tmp_path, "--ray")
    assert "leave out --ray" in words
    failing(capsys, "--engines", demo_bundle, "--review", tmp_path / "missing")


def test_a_signal_lets_what_is_painted_end(demo_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from anon_runtime.serve import main; main()"]
    process = subprocess.Popen([*program, "--engines", demo_bundle, "--port", str(port)], stderr=subprocess.PIPE)
    url, answers = f"http://127.0.0.1:{port}", []

    def ask() -> None:
        files = {"prompt": (None, "a man"), "steps": (None, "20")}
        answers.append(httpx.post(f"{url}/v1/portraits", files=files, timeout=60, trust_env=False))

    try:
        while True:
            assert process.poll() is None
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while b"3.0" not in httpx.get(f"{url}/metrics", trust_env=False).content.splitlines()[-1]:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        _, words = process.communicate(timeout=60)
    finally:
        process.kill()
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    assert process.returncode == 0
    assert b"a man" not in words
    assert b"Traceback" not in words
