"""Downstream connections: those that do nothing, do it slowly, or are too many."""

import asyncio
import socket
import ssl
from typing import cast

import pytest
from h2.events import StreamEnded
from tests.gateway.h2client import h2_client
from tests.gateway.harness import (
    Reader,
    Writer,
    ask,
    client,
    document,
    get,
    hello,
    origin,
    read_head,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.gateway import gateway as gateway_module
from meridian.gateway.connection import DownstreamConnection
from meridian.gateway.stream import DownstreamStream, Exchange, Peer
from meridian.wire.events import RequestHead


async def test_a_head_that_comes_slowly_is_408() -> None:
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as (reader, writer):
            for byte in b"GET / HT":
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
                running.clock.push(0.5)
            running.clock.push(7)  # 11 seconds in all, although a byte came in each
            assert status((await read_message(reader))[0]) == 408
            assert await reader.read(1) == b""
        async with client(running.port) as (reader, writer):
            writer.write(get())
            await read_message(reader)
            writer.write(b"GET ")  # the second request of a connection is timed as the first
            await asyncio.sleep(0.2)
            running.clock.push(11)
            assert status((await read_message(reader))[0]) == 408


async def test_idle_connections_end() -> None:
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (silent, _),
        client(running.port) as (reader, writer),
    ):
        writer.write(get())
        await read_message(reader)
        running.clock.push(11)
        assert await asyncio.wait_for(silent.read(-1), 5) == b"", "a connection without a request"
        await asyncio.sleep(0.2)
        writer.write(get())
        await read_message(reader)
        await asyncio.sleep(0.2)
        running.clock.push(76)
        assert await asyncio.wait_for(reader.read(1), 5) == b""


async def test_nagle_is_off() -> None:
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get())
        await read_message(reader)
        (connection,) = running.gateway._connections
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_too_many_connections_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "CONNECTIONS_MAX", 3)  # a number of ours, not its code
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as _, client(running.port) as _, client(running.port) as (reader, writer):
            await wait_until(lambda: running.gateway.connections == 3, within_seconds=5, what="three connections")
            async with client(running.port) as (other, _):
                assert status(await read_head(other)) == 503
                await asyncio.wait_for(other.read(-1), 5)
            writer.write(get())
            assert status((await read_message(reader))[0]) == 200
        await wait_until(lambda: running.gateway.connections == 0, within_seconds=5, what="them to end")
        assert status((await ask(running.port, get()))[0]) == 200


async def test_a_refused_request_is_answered_although_the_client_sends_on() -> None:
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + b"x" * 1_000_000)
            head, _ = await read_message(reader)
            assert status(head) == 400 and b"connection: close\r\n" in head
            assert await asyncio.wait_for(reader.read(1), 5) == b""
        assert running.seen.outcomes == []


async def test_reading_stops_while_requests_wait() -> None:
    async with serving(lambda port: document(port, [upstream(1)])) as running:

        async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        async with origin(app) as port:
            running.gateway.swap(document(running.port, [upstream(port)], version=2))
            async with client(running.port) as (_, writer):
                many = get() * 200_000  # 8 MB of pipelined requests behind one that is not answered
                writer.write(many)
                await asyncio.sleep(0.5)
                (connection,) = running.gateway._connections
                assert connection._h1 is not None and len(connection._h1.held) <= 512_000
                assert running.gateway.active == 1


async def sized(reader: Reader, writer: Writer) -> None:
    """An upstream that answers /N with N bytes."""
    while True:
        head, _ = await read_message(reader)
        size = int(head.split(b" ")[1][1:])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for start in range(0, size, 65536):
            writer.write(bytes(min(65536, size - start)))
            await writer.drain()


async def test_a_client_that_asks_on_and_never_reads_is_not_read_either() -> None:
    async with origin(sized) as app, secure(app) as (running, ca), h2_client(running.port, ca) as client:
        sent = 0
        while sent < 3000:  # 48 MB
            client.ask("/16000", times=50)
            sent += 50
            try:
                await wait_until(lambda n=sent: len(running.seen.outcomes) == n, within_seconds=1, what="answers")  # type: ignore[misc] # bound now
            except AssertionError:
                break
        (connection,) = running.gateway._connections
        assert connection._transport.get_write_buffer_size() < 2_000_000
        while len(running.seen.outcomes) < sent:  # it is served once it reads
            await client.read()
        last = await client.read_until(StreamEnded, 2 * sent - 1)
        assert last.stream_id == 2 * sent - 1


async def test_a_huge_window_does_not_let_many_upstreams_fill_the_memory() -> None:
    async with origin(sized) as app, secure(app) as (running, ca), h2_client(running.port, ca) as client:
        client.ask("/4000000", times=60)
        await wait_until(lambda: running.gateway.active == 60, within_seconds=5, what="all requests to be there")
        (connection,) = running.gateway._connections
        await wait_until(lambda: connection._write_paused, within_seconds=5, what="the socket to be full")
        await asyncio.sleep(0.5)  # for what each upstream could still add
        assert connection._transport.get_write_buffer_size() < 2_000_000
        assert running.gateway.active == 60


GOAWAY, PING, HEADERS = 7, 6, 1


async def test_a_request_on_its_way_to_an_idle_connection_that_ends_is_served() -> None:
    async with origin(sized) as app, secure(app) as (running, ca), h2_client(running.port, ca) as client:
        await client.read_until(StreamEnded, client.ask("/3"))
        await asyncio.sleep(0.2)
        running.clock.push(76)
        assert int.from_bytes((await client.frame(GOAWAY))[:4], "big") == 2**31 - 1, "it says only that it will go"
        ping = await client.frame(PING)
        client.say(HEADERS, 5, 3, b"\x82\x87\x01\x09localhost\x04\x02/3")  # GET https localhost /3, by HPACK
        await client.frame(HEADERS)
        assert [one.status for one in running.seen.outcomes] == [200, 200]
        client.say(PING, 1, 0, ping)
        assert int.from_bytes((await client.frame(GOAWAY))[:4], "big") == 3, "now it is sure which requests came"
        await wait_until(lambda: running.gateway.connections == 0, within_seconds=5, what="it to end")


async def test_an_idle_connection_whose_client_does_not_answer_ends() -> None:
    async with secure(1) as (running, ca), h2_client(running.port, ca) as client:
        await client.read()
        running.clock.push(76)
        await client.frame(PING)
        await asyncio.sleep(0.3)
        assert running.gateway.connections == 1
        running.clock.push(2)
        await wait_until(lambda: running.gateway.connections == 0, within_seconds=5, what="it to end")


class FaultyHost:
    """A worker whose exchanges cannot begin."""

    coarse_now = 0.0

    def __init__(self, *, responds: bool) -> None:
        self.responds = responds
        self.errors: list[Exception] = []
        self.connections: set[DownstreamConnection] = set()
        self.clock = lambda: 0.0

    def begin(self, head: RequestHead, stream: DownstreamStream, peer: Peer) -> Exchange:
        if self.responds:
            stream.respond(200, [], end=False)
        raise RuntimeError("a fault")

    def opened(self, connection: DownstreamConnection) -> bool:
        self.connections.add(connection)
        return True

    def closed(self, connection: DownstreamConnection) -> None:
        self.connections.discard(connection)

    def handshaken(self, connection: ssl.SSLObject) -> None:
        raise AssertionError("there is no TLS here")

    def refused(self, status: int, why: str) -> None:
        raise AssertionError(why)

    def watch(self, connection: DownstreamConnection) -> None:
        raise AssertionError("all clients read")

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("responds", [False, True])
async def test_an_exchange_that_cannot_begin_is_500_and_costs_nobody_else(responds: bool) -> None:
    host = FaultyHost(responds=responds)
    loop = asyncio.get_running_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    server = await loop.create_server(
        lambda: cast("asyncio.Protocol", DownstreamConnection(host, "web", 80, tls=False)), "127.0.0.1", 0
    )
    async with client(server.sockets[0].getsockname()[1]) as (reader, writer):
        writer.write(get() + get())
        if responds:
            assert b"0\r\n\r\n" not in (await asyncio.wait_for(reader.read(-1), 5)).partition(b"\r\n\r\n")[2]
        else:
            assert [status((await read_message(reader))[0]) for _ in range(2)] == [500, 500]
    await wait_until(lambda: not host.connections, within_seconds=5, what="the connection to end")
    server.close()
    assert [str(error) for error in host.errors] == ["a fault"] * (1 if responds else 2) and problems == []
