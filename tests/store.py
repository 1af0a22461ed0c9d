"""An HTTP server of files and folders that fails when told to."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Store(ThreadingHTTPServer):
    """Files by path, folders as pages of links, and how often a path still fails, with which status (0: hangs up)."""

    files: dict[str, bytes]
    failing: dict[str, tuple[int, int]]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        times, status = self.server.failing.get(self.path, (0, 0))
        if times and self.command == "GET":
            self.server.failing[self.path] = times - 1, status
            if status:
                self.answer(status, b"")
            self.close_connection = True
            return
        below = self.path.rstrip("/") + "/"
        inside = sorted(
            {name.removeprefix(below).partition("/") for name in self.server.files if name.startswith(below)}
        )
        if self.path in self.server.files:
            self.answer(200, self.server.files[self.path], ETag=f'"{hash(self.server.files[self.path])}"')
        elif inside:
            links = "".join(f'<a href="{first}{slash}">{first}</a>' for first, slash, _ in inside)
            page = f'<a href="?C=M;O=D">date</a><a href="../">up</a>{links}'
            self.answer(200, page.encode(), Content_Type="text/html")
        else:
            self.answer(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
