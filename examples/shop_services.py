"""The demo's services: products, orders and static files of a small shop, as one region runs them.

Every answer names its service and its region, so that one sees where a request went. One process serves one region or
several, each on an address of its own and three ports (products 7001, orders 7002, static 7003). It needs nothing but
uvicorn and holds nothing between requests.

    python examples/shop_services.py eu-west=127.0.0.21
"""

import argparse
import json
import mimetypes
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

PORTS = {7001: "products", 7002: "orders", 7003: "static"}
STATIC = Path(__file__).resolve().parent / "static"
CATALOGUE = [
    {"id": 1, "name": "lantern", "cents": 2900},
    {"id": 2, "name": "sextant", "cents": 18900},
    {"id": 3, "name": "chart of the meridians", "cents": 4500},
]
BODY_BYTES_MAX = 1024 * 1024  # of a JSON order; /api/orders/echo streams and has no bound
EXPORT_BYTES_MAX = 1024**3
CHUNK = bytes(range(256)) * 256  # 64 KiB of a known pattern


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: status, media type, body."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answers."""

    service: str
    region: str

    def fields(self, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Header fields that name it, and more."""
        return [(b"x-service", self.service.encode()), (b"x-region", self.region.encode()), *more]

    def json(self, status: int, **content: object) -> Answer:
        """A JSON answer that names it."""
        body = json.dumps({"service": self.service, "region": self.region, **content}).encode() + b"\n"
        return Answer(status, "application/json", body)


class Shop:
    """An ASGI application for all services; the address asked says which region answers, the port which service."""

    def __init__(self, regions: Mapping[str, str], files: Mapping[str, Answer]) -> None:
        self._regions = regions
        self._files = files

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            return
        address, port = scope["server"] or ("", None)
        origin = Origin(PORTS.get(port or 0, "products"), self._regions.get(address, "unknown"))
        method, path = scope["method"], scope["path"]
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if path == "/api/orders/echo" and method in ("POST", "PUT"):
            await _stream(send, origin, _incoming(receive))
        elif path == "/api/products/export":
            wanted = query.get("bytes", ["1048576"])[0]
            size = min(int(wanted), EXPORT_BYTES_MAX) if wanted.isdigit() else 0
            await _stream(send, origin, _pattern(size), size)
        elif path == "/api/orders" and method == "POST":
            await _send(send, origin, _order(origin, await _whole(receive)))
        else:
            await _send(send, origin, self._get(origin, path, method))

    def _get(self, origin: Origin, path: str, method: str) -> Answer:
        if path == "/healthz":
            return Answer(200, "text/plain", b"ok\n")
        if method not in ("GET", "HEAD"):
            return origin.json(405, error=f"{method} is not offered here")
        if origin.service == "static":
            missing = Answer(404, "text/plain", b"no such file\n")
            return self._files.get("/index.html" if path == "/" else path, missing)
        if origin.service == "orders":
            return origin.json(200, orders=[])
        tail = path.removeprefix("/api/products").strip("/")
        if not tail:
            return origin.json(200, products=CATALOGUE)
        found = [product for product in CATALOGUE if str(product["id"]) == tail]
        return origin.json(200, product=found[0]) if found else origin.json(404, error="no such product")


def _order(origin: Origin, body: bytes | None) -> Answer:
    if body is None:
        return origin.json(413, error="an order has at most 1 MiB")
    try:
        return origin.json(201, order=json.loads(body))
    except ValueError:
        return origin.json(400, error="an order is JSON")


async def _send(send: ASGISendCallable, origin: Origin, answer: Answer) -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    fields = origin.fields((b"content-type", answer.media_type.encode()), length)
    await send({"type": "http.response.start", "status": answer.status, "headers": fields, "trailers": False})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


async def _stream(
    send: ASGISendCallable, origin: Origin, chunks: AsyncIterator[bytes], size: int | None = None
) -> None:
    fields = origin.fields((b"content-type", b"application/octet-stream"))
    if size is not None:
        fields.append((b"content-length", str(size).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": False})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _incoming(receive: ASGIReceiveCallable) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        yield message["body"]
        if not message["more_body"]:
            return


async def _pattern(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield CHUNK[:size]
        size -= len(CHUNK)


async def _whole(receive: ASGIReceiveCallable) -> bytes | None:
    body = b""
    async for chunk in _incoming(receive):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return body


def load_files(folder: Path) -> dict[str, Answer]:
    """Reads the static files once, by their paths; they are few and small."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            found["/" + path.relative_to(folder).as_posix()] = Answer(200, media_type, path.read_bytes())
    return found


def bind(address: str, port: int) -> socket.socket:
    """Returns a listening socket; raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(1024)
    return listening


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", nargs="+", metavar="REGION=ADDRESS", help="a region and where its services listen")
    regions = {}
    for place in parser.parse_args().places:
        region, separator, address = place.partition("=")
        if not (region and separator and address):
            parser.error(f"{place!r} is not REGION=ADDRESS, for example eu-west=127.0.0.21")
        regions[address] = region
    sockets = []
    for address in regions:
        for port in PORTS:
            try:
                sockets.append(bind(address, port))
            except OSError as error:
                print(f"cannot listen on {address}:{port}: {error.strerror}", file=sys.stderr)
                return 2
    config = uvicorn.Config(
        Shop(regions, load_files(STATIC)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        # Longer than a gateway keeps an unused connection, so that it is never we who close one under a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=sockets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
