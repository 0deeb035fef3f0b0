"""A cloud's metadata server on loopback: it wants tokens, as AWS's version 2 does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from meridian.cli.ending import STATE


class Cloud(ThreadingHTTPServer):
    """`said` is what stands at which path; `token` is the one that is good now, `asked` what was asked for with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.said: dict[str, str] = {STATE: "InService"}
        self.token, self.tokens, self.asked = "one", 0, 0
        self.address = f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Cloud

    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
        self.server.tokens += 1
        self.answer(200 if good else 400, self.server.token)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != self.server.token:
            return self.answer(401, "")
        self.server.asked += 1
        said = self.server.said.get(self.path)
        return self.answer(404 if said is None else 200, said or "")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def metadata() -> Iterator[Cloud]:
    """Runs one; at first it says that the machine is in service."""
    with Cloud() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
