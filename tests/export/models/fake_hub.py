"""A hub on this machine, as far as huggingface_hub asks it: one repository with one commit."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves a folder as ``owner/model``.

    Attributes:
        address: for ``HF_ENDPOINT``.
        requests: paths that were asked for, in order.
        damaged: names of files whose content arrives altered.
        token: what clients have to send, if any.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.damaged = folder, set[str]()
        self.requests: list[str] = []
        self.token: str | None = None
        self.address = ""

    @contextmanager
    def serve(self) -> Iterator["FakeHub"]:
        """Answer while the block lasts."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        """The model's description, or one of its files."""
        path = handler.path.split("?")[0]
        self.requests.append(path)
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return _error(handler, 401, "RepoNotFound")
        if path.startswith("/api/models/owner/model"):
            revision = path.removeprefix("/api/models/owner/model").removeprefix("/revision/")
            if revision not in ("", "main", COMMIT):
                return _error(handler, 404, "RevisionNotFound")
            files = [self._describe(p) for p in sorted(self.folder.rglob("*")) if p.is_file()]
            return _send(handler, json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": files}).encode(), {})
        prefix = f"/owner/model/resolve/{COMMIT}/"
        file = self.folder / path.removeprefix(prefix)
        if not path.startswith(prefix) or not file.is_file():
            return _error(handler, 404, "RepoNotFound" if not path.startswith("/owner/model") else "EntryNotFound")
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if path.removeprefix(prefix) in self.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"'}
        return _send(handler, content, headers, body=body)

    def _describe(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        return {"rfilename": path.relative_to(self.folder).as_posix(), "size": len(content)}


def _send(
    handler: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str], *, body: bool = True, code: int = 200
) -> None:
    handler.send_response(code)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if body:
        handler.wfile.write(content)


def _error(handler: BaseHTTPRequestHandler, code: int, kind: str) -> None:
    _send(handler, b"{}", {"X-Error-Code": kind}, body=handler.command != "HEAD", code=code)
