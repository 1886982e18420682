"""The service on a private Ray cluster with two replicas."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
pytest.importorskip("ray.serve")

import httpx  # noqa: E402

from anon_runtime import Anonymizer, Request, Settings  # noqa: E402
from anon_runtime.folder.writer import encode  # noqa: E402


def test_replicas_give_the_same_portraits(demo_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from anon_runtime.serve import main; main()"]
    options = ["--engines", str(demo_bundle), "--port", str(port), "--threads", "1", "--batch-size", "2", "--ray"]
    process = subprocess.Popen([*program, *options], stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    anonymizer = Anonymizer.load(demo_bundle, Settings(steps=2), threads=1)
    pair = [Request("a man", "", seed) for seed in (1, 2)]
    expected = {one.seed: encode(one.image) for one in anonymizer.generate(pair)}
    try:
        end = time.monotonic() + 300
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        for seed in (1, 2, 1, 2, 1):
            form = {"prompt": (None, "a man"), "seed": (None, str(seed)), "steps": (None, "2")}
            answer = httpx.post(f"{url}/v1/portraits", files=form, timeout=60, trust_env=False)
            assert answer.status_code == 200, answer.text
            assert answer.content == expected[seed]
            assert answer.headers["Cache-Control"] == "no-store"
        refused = httpx.get(f"{url}/v1/info", headers={"Host": "evil.example"}, trust_env=False)
        assert refused.status_code == 421
        process.send_signal(signal.SIGTERM)
        _, words = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, words.decode()
