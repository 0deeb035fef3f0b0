"""Connections that come through another proxy say who their client is, and nobody else may."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway.harness import (
    Running,
    client,
    document,
    get,
    hello,
    origin,
    read_message,
    secure,
    serving,
    upstream,
)
from tests.gateway.test_l4 import echo
from tests.support import wait_until

from meridian.core.snapshot import Snapshot
from meridian.wire import proxy_protocol

CLIENT, REACHED = ("203.0.113.9", 4711), ("198.51.100.1", 443)
BEHIND = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
HEADERS = {
    "v1": proxy_protocol.write(1, CLIENT, REACHED),
    "v2": proxy_protocol.write(2, CLIENT, REACHED),
}


def behind(own: int, port: int, **listener: Any) -> Snapshot:
    """A listener behind proxies, and one upstream."""
    return document(own, [upstream(port)], listener={**BEHIND, **listener})


@contextlib.asynccontextmanager
async def door(**listener: Any) -> AsyncIterator[Running]:
    async with origin(hello) as port, serving(lambda own: behind(own, port, **listener)) as running:
        yield running


async def said(port: int, *pieces: bytes) -> bytes:
    """What a client is answered that sends these, a moment between them; empty if the door is shut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05 if len(pieces) > 1 else 0)
        return (await asyncio.wait_for(read_message(reader), 10))[1]
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("version", HEADERS)
async def test_the_client_is_whom_the_proxy_names(version: str) -> None:
    header = HEADERS[version]
    async with door() as running:
        for pieces in ((header + get(),), (header, get()), (header[:9], header[9:] + get())):
            assert b"x-forwarded-for: 203.0.113.9\r\n" in await said(running.port, *pieces)
        assert {outcome.client for outcome in running.seen.outcomes} == {"203.0.113.9"}


async def test_what_the_client_itself_claims_is_not_believed() -> None:
    async with door() as running:
        answer = await said(running.port, HEADERS["v2"] + get("/", "X-Forwarded-For: 192.0.2.66"))
        assert b"192.0.2.66" not in answer


async def test_a_proxy_that_speaks_for_itself_is_the_client() -> None:
    async with door() as running:
        local = proxy_protocol.SIGNATURE + b"\x20\0\0\0"
        assert b"x-forwarded-for: 127.0.0.1\r\n" in await said(running.port, local + get())


def refusals(running: Running) -> dict[str, float]:
    """Connections that the door has closed, by the reason."""
    return {
        one.labels["why"]: one.value
        for one in running.gateway.series()
        if one.name == "meridian_proxied_refused_total" and isinstance(one.value, float)
    }


async def test_who_says_nothing_or_something_else_or_may_not_come_is_shut_out() -> None:
    async with door() as running:
        assert await said(running.port, get()) == b""
        assert refusals(running) == {"malformed": 1.0}
        async with client(running.port) as (silent, _):
            assert await asyncio.wait_for(silent.read(), 10) == b""
        assert refusals(running) == {"malformed": 1.0, "silent": 1.0}
        assert running.gateway.connections == 0
    async with door(trusted_proxies=["192.0.2.0/24"]) as running:
        assert await said(running.port, HEADERS["v2"] + get()) == b""
        assert refusals(running) == {"not_trusted": 1.0}


async def test_the_header_stands_before_tls() -> None:
    async with origin(hello) as port, secure(port) as (running, ca):
        sock = socket.create_server(("127.0.0.1", 0))
        web = dataclasses.replace(
            running.gateway.snapshot.listeners[0],
            name="behind",
            protocols=("h1", "h2"),
            proxy_protocol=True,
            trusted_proxies=("127.0.0.1/32",),
        )
        await running.gateway.attach(web, [sock])
        loop = asyncio.get_running_loop()
        raw = socket.create_connection(sock.getsockname())
        raw.setblocking(False)
        await loop.sock_sendall(raw, HEADERS["v2"])
        context = ssl.create_default_context(cafile=ca)
        reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="localhost")
        writer.write(get())
        _, body = await asyncio.wait_for(read_message(reader), 10)
        writer.transport.abort()
        assert b"x-forwarded-for: 203.0.113.9\r\n" in body
        assert b"x-forwarded-proto: https\r\n" in body


async def test_it_is_passed_on_where_connections_pass_through() -> None:
    def chained(own: int, port: int) -> Snapshot:
        route = {"name": "all", "listener": "pass", "upstream": "app", "proxy_protocol": "v1"}
        listener = {"name": "pass", "protocols": ["tcp"], **BEHIND}
        return document(own, [upstream(port)], [], listener=listener, l4_routes=[route])

    async with origin(echo) as port, serving(lambda own: chained(own, port)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(HEADERS["v2"] + b"hi")
        told = await asyncio.wait_for(reader.readuntil(b"hi"), 10)
        writer.transport.abort()
        assert proxy_protocol.read(told).source == CLIENT
        await wait_until(lambda: running.gateway.connections == 0, within_seconds=10, what="over")


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        ({"trusted_proxies": []}, "needs trusted_proxies"),
        ({"protocols": ["h1", "h3"]}, "PROXY protocol is of TCP"),
    ],
)
def test_a_listener_that_could_not_keep_it_is_refused(listener: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        behind(8080, 1, **listener)
