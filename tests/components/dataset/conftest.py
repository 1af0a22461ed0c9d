"""A real HTTP server that misbehaves when told to."""

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest


class Server(ThreadingHTTPServer):
    """Serves `files` by their path, and remembers who asked for what."""

    files: dict[str, bytes]
    requests: list[tuple[str, str | None]]
    """Path and Range header."""
    next: list[Callable[["Handler"], None]]
    """What to do with the coming requests, one by one; those after them are served well."""
    released: threading.Event
    """Set at the end of a test: what answers that hang may wait for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((unquote(self.path), self.headers["Range"]))
        answer = self.server.next.pop(0) if self.server.next else Handler.serve
        answer(self)

    def answer(self, status: int, body: bytes = b"", **headers: str | int) -> None:
        """Exactly these headers (with - for _) and bytes, then the end of the connection."""
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def serve(self, cut: int | None = None, ranges: bool = True, **headers: str | int) -> None:
        """The file, or what of it is asked for; only its first `cut` bytes if given; with more `headers`."""
        content = self.server.files.get(unquote(self.path))
        if content is None:
            return self.answer(404, Content_Length=0)
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start, status = 0, 200
        if asked and ranges and self.headers["If-Range"] == tag:
            start, status = int(asked[1]), 206
            headers = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} | headers
        headers = {"ETag": tag, "Content_Length": len(content) - start} | headers
        return self.answer(status, content[start:][:cut], **headers)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.next, server.released = {}, [], [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()
