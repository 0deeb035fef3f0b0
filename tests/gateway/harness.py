"""A gateway on real sockets, with upstreams made of a few lines, for tests of the data plane."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.gateway.echoing import authority, certificate
from tests.support import wait_until

from meridian.core import model
from meridian.core.snapshot import Snapshot, compile_snapshot
from meridian.gateway.gateway import Gateway
from meridian.gateway.handing import Neighbours
from meridian.gateway.limits import Limits
from meridian.gateway.outcome import Outcome
from meridian.gateway.quic import QuicListener
from meridian.telemetry.spans import SpanRecord

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Clock:
    """Real time that a test may push forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        """Seconds that only rise."""
        return time.monotonic() + self._ahead

    def push(self, seconds: float) -> None:
        """Time passes at once."""
        self._ahead += seconds


@dataclass
class Seen:
    """What the gateway reported."""

    outcomes: list[Outcome] = field(default_factory=list)
    spans: list[SpanRecord] = field(default_factory=list)

    def on_outcome(self, outcome: Outcome) -> None:
        """See outcome.Reports."""
        self.outcomes.append(outcome)

    def on_span(self, span: SpanRecord) -> None:
        """See outcome.Reports."""
        self.spans.append(span)


@dataclass
class Running:
    """A gateway that serves."""

    gateway: Gateway
    port: int
    seen: Seen
    clock: Clock

    async def pass_time(self, seconds: float) -> None:
        """Pushes the clock, and waits until the gateway has looked at it: what it begins before has deadlines from
        before, which all pass at its next look."""
        self.clock.push(seconds)
        await wait_until(lambda: self.gateway.coarse_now >= self.clock() - 0.5, within_seconds=5, what="a sweep")


def document(
    port: int, upstreams: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]] | None = None, **more: Any
) -> Snapshot:
    """A snapshot with one plain listener; by default one route to the first upstream."""
    listener = {"name": "web", "bind": f"127.0.0.1:{port}", "protocols": ["h1"], **more.pop("listener", {})}
    text = {
        "listeners": [listener],
        "upstreams": list(upstreams),
        "routes": list(routes) if routes is not None else [{"name": "all", "upstream": upstreams[0]["name"]}],
        **more,
    }
    version, files = text.pop("version", 1), text.pop("files", {})
    return compile_snapshot(model.Document.model_validate(text), files, version)


def upstream(*ports: int, name: str = "app", **more: Any) -> dict[str, Any]:
    """An upstream with these endpoints."""
    return {"name": name, "endpoints": [{"address": f"127.0.0.1:{port}"} for port in ports], **more}


@contextlib.asynccontextmanager
async def serving(
    make: Callable[[int], Snapshot], limits: Callable[[Clock], Limits] | None = None
) -> AsyncIterator[Running]:
    """Serves the snapshot that `make` gives for the listener's port, under limits of its own or those given."""
    sock = socket.create_server(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    snapshot = make(port)
    seen, clock = Seen(), Clock()
    loop = asyncio.get_running_loop()
    gateway = Gateway(
        snapshot,
        region="here",
        worker=0,
        loop=loop,
        report=seen,
        clock=clock,
        node="n1",
        limits=limits(clock) if limits is not None else None,
    )
    await gateway.attach(snapshot.listeners[0], [sock])
    try:
        yield Running(gateway, port, seen, clock)
    finally:
        await gateway.close(0.0)


def free_udp_and_tcp() -> tuple[socket.socket, socket.socket]:
    """Sockets for TCP and UDP on the same port."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        return tcp, udp


@contextlib.asynccontextmanager
async def secure(
    *ports: int, make: Callable[[int], Snapshot] | None = None, **more: Any
) -> AsyncIterator[tuple[Running, str]]:
    """A gateway that speaks all three on one port; gives the authority's file too. `make`: its snapshot, for a port."""
    tcp, udp = free_udp_and_tcp()
    port: int = tcp.getsockname()[1]
    snapshot = make(port) if make is not None else document(port, [upstream(*ports, **more)])
    web = dataclasses.replace(snapshot.listeners[0], protocols=("h1", "h2", "h3"), tls=True)
    snapshot = dataclasses.replace(snapshot, listeners=(web,), certificates=(certificate("localhost", "127.0.0.1"),))
    seen, clock, loop = Seen(), Clock(), asyncio.get_running_loop()
    gateway = Gateway(snapshot, region="here", worker=0, loop=loop, report=seen, clock=clock, node="n1")
    await gateway.attach(web, [tcp])
    quic = QuicListener(
        name="web", sockets=[udp], certificates=gateway.tls, begin=gateway.begin, neighbours=Neighbours(0, 0),
        key=b"k" * 16, loop=loop, port=port, client_auth=web.client_auth, early_data=web.early_data,
        guarding=gateway.guarding,
    )  # fmt: skip
    quic.start()
    gateway.attach_datagrams(web, quic)
    with authority().cert_pem.tempfile() as ca:
        try:
            yield Running(gateway, port, seen, clock), ca
        finally:
            await gateway.close(0.0)
            udp.close()


@contextlib.asynccontextmanager
async def origin(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An upstream: `handler` speaks for each connection, which ends with it; by TLS if there is a `context`. Gives its
    port."""
    problems: list[BaseException] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            if "handler is closed" not in str(error):  # how uvloop says that the connection is gone
                problems.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        assert not problems, problems


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """One head, with its empty line."""
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)


def length_of(head: bytes) -> int:
    """The content-length of a head; 0 if it has none."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A chunked body and its trailer lines."""
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            break
        body += (await reader.readexactly(size + 2))[:-2]
    trailers = b""
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers += line
    return body, trailers


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A head and its body."""
    head = await read_head(reader)
    if b"transfer-encoding: chunked" in head.lower():
        return head, (await read_chunked(reader))[0]
    return head, await asyncio.wait_for(reader.readexactly(length_of(head)), 10)


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that answers every request with its own head as the body."""
    while True:
        head, _ = await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        await writer.drain()


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def named(name: bytes) -> Handler:
    """An upstream that says its name."""

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(name) + name)

    return app


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """One request on a connection of its own; head and body of the answer."""
    async with client(port) as (reader, writer):
        writer.write(request)
        return await asyncio.wait_for(read_message(reader), 15)


def get(path: str = "/", *fields: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: shop.example.com", *fields, "", ""]).encode()


def status(head: bytes) -> int:
    """The status of a response's head."""
    return int(head.split(b" ", 2)[1])
