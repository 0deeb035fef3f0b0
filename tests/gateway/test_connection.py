"""Downstream connections: those that do nothing, do it slowly, or are too many."""

import asyncio
import socket

import pytest
from tests.gateway.harness import (
    ask,
    client,
    document,
    get,
    hello,
    origin,
    read_head,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.gateway import gateway as gateway_module


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
