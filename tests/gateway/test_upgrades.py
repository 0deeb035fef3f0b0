"""WebSocket through the gateway: over HTTP/1.1, HTTP/2 and HTTP/3, with `websockets` at one end or at both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from h2.events import DataReceived, PingAckReceived, PingReceived, StreamReset
from h2.settings import SettingCodes
from tests.gateway.h2client import h2_client
from tests.gateway.h2origin import H2Served, h2_origin, until_closed
from tests.gateway.harness import (
    Reader,
    Running,
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
from tests.gateway.talking import OVER, Refused, over_h2, say_back_h2, talking
from tests.support import wait_until
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from meridian.core.snapshot import Snapshot

HANDSHAKE = get(
    "/", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)  # fmt: skip
ACCEPTED = b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # RFC 6455 section 1.3


def websocket(own: int, *ports: int, version: int = 1, idle: float = 60.0, **more: Any) -> Snapshot:
    """One route that takes WebSocket, and `/plain`, which does not."""
    routes = [
        {"name": "all", "upstream": "app", "websocket": {"idle_timeout_seconds": idle}},
        {"name": "plain", "match": {"path_prefix": "/plain"}, "upstream": "app"},
    ]
    return document(own, [upstream(*ports, **more)], routes, version=version)


@contextlib.asynccontextmanager
async def through(app: int, **more: Any) -> AsyncIterator[tuple[Running, str]]:
    """A gateway that speaks all three, before one endpoint."""
    async with secure(make=lambda own: websocket(own, app, **more)) as (running, ca):
        yield running, ca


async def ended(running: Running, count: int = 1) -> None:
    """So many exchanges are over."""
    await wait_until(lambda: len(running.seen.outcomes) >= count, within_seconds=10, what="the end of the exchange")


@pytest.mark.parametrize("version", OVER)
async def test_messages_both_ways(version: str) -> None:
    async with talking() as app, through(app) as (running, ca), OVER[version](running.port, ca, "/chat?a=b") as talk:
        for message in ("hello", b"\x00\xff", "", "\u00fc" * 70_000, bytes(3 * 2**20)):
            await talk.send(message)
            assert await talk.recv() == message
        await talk.close()
        await ended(running)
        seen = running.seen.outcomes[0]
        assert (seen.status, seen.why, seen.version, seen.target) == (101, "", version.encode(), b"/chat?a=b")
        assert seen.method == b"GET" and seen.request_body_bytes > 2**10 < seen.response_body_bytes


@pytest.mark.parametrize("version", OVER)
async def test_the_service_closes_and_why_is_heard(version: str) -> None:
    async with talking() as app, through(app) as (running, ca), OVER[version](running.port, ca) as talk:
        await talk.send("close 4001")
        assert await talk.closed() == 4001
        await ended(running)
        assert running.seen.outcomes[0].why == ""


@pytest.mark.parametrize("version", OVER)
async def test_a_service_that_breaks_off_is_heard(version: str) -> None:
    async def breaks(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with talking(breaks) as app, through(app) as (running, ca), OVER[version](running.port, ca) as talk:
        await talk.send("x")
        with pytest.raises((ConnectionResetError, ConnectionClosed)):
            await talk.recv()
        await ended(running)


CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)


async def test_every_close_code_both_ways() -> None:
    heard: list[int] = []

    async def app(connection: ServerConnection) -> None:
        message = await connection.recv()
        if message == "yours":
            with contextlib.suppress(ConnectionClosed):
                await connection.recv()
            assert connection.close_code is not None
            heard.append(connection.close_code)
        else:
            await connection.close(int(message), "why not")

    async with talking(app) as port, serving(lambda own: websocket(own, port)) as running:
        for code in CODES:
            async with connect(f"ws://127.0.0.1:{running.port}/", proxy=None) as first:
                await first.send("yours")
                await first.close(code, "bye")
            async with connect(f"ws://127.0.0.1:{running.port}/", proxy=None) as second:
                await second.send(str(code))
                await second.wait_closed()
                assert (second.close_code, second.close_reason) == (code, "why not")
        await ended(running, 2 * len(CODES))
        assert tuple(heard) == CODES and {seen.why for seen in running.seen.outcomes} == {""}


async def test_fragments_pings_compression_and_subprotocols_pass() -> None:
    fragments: list[str | bytes] = []

    async def app(connection: ServerConnection) -> None:
        async for fragment in connection.recv_streaming():
            fragments.append(fragment)
        await (await connection.ping(b"are you there"))
        await connection.send(
            f"{connection.subprotocol} {[type(one).__name__ for one in connection.protocol.extensions]}"
        )
        await connection.wait_closed()

    async with (
        talking(app, subprotocols=["chat"]) as port,
        serving(lambda own: websocket(own, port)) as running,
        connect(f"ws://127.0.0.1:{running.port}/", subprotocols=["other", "chat"], proxy=None) as talk,  # type: ignore[list-item] # a NewType
    ):
        await talk.send(["one", "two", "three"])
        await (await talk.ping())
        assert await talk.recv() == "chat ['PerMessageDeflate']"
        assert fragments[:3] == ["one", "two", "three"] and talk.protocol.extensions


async def test_bytes_pass_as_they_are() -> None:
    """Masked, fragmented, or no frames at all: nothing is read into them."""
    said = bytes(range(256)) * 100
    got = b""

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal got
        head = await read_head(reader)
        assert head.count(b"onnection: ") == 1 and b"\r\nupgrade: websocket\r\n" in head and b"te: " not in head
        writer.write(
            b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" + ACCEPTED + b"\r\n" + said[::-1]
        )
        got = await reader.read(-1)

    async with (
        origin(app) as port,
        serving(lambda own: websocket(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(HANDSHAKE + said)  # a client that does not wait for the answer
        head = await read_head(reader)
        assert status(head) == 101 and ACCEPTED in head and b"connection: upgrade\r\nupgrade: websocket\r\n" in head
        assert await reader.readexactly(len(said)) == said[::-1]
        writer.write(said)
        writer.write_eof()
        await wait_until(lambda: got == said + said, within_seconds=5, what="all of it")


# Backpressure


async def test_a_client_that_does_not_read_stops_the_service() -> None:
    sent = [0]

    async def app(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while sent[0] < 256 * 2**20:
                await connection.send(bytes(2**16))
                sent[0] += 2**16

    async with (
        talking(app, compression=None, write_limit=2**16) as port,
        serving(lambda own: websocket(own, port)) as running,
    ):
        async with client(running.port) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # typeshed knows only the write side
            writer.write(HANDSHAKE)
            await stands_still(sent)
            assert 0 < sent[0] < 24 * 2**20
        await ended(running)


async def test_a_service_that_does_not_read_stops_the_client() -> None:
    sent = [0]
    go_on = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + ACCEPTED + b"\r\n")
        await go_on.wait()

    async with (
        origin(app) as port,
        serving(lambda own: websocket(own, port)) as running,
        client(running.port) as (_, writer),
        asyncio.TaskGroup() as tasks,
    ):

        async def send() -> None:
            writer.write(HANDSHAKE)
            while sent[0] < 256 * 2**20:
                writer.write(bytes(2**16))
                sent[0] += 2**16
                await writer.drain()

        sending = tasks.create_task(send())
        await stands_still(sent)
        assert 0 < sent[0] < 24 * 2**20
        sending.cancel()
        go_on.set()


async def stands_still(count: list[int]) -> None:
    """Waits until it no longer changes."""
    before = -1
    while before != count[0] or not before:
        before = count[0]
        await asyncio.sleep(0.25)


# Who may


@pytest.mark.parametrize("version", OVER)
async def test_it_is_refused_where_the_route_does_not_say_so(version: str) -> None:
    async with talking() as app, through(app) as (running, ca):
        with pytest.raises((InvalidStatus, Refused)) as refused:
            async with OVER[version](running.port, ca, "/plain"):
                pass
        found = refused.value
        assert (found.response.status_code if isinstance(found, InvalidStatus) else found.args[0]) == 403
        assert running.seen.outcomes[0].why == "upgrade_refused" and running.seen.outcomes[0].tries == 0


@pytest.mark.parametrize(
    "fields",
    [
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("Upgrade: tls/1.0", "Connection: upgrade"),
    ],
    ids=["h2c", "not in connection", "tls"],
)
async def test_other_upgrades_are_not_passed_on(fields: tuple[str, ...]) -> None:
    async with origin(hello) as app, serving(lambda own: websocket(own, app)) as running:
        head, body = await ask(running.port, get("/", *fields))
        assert (
            status(head) == 200
            and b"pgrade" not in body.replace(b"GET /", b"")
            and b"http2-settings" not in body.lower()
        )


@pytest.mark.parametrize("key", ["", "Sec-WebSocket-Key: short", "Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b"])
async def test_a_handshake_without_its_key_is_400(key: str) -> None:
    async with origin(hello) as app, serving(lambda own: websocket(own, app)) as running:
        request = get("/", "Upgrade: websocket", "Connection: Upgrade", *([key] if key else []))
        assert status((await ask(running.port, request))[0]) == 400


async def test_a_service_may_refuse_and_the_connections_go_on() -> None:
    requests = connections = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal requests, connections
        connections += 1
        while True:
            head, _ = await read_message(reader)
            requests += 1
            code = b"401 No" if b"upgrade" in head.lower() else b"200 OK"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % code)

    async with (
        origin(app) as port,
        serving(lambda own: websocket(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        for _ in range(3):
            writer.write(HANDSHAKE + get("/plain") + get("/nowhere", "Host: twice"))  # the third is no request
            assert [status((await read_message(reader))[0]) for _ in range(2)] == [401, 200]
            assert status((await read_message(reader))[0]) == 400
            break
        assert (requests, connections) == (2, 1)


async def test_what_is_said_before_the_service_agrees_reaches_it_only_then() -> None:
    """Else it would be a request to a service that does not agree."""
    asked, refuse = asyncio.Event(), asyncio.Event()
    got = b""

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal got
        got = await read_head(reader)
        asked.set()
        await refuse.wait()
        writer.write(b"HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n")
        while data := await reader.read(2**16):
            got += data

    async with origin(app) as port, through(port) as (running, ca), h2_client(running.port, ca) as h2:
        await h2.read()
        stream_id = h2.h2.get_next_available_stream_id()
        fields = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/"),
            (":authority", f"localhost:{running.port}"), ("sec-websocket-key", "not ours"),
        ]  # fmt: skip
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        h2.h2.send_headers(stream_id, fields)
        h2.h2.send_data(stream_id, smuggled)  # before there is a connection
        h2.send()
        await asyncio.wait_for(asked.wait(), 5)
        h2.h2.send_data(stream_id, smuggled)  # and when there is
        h2.h2.ping(b"12345678")
        h2.send()
        await h2.read_until(PingAckReceived)
        refuse.set()
        await h2.read_until(PingReceived)  # answered; once it says that it knows, the rest is not wanted
        h2.send()
        await h2.read_until(StreamReset, stream_id)
        await running.gateway.close(0)
        assert b"smuggled" not in got and b"not ours" not in got and b"sec-websocket-key: " in got


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + ACCEPTED + b"\r\n",
        b"HTTP/1.1 101 \r\nConnection: Upgrade\r\n" + ACCEPTED + b"\r\n",
    ],
    ids=["no accept", "wrong accept", "another protocol", "no protocol"],
)
async def test_an_agreement_to_something_else_is_502(answer: bytes) -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(answer)
        await reader.read(-1)

    async with origin(app) as port, serving(lambda own: websocket(own, port)) as running:
        assert status((await ask(running.port, HANDSHAKE))[0]) == 502
        assert running.seen.outcomes[0].why == "upstream_malformed"


# How long


@pytest.mark.parametrize("version", OVER)
async def test_silence_ends_it_with_1001_and_pings_are_none(version: str) -> None:
    async with talking(ping_interval=None) as app, through(app, idle=30.0) as (running, ca):
        async with OVER[version](running.port, ca) as talk:
            for _ in range(3):
                running.clock.push(20)
                await talk.send("here")
                assert await talk.recv() == "here"
                await asyncio.sleep(0.15)
            running.clock.push(31)
            assert await talk.closed() == 1001
        await ended(running)
        assert running.seen.outcomes[0].why == "websocket_idle"


@pytest.mark.parametrize("version", OVER)
async def test_reloads_do_not_touch_it_and_drain_ends_it_when_its_time_is_over(version: str) -> None:
    async with talking() as app, through(app) as (running, ca), OVER[version](running.port, ca) as talk:
        for number in range(2, 5):
            running.gateway.swap(websocket(running.port, app, version=number))
            await talk.send(str(number))
            assert await talk.recv() == str(number)
        running.gateway.drain(True)
        await talk.send("still")
        assert await talk.recv() == "still"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.gateway.close(1.5))
            await asyncio.sleep(0.2)
            await talk.send("to the end")
            assert await talk.recv() == "to the end"
            assert await talk.closed() == 1001
        assert running.seen.outcomes[0].why == "going_away"


async def test_in_the_middle_of_a_frame_nothing_is_put() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + ACCEPTED + b"\r\n\x82\x05abc")
        await reader.read(-1)

    async with (
        origin(app) as port,
        serving(lambda own: websocket(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(HANDSHAKE)
        await read_head(reader)
        assert await reader.readexactly(5) == b"\x82\x05abc"
        await running.gateway.close(0.2)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(-1) == b""


# To an upstream that speaks HTTP/2


async def test_from_any_version_to_an_upstream_over_http2() -> None:
    settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    async with h2_origin(say_back_h2, settings) as app, through(app, protocol="h2", connections_max=3) as (running, ca):
        for over in OVER.values():
            async with over(running.port, ca) as talk:
                await talk.send("hello")
                assert await talk.recv() == "hello"
                await talk.close(4000)
                assert await talk.closed() == 4000
        await ended(running, 3)
        assert {seen.status for seen in running.seen.outcomes} == {101}


async def test_one_that_does_not_offer_it_is_502() -> None:
    async def app(served: H2Served) -> None:
        await until_closed(served)
        assert not [event for event in served.events if isinstance(event, DataReceived)]

    async with h2_origin(app) as port, through(port, protocol="h2") as (running, ca):
        with pytest.raises(Refused):
            async with over_h2(running.port, ca):
                pass
        assert (running.seen.outcomes[0].status, running.seen.outcomes[0].why) == (502, "upstream_no_upgrade")
