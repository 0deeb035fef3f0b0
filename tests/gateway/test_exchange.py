"""The walk of a request over real sockets: what goes on, what comes back, what happens when either end fails."""

import asyncio
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from tests.gateway.harness import (
    Running,
    ask,
    client,
    document,
    get,
    hello,
    length_of,
    origin,
    read_chunked,
    read_head,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until

from meridian.gateway.outcome import Outcome

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


async def outcome_of(running: Running, count: int = 1) -> Outcome:
    """The last of `count` outcomes."""
    await wait_until(lambda: len(running.seen.outcomes) >= count, within_seconds=5, what=f"{count} outcomes")
    assert len(running.seen.outcomes) == count
    return running.seen.outcomes[-1]


async def test_a_request_goes_on_and_its_answer_comes_back() -> None:
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        head, body = await ask(running.port, get("/a/b?c=d", "X-Own: 1", "Connection: x-hop", "X-Hop: 1"))
        assert status(head) == 200
        assert body.startswith(b"GET /a/b?c=d HTTP/1.1\r\nhost: shop.example.com\r\nx-own: 1\r\n")
        assert b"x-hop" not in body and b"\r\nconnection" not in body
        for line in (
            b"x-forwarded-for: 127.0.0.1", b"x-forwarded-proto: http", b"x-forwarded-host: shop.example.com",
            b"x-forwarded-port: %d" % running.port, b"via: 1.1 meridian",
        ):  # fmt: skip
            assert line + b"\r\n" in body
        seen = await outcome_of(running)
        assert (seen.status, seen.why, seen.route, seen.endpoint, seen.tries) == (200, "", "all", f"127.0.0.1:{app}", 1)
        assert seen.request_id in body and seen.response_body_bytes == len(body)
        assert 0 < seen.first_byte_seconds <= seen.duration_seconds < 5


async def test_clients_cannot_say_what_is_ours_to_say() -> None:
    lies = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Request-Id: mine", "Forwarded: for=1.2.3.4")
    async with origin(hello) as app:
        async with serving(lambda port: document(port, [upstream(app)])) as running:
            _, body = await ask(running.port, get("/", *lies))
            assert b"1.2.3.4" not in body and b"mine" not in body and b"x-forwarded-proto: http\r\n" in body
        trusting = {"trusted_proxies": ["127.0.0.0/8"]}
        async with serving(lambda port: document(port, [upstream(app)], listener=trusting)) as running:
            _, body = await ask(running.port, get("/", *lies, "Via: 1.0 other"))
            assert b"x-forwarded-for: 1.2.3.4, 127.0.0.1\r\n" in body
            assert b"x-forwarded-proto: https\r\n" in body and b"x-request-id: mine\r\n" in body
            assert b"via: 1.0 other, 1.1 meridian\r\n" in body
            assert (await outcome_of(running)).client == "1.2.3.4"


async def test_bodies_and_trailers_go_both_ways() -> None:
    got: list[tuple[bytes, bytes]] = []

    async def echo(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        body, trailers = await read_chunked(reader)
        got.append((body, trailers))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n")
        await writer.drain()

    body = bytes(range(256)) * 300
    async with origin(echo) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get("/", "Transfer-Encoding: chunked", "TE: trailers", method="POST"))
            for start in range(0, len(body), 7000):
                piece = body[start : start + 7000]
                writer.write(b"%X\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\nX-Up: 1\r\n\r\n")
            await read_head(reader)
            assert await read_chunked(reader) == (body, b"x-sum: 7\r\n")
        assert got == [(body, b"x-up: 1\r\n")]
        seen = await outcome_of(running)
        assert (seen.request_body_bytes, seen.response_body_bytes) == (len(body), len(body))


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"content-length: 5"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n", b"etag: x"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"content-length: 0"),
    ],
)
async def test_answers_without_body_leave_both_connections_usable(method: str, answer: bytes, expected: bytes) -> None:
    connections = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_head(reader)
            writer.write(answer)

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            for _ in range(3):
                writer.write(get(method=method))
                head = await read_head(reader)
                assert expected in head and b"transfer-encoding" not in head
        assert connections == 1


async def test_no_route_and_no_method_are_said_plainly() -> None:
    routes = [{"name": "api", "match": {"path_prefix": "/api", "methods": ["GET", "PUT"]}, "upstream": "app"}]
    async with serving(lambda port: document(port, [upstream(free_port())], routes)) as running:
        head, body = await ask(running.port, get("/other"))
        assert status(head) == 404
        assert running.seen.outcomes[0].request_id in body
        head, _ = await ask(running.port, get("/api/x", method="DELETE"))
        assert status(head) == 405 and b"allow: GET, PUT\r\n" in head
        head, _ = await ask(running.port, get("/x/../api/%2e%2E/api/%00"))
        assert status(head) == 400
        assert [seen.why for seen in running.seen.outcomes] == ["no_route", "method_not_allowed", "bad_target"]


async def test_a_chunked_body_may_come_byte_by_byte() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_head(reader)
            body, _ = await read_chunked(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    request = (
        get("/", "Transfer-Encoding: chunked", method="PUT") + b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n"
    )
    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port)])) as running,
        client(running.port) as (reader, writer),
    ):
        for byte in request * 2:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        for _ in range(2):
            assert (await read_message(reader))[1] == b"hello world"


async def test_expect_100_continue_is_the_upstreams_to_answer() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        assert b"expect: 100-continue\r\n" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(length_of(head))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get("/", "Content-Length: 4", "Expect: 100-continue", method="PUT"))
        assert status(await read_head(reader)) == 100
        writer.write(b"body")
        assert (await read_message(reader))[1] == b"body"


async def test_an_upgrade_is_not_passed_on() -> None:
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (reader, writer),
    ):
        upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        writer.write(get("/", *upgrade))
        _, body = await read_message(reader)
        assert b"upgrade" not in body.lower() and b"http2" not in body
        writer.write(get("/", *upgrade, "Content-Length: 3", method="POST") + b"abc" + get("/next"))
        _, body = await read_message(reader)
        assert b"content-length: 3" in body
        assert b"GET /next" in (await read_message(reader))[1]


async def test_pipelined_requests_are_answered_in_order() -> None:
    active = most = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal active, most
        while True:
            head, _ = await read_message(reader)
            active += 1
            most = max(most, active)
            await asyncio.sleep(0.01 if b"/0" in head else 0)
            active -= 1
            path = head.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(b"".join(get(f"/{number}") for number in range(200)))
            for number in range(200):
                assert (await read_message(reader))[1] == b"/%d" % number
        assert most == 1


async def test_pipelined_requests_answered_here_need_no_stack() -> None:
    async with serving(lambda port: document(port, [upstream(free_port())], [])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get() * 3000)
            for _ in range(3000):
                assert status((await read_message(reader))[0]) == 404
        assert len(running.seen.outcomes) == 3000


# What goes wrong upstream


async def test_a_refusing_endpoint_costs_no_request_and_is_ejected() -> None:
    async with origin(hello) as app:
        dead = free_port()
        async with serving(lambda port: document(port, [upstream(dead, app)])) as running:
            async with client(running.port) as (reader, writer):
                for _ in range(20):
                    writer.write(get("/", "Content-Length: 4", method="POST") + b"body")
                    assert status((await read_message(reader))[0]) == 200
            tries = [seen.tries for seen in running.seen.outcomes]
            assert tries.count(2) == 3 and tries[-8:] == [1] * 8
            running.clock.push(10)  # the ejection ends, one probe fails, and it is ejected again
            await asyncio.sleep(0.25)
            async with client(running.port) as (reader, writer):
                for _ in range(10):
                    writer.write(get())
                    assert status((await read_message(reader))[0]) == 200
            assert [seen.tries for seen in running.seen.outcomes[20:]].count(2) == 1


async def test_an_upstream_that_nobody_reaches_is_502_without_internals() -> None:
    dead = free_port()
    async with serving(lambda port: document(port, [upstream(dead)])) as running:
        head, body = await ask(running.port, get())
        assert status(head) == 502
        assert str(dead).encode() not in head + body and (await outcome_of(running)).request_id in body


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_cut_upstream_is_cut_for_the_client(version: bytes, framing: bytes) -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n5\r\nhello\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
            head = await read_head(reader)
            assert status(head) == 200
            by_close = b"content-length" not in head and b"chunked" not in head
            rest, reset = b"", False
            try:
                rest = await asyncio.wait_for(reader.read(-1), 5)
            except ConnectionResetError:
                reset = True
            assert not rest.endswith(b"0\r\n\r\n") and len(rest) < 100
            assert reset or not by_close, "a body that ends by the close must not end cleanly"
        assert (await outcome_of(running)).why == "cut"


async def test_a_body_without_length_that_ends_by_a_close_is_whole() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get())
            await read_head(reader)
            assert await read_chunked(reader) == (b"all of it", b"")
        assert (await outcome_of(running)).why == ""


async def test_a_hanging_upstream_is_504_and_its_connection_ends() -> None:
    ended = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        assert await reader.read(1) == b""
        ended.set()

    slow = upstream
    async with (
        origin(app) as port,
        serving(lambda own: document(own, [slow(port, response_timeout_seconds=0.3)])) as running,
    ):
        head, _ = await ask(running.port, get())
        assert status(head) == 504
        await asyncio.wait_for(ended.wait(), 5)
        assert (await outcome_of(running)).tries == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\nContent-Length: 3\n\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_garbage_is_502(garbage: bytes) -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(garbage)
        await writer.drain()
        await reader.read(-1)

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        head, _ = await ask(running.port, get())
        assert status(head) == 502
        assert (await outcome_of(running)).why == "upstream_malformed"


async def test_a_kept_connection_that_the_upstream_has_closed_costs_no_request() -> None:
    served = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal served
        for turn in range(2):  # answers one request, and closes on the next
            await read_message(reader)
            if turn == 1:
                return
            served += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            for _ in range(10):
                writer.write(get())
                assert status((await read_message(reader))[0]) == 200
        assert served == 10 and max(seen.tries for seen in running.seen.outcomes) == 2
        assert running.gateway.series()  # the metrics can be read


async def test_a_post_is_not_sent_twice() -> None:
    heads = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal heads
        await read_message(reader)
        heads += 1

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port, port)])) as running:
        head, _ = await ask(running.port, get("/", "Content-Length: 1", method="POST") + b"x")
        assert status(head) == 502 and heads == 1
        head, _ = await ask(running.port, get("/", "Content-Length: 1", method="PUT") + b"x")
        assert status(head) == 502 and heads == 1 + 3, "what is idempotent is"


# What clients do


async def test_a_client_that_leaves_ends_the_upstream_request() -> None:
    ended = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        assert await reader.read(1) == b""
        ended.set()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (_, writer):
            writer.write(get())
            await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="an exchange")
            await asyncio.sleep(0.05)
        await asyncio.wait_for(ended.wait(), 5)
        seen = await outcome_of(running)
        assert (seen.status, seen.why) == (499, "client_gone")


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
        await writer.drain()

    async with (
        origin(app) as port,
        serving(lambda own: document(own, [upstream(port)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get("/", "Content-Length: 100000000", method="POST"))
        for _ in range(5):
            writer.write(b"x" * 10_000)
            await asyncio.sleep(0.01)
        head, body = await read_message(reader)
        assert status(head) == 413 and body == b"much"
        assert await asyncio.wait_for(reader.read(1), 5) == b"", "nothing more is taken here"
        running.clock.push(3)
        with pytest.raises(ConnectionError):  # what was sent was dropped for a while; then the connection ends
            for _ in range(500):
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.01)


async def test_a_body_that_stops_is_408() -> None:
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get("/", "Content-Length: 10", method="POST") + b"half")
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="an exchange")
        await asyncio.sleep(0.1)
        running.clock.push(61)
        assert status((await read_message(reader))[0]) == 408


async def test_an_invalid_chunk_in_a_body_ends_the_upstream_request_too() -> None:
    cut = asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        try:
            await read_chunked(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            cut.set()

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"nonsense\r\n")
            assert status((await read_message(reader))[0]) == 400
        await asyncio.wait_for(cut.wait(), 5)


# Traces


async def test_a_sampled_exchange_is_told_as_two_spans() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        _, body = await ask(running.port, get("/x", f"traceparent: {parent}"))
        sent = re.search(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r\n", body)
        assert sent is not None
        tried, whole = running.seen.spans
        assert {span.trace_id.hex() for span in running.seen.spans} == {parent[3:35]} == {sent[1].decode()}
        assert whole.parent_span_id.hex() == parent[36:52]
        assert tried.parent_span_id == whole.span_id and tried.span_id.hex() == sent[2].decode()
        assert whole.name == "GET /" and whole.attributes["http.response.status_code"] == 200
        assert whole.start_unix_nanoseconds <= tried.start_unix_nanoseconds <= tried.end_unix_nanoseconds
        unsampled = parent[:-1] + "0"
        _, body = await ask(running.port, get("/x", f"traceparent: {unsampled}"))
        assert unsampled.encode() in body and len(running.seen.spans) == 2
        _, body = await ask(running.port, get("/x", "traceparent: nonsense"))
        assert b"nonsense" not in body


async def test_who_has_no_clock_is_given_the_date() -> None:
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        for path in ("/", "/%00"):  # an upstream's answer, and our own
            head, _ = await ask(running.port, get(path))
            (date,) = [line[6:] for line in head.split(b"\r\n") if line.startswith(b"date: ")]
            said = parsedate_to_datetime(date.decode())
            assert abs((datetime.now(UTC) - said).total_seconds()) < 3
