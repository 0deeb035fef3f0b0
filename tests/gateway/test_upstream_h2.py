"""HTTP/2 to upstreams: connections that many share, GOAWAY and resets, backpressure, and what becomes of a message that
changes its protocol on the way."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from tests.gateway.echoing import authority
from tests.gateway.h2client import h2_client
from tests.gateway.h2origin import H2Served, h2_origin, say_ok, until_closed
from tests.gateway.harness import (
    Reader,
    Writer,
    ask,
    client,
    document,
    get,
    length_of,
    origin,
    read_chunked,
    read_head,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.gateway.test_protocols import VERSIONS, curl
from tests.support import wait_until

from meridian.core import model
from meridian.core.snapshot import Snapshot, compile_snapshot

POST = get("/", "Content-Length: 1", method="POST") + b"x"


def h2_document(own: int, *ports: int, **more: Any) -> Any:
    """One route to an upstream that speaks HTTP/2."""
    return document(own, [upstream(*ports, protocol="h2", **more)])


# Connections that many share


async def test_many_requests_share_a_connection() -> None:
    connections = most = 0

    async def app(served: H2Served) -> None:
        nonlocal connections, most
        connections += 1
        while True:
            waiting = [(await served.request())[0] for _ in range(20)]
            most = max(most, len(served.h2.streams))
            for stream_id in waiting:
                served.answer(stream_id)

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        for _ in range(3):
            answers = await asyncio.gather(*(ask(running.port, get()) for _ in range(20)))
            assert {(status(head), body) for head, body in answers} == {(200, b"ok")}
        assert connections == 1 and most >= 20


@pytest.mark.parametrize(("allowed", "wanted"), [(3, 100), (100, 3)])
async def test_streams_are_at_most_what_both_allow(allowed: int, wanted: int) -> None:
    most, connections = 0, 0

    async def app(served: H2Served) -> None:
        nonlocal most, connections
        connections += 1
        while True:
            stream_id, _ = await served.request()
            most = max(most, sum(not stream.closed for stream in served.h2.streams.values()))
            await asyncio.sleep(0.002)
            served.answer(stream_id)

    more = {"streams_max": wanted, "connections_max": 2}
    settings = {SettingCodes.MAX_CONCURRENT_STREAMS: allowed}
    async with h2_origin(app, settings) as port, serving(lambda own: h2_document(own, port, **more)) as running:
        answers = await asyncio.gather(*(ask(running.port, get()) for _ in range(60)))
        assert {status(head) for head, _ in answers} == {200}
        assert most == 3 and connections == 2
        assert {seen.tries for seen in running.seen.outcomes} == {1}, "nothing was refused"


async def test_an_idle_connection_ends_and_its_pings_are_answered() -> None:
    ended = asyncio.Event()

    async def app(served: H2Served) -> None:
        served.answer((await served.request())[0])
        served.say(6, 0, 0, b"pingpong")
        while await served.frame(6) != b"pingpong":
            pass
        try:
            await served.frame(0xFF)
        except asyncio.IncompleteReadError:
            ended.set()

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        assert status((await ask(running.port, get()))[0]) == 200
        await asyncio.sleep(0.3)
        assert not ended.is_set()
        running.clock.push(31)
        await asyncio.wait_for(ended.wait(), 5)


async def test_an_endpoint_that_speaks_no_http2_gets_no_request() -> None:
    got = b""

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal got
        got += await reader.readuntil(b"SM\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        got += await reader.read(-1)

    async with origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        assert status((await ask(running.port, POST))[0]) == 502
        assert running.seen.outcomes[0].why == "upstream_refused"
        assert b"shop" not in got


async def test_one_that_says_nothing_is_given_up_in_the_time_to_connect() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        await reader.read(-1)

    more = {"connect_timeout_seconds": 0.2}
    async with origin(app) as port, serving(lambda own: h2_document(own, port, **more)) as running:
        assert status((await ask(running.port, POST))[0]) == 504


async def test_a_reload_changes_the_protocol_of_an_upstream() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        start = await reader.readexactly(3)
        if start == b"PRI":
            served = H2Served(reader, writer)
            served.begin()
            served.h2.receive_data(start)
            await say_ok(served)
        while True:
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1")

    async with origin(app) as port, serving(lambda own: document(own, [upstream(port)])) as running:
        for version, protocol in enumerate(("h1", "h2", "h1", "h2"), 2):
            running.gateway.swap(document(running.port, [upstream(port, protocol=protocol)], version=version))
            found = (await ask(running.port, get()))[1]
            assert (found == b"h1") is (protocol == "h1")


# What an endpoint gives up


@pytest.mark.parametrize("how", ["goaway", "refused"])
async def test_what_was_not_processed_is_sent_again_whatever_it_is(how: str) -> None:
    got: list[bytes] = []

    async def app(served: H2Served) -> None:
        stream_id, _ = await served.request()
        await served.read_until(StreamEnded, stream_id)
        got.append(served.body(stream_id))
        if len(got) > 1:
            served.answer(stream_id)
        elif how == "goaway":
            served.goaway(0)
        else:
            served.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            await say_ok(served)
        await until_closed(served)

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        head, _ = await ask(running.port, POST)
        assert status(head) == 200 and running.seen.outcomes[0].tries == 2
        assert got[0] == b"x"


async def test_after_goaway_what_is_under_way_goes_on_and_the_rest_goes_elsewhere() -> None:
    connections = 0
    go_on = asyncio.Event()

    async def app(served: H2Served) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await say_ok(served)
        stream_id, _ = await served.request()
        served.goaway(2**31 - 1)
        await go_on.wait()
        served.goaway(stream_id)
        served.answer(stream_id, b"first")
        await until_closed(served)
        go_on.clear()

    async with (
        h2_origin(app) as port,
        serving(lambda own: h2_document(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(POST)
        await wait_until(lambda: connections == 1 and running.gateway.active, within_seconds=5, what="the first")
        await asyncio.sleep(0.1)
        assert status((await ask(running.port, POST))[0]) == 200
        assert connections == 2
        go_on.set()
        assert (await read_message(reader))[1] == b"first"
        await wait_until(lambda: not go_on.is_set(), within_seconds=5, what="the old connection to end")


async def test_a_lost_connection_loses_all_its_requests_and_the_safe_ones_are_repeated() -> None:
    connections = 0

    async def app(served: H2Served) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await say_ok(served)
        for _ in range(4):
            await served.request()
        served._writer.transport.abort()

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        answers = await asyncio.gather(*(ask(running.port, one) for one in (get(), get(), get(), POST)))
        assert [status(head) for head, _ in answers] == [200, 200, 200, 502]


async def test_a_response_that_is_reset_is_cut_for_the_client() -> None:
    async def app(served: H2Served) -> None:
        while True:
            stream_id, _ = await served.request()
            served.answer(stream_id, None)
            served.h2.send_data(stream_id, b"half")
            served.reset(stream_id, ErrorCodes.INTERNAL_ERROR)

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port)) as running:
        for _ in range(2):
            with pytest.raises(asyncio.IncompleteReadError):
                await ask(running.port, get())
        assert {seen.why for seen in running.seen.outcomes} == {"cut"}


async def test_a_client_that_leaves_resets_its_stream_and_no_other() -> None:
    async def app(served: H2Served) -> None:
        first, _ = await served.request()
        second, _ = await served.request()
        reset = await served.read_until(StreamReset)
        assert (reset.stream_id, reset.error_code) == (first, ErrorCodes.CANCEL)
        served.answer(second, b"mine")
        await until_closed(served)

    async with (
        h2_origin(app) as port,
        serving(lambda own: h2_document(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        async with client(running.port) as (_, gone):
            gone.write(get())
            await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="the first")
            await asyncio.sleep(0.05)
            writer.write(get())
            await wait_until(lambda: running.gateway.active == 2, within_seconds=5, what="the second")
        assert (await read_message(reader))[1] == b"mine"


# Backpressure

LARGE = 32 * 2**20


@contextlib.asynccontextmanager
async def slow_h1() -> AsyncIterator[tuple[int, str]]:
    """Waits a while before it reads a body."""

    async def app(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        await asyncio.sleep(0.3)
        body = await reader.readexactly(length_of(head))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d" % len(body))
        await writer.drain()

    async with origin(app) as port:
        yield port, "h1"


@contextlib.asynccontextmanager
async def slow_h2() -> AsyncIterator[tuple[int, str]]:
    """Waits a while before it opens its window."""

    async def app(served: H2Served) -> None:
        stream_id, _ = await served.request()
        await asyncio.sleep(0.3)
        served.h2.increment_flow_control_window(2**30)
        served.h2.increment_flow_control_window(2**30, stream_id)
        served.send()
        await served.read_until(StreamEnded, stream_id)
        served.answer(stream_id, b"%d" % len(served.body(stream_id)))
        await until_closed(served)

    async with h2_origin(app) as port:
        yield port, "h2"


async def test_a_slow_client_stops_its_own_stream_only() -> None:
    sent = [0]

    async def app(served: H2Served) -> None:
        async def give(stream_id: int, total: int, count: list[int]) -> None:
            served.answer(stream_id, None)
            while count[0] < total:
                room = min(served.h2.local_flow_control_window(stream_id), 16384, total - count[0])
                if room:
                    served.h2.send_data(stream_id, bytes(room), end_stream=count[0] + room == total)
                    served.send()
                    count[0] += room
                await asyncio.sleep(0 if room else 0.001)

        async with asyncio.TaskGroup() as tasks:
            while True:
                stream_id, fields = await served.request()
                slow = (":path", "/slow") in fields
                tasks.create_task(give(stream_id, LARGE if slow else 4 * 2**20, sent if slow else [0]))

    async with (
        h2_origin(app) as port,
        serving(lambda own: h2_document(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        writer.transport.pause_reading()  # type: ignore[attr-defined] # typeshed knows only the write side
        writer.write(get("/slow"))
        await wait_until(lambda: sent[0] > 2**18, within_seconds=5, what="the slow one to begin")
        for _ in range(3):  # beside it three times the connection's window
            async with client(running.port) as (other, asks):
                asks.write(get("/quick"))
                await read_head(other)
                assert len((await read_chunked(other))[0]) == 4 * 2**20
        assert sent[0] < 24 * 2**20, "the kernel's buffers, and a window"
        writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
        got = 0
        while got < LARGE:  # with the lines of its chunks a little more
            got += len(await reader.read(2**18))


async def test_a_slow_upstream_stops_the_client() -> None:
    go_on = asyncio.Event()
    got = 0

    async def app(served: H2Served) -> None:
        nonlocal got
        stream_id, fields = await served.request()
        assert ("content-length", str(LARGE)) in fields
        await go_on.wait()
        while True:
            for event in served.events:
                if isinstance(event, DataReceived):
                    got += len(event.data or b"")
                elif isinstance(event, StreamEnded):
                    served.answer(stream_id)
            served.events.clear()
            await served.read()

    async with (
        h2_origin(app) as port,
        serving(lambda own: h2_document(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        sent = 0
        writer.write(get("/", f"Content-Length: {LARGE}", method="POST"))

        async def send() -> None:
            nonlocal sent
            while sent < LARGE:
                writer.write(bytes(65536))
                sent += 65536
                await writer.drain()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            before = -1
            while before != sent or not sent:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 24 * 2**20
            go_on.set()
        assert status(await read_head(reader)) == 200 and got == LARGE


async def test_an_upload_over_http2_goes_on_when_its_upstream_does() -> None:
    """The credit that the upstream's window gives back reaches the client though nothing else is said to it."""
    for make in (slow_h1, slow_h2):
        async with make() as (port, protocol), secure(port, protocol=protocol) as (running, ca):
            answer = await curl(running.port, "2", ca, "/", "PUT", data=bytes(8 * 2**20))
            assert answer.content == b"%d" % (8 * 2**20)


# What becomes of a message


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_request_changes_its_protocol(version: str) -> None:
    got: list[list[tuple[str, str]]] = []

    async def app(served: H2Served) -> None:
        while True:
            stream_id, fields = await served.request()
            await served.read_until(StreamEnded, stream_id)
            got.append(fields)
            body = b"%d" % len(served.body(stream_id))
            served.answer(stream_id, body, [("x-own", "1"), ("set-cookie", "a=1"), ("set-cookie", "b")])

    async with h2_origin(app) as port, secure(port, protocol="h2") as (running, ca):
        for method, data in (("GET", None), ("POST", b"x" * 70_000), ("POST", b"")):
            answer = await curl(
                running.port, version, ca, "/a?b", method, data=data, headers={"Cookie": "a=1; b=2", "TE": "trailers"}
            )
            assert answer.status_code == 200 and answer.content == b"%d" % len(data or b"")
            assert answer.headers["x-own"] == "1" and answer.headers.get_list("set-cookie") == ["a=1", "b"]
            fields = got.pop()
            assert fields[:4] == [
                (":method", method), (":scheme", "http"), (":authority", f"localhost:{running.port}"), (":path", "/a?b")
            ]  # fmt: skip
            found = dict(fields)
            assert found["cookie"] == "a=1; b=2" and found["te"] == "trailers" and found["via"] == f"{version} meridian"
            assert found.get("content-length") == (None if data is None else str(len(data)))
            assert found["x-forwarded-host"] == f"localhost:{running.port}"
            names = [name for name, _ in fields]
            assert len(set(names)) == len(names), "each once"
            assert not {"host", "connection", "transfer-encoding", "keep-alive"} & set(names)


async def test_heads_trailers_and_answers_without_body() -> None:
    async def app(served: H2Served) -> None:
        while True:
            stream_id, fields = await served.request()
            path = dict(fields)[":path"]
            if path == "/early":
                served.h2.send_headers(stream_id, [(":status", "103"), ("link", "</a.css>; rel=preload")])
                served.answer(stream_id)
            elif path == "/trailers":
                await served.read_until(StreamEnded, stream_id)
                served.answer(stream_id, None)
                served.h2.send_data(stream_id, served.body(stream_id))
                served.h2.send_headers(stream_id, [("x-sum", "7")], end_stream=True)
                served.send()
            elif path == "/304":
                served.h2.send_headers(stream_id, [(":status", "304"), ("content-length", "9")], end_stream=True)
                served.send()
            elif path == "/204":
                served.h2.send_headers(stream_id, [(":status", "204")], end_stream=True)
                served.send()
            else:
                served.h2.send_headers(stream_id, [(":status", "200"), ("content-length", "9")], end_stream=True)
                served.send()

    async with (
        h2_origin(app) as port,
        serving(lambda own: h2_document(own, port)) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get("/early"))
        assert b"103" in (early := await read_head(reader)) and b"link: </a.css>; rel=preload" in early
        assert status(await read_head(reader)) == 200
        assert await read_chunked(reader) == (b"ok", b"")
        writer.write(get("/trailers", "Transfer-Encoding: chunked", "TE: trailers", method="POST"))
        writer.write(b"3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n")
        await read_head(reader)
        assert await read_chunked(reader) == (b"abc", b"x-sum: 7\r\n")
        for path, method, code in (("/304", "GET", 304), ("/204", "GET", 204), ("/", "HEAD", 200)):
            writer.write(get(path, method=method))
            assert status(head := await read_head(reader)) == code
            assert (b"content-length: 9" in head) is (code != 204) and b"chunked" not in head


@pytest.mark.parametrize(
    "fields",
    [
        [("x-own", "1")],
        [(":status", "20")],
        [(":status", "101")],
        [(":status", "200"), ("X-Own", "1")],
        [(":status", "200"), ("x-own", "a\r\nb: c")],
        [(":status", "200"), ("connection", "close")],
        [(":status", "200"), ("transfer-encoding", "chunked")],
        [(":status", "200"), (":path", "/")],
        [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
        [(":status", "200"), ("content-length", "1")],
        [(":status", "200"), ("content-length", "3")],
        [(":status", "200"), *[(f"x-{number}", "1") for number in range(101)]],
    ],
    ids=lambda fields: " ".join(f"{name}={value[:5]!r}" for name, value in fields[:3]),
)
async def test_a_malformed_answer_is_502(fields: list[tuple[str, str]]) -> None:
    async def app(served: H2Served) -> None:
        stream_id, _ = await served.request()
        if fields[0][0] != ":status":  # h2 itself would not send it
            block = b"\x00\x05x-own\x011"
            served.say(1, 4, stream_id, block)
        else:
            served.h2.send_headers(stream_id, fields)
            served.send()
        served.say(0, 1, stream_id, b"ok")
        await until_closed(served)

    async with h2_origin(app) as port, serving(lambda own: h2_document(own, port, retries=0)) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get())
            try:
                code = status(await read_head(reader))
                if code == 200:  # the head was well-formed: the body is not whole
                    await read_message(reader)
            except asyncio.IncompleteReadError:
                code = 502
        assert code == 502 and running.gateway.active == 0


async def test_what_is_asked_over_http2_and_answered_over_http2() -> None:
    async with (
        h2_origin(say_ok) as port,
        secure(port, protocol="h2") as (running, ca),
        h2_client(running.port, ca) as h2,
    ):
        for _ in range(3):
            last = h2.ask(times=20)
            await h2.read_until(StreamEnded, last)
        assert len(running.seen.outcomes) == 60


@pytest.mark.parametrize("agrees", [True, False])
async def test_over_tls_the_endpoint_must_agree_to_http2(agrees: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"] if agrees else ["http/1.1"])

    async def app(reader: Reader, writer: Writer) -> None:
        served = H2Served(reader, writer)
        served.begin()
        with contextlib.suppress(ConnectionError):
            await say_ok(served)

    server = await asyncio.start_server(app, "127.0.0.1", 0, ssl=context)
    tls = {"server_name": "localhost", "ca_file": "ca.pem"}
    files = {"ca.pem": authority().cert_pem.bytes()}

    def make(own: int) -> Snapshot:
        web = {"name": "web", "bind": f"127.0.0.1:{own}", "protocols": ["h1"]}
        one = upstream(server.sockets[0].getsockname()[1], protocol="h2", tls=tls, retries=0)
        text = {"listeners": [web], "upstreams": [one], "routes": [{"name": "all", "upstream": "app"}]}
        return compile_snapshot(model.Document.model_validate(text), files, 1)

    async with server, serving(make) as running:
        head, body = await ask(running.port, get())
        assert (status(head), b":scheme: https" in body) == ((200, True) if agrees else (502, False))
