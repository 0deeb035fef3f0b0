"""HTTP/2 without TLS, by clients that begin with it (RFC 9113 section 3.3), beside HTTP/1.1 on the same port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from h2.events import ResponseReceived
from tests.gateway.grpc_service import Calls, Service, grpc_service
from tests.gateway.h2client import H2Client
from tests.gateway.harness import (
    Running,
    ask,
    client,
    document,
    get,
    hello,
    origin,
    read_message,
    serving,
    status,
    upstream,
)

from meridian.core.document import DocumentError, load

BOTH = ("h1", "h2")


@contextlib.asynccontextmanager
async def plainly(port: int, protocols: Sequence[str] = BOTH, **words: str) -> AsyncIterator[Running]:
    """A gateway whose listener has no TLS."""
    listener = {"protocols": list(protocols), "tls": False}
    async with serving(lambda own: document(own, [upstream(port, **words)], listener=listener)) as running:
        yield running


async def curl(port: int, *options: str) -> str:
    """The version and the status that curl saw."""
    seen = ("-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", *options, f"http://127.0.0.1:{port}/")
    process = await asyncio.create_subprocess_exec("curl", *seen, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


async def test_the_first_bytes_say_which_it_is() -> None:
    async with origin(hello) as app, plainly(app) as running:
        assert await curl(running.port, "--http2-prior-knowledge") == "2 200"
        assert await curl(running.port, "--http1.1") == "1.1 200"
        assert await curl(running.port, "-X", "PROPFIND") == "1.1 200"
        assert [(one.peer.protocol, one.status) for one in running.seen.outcomes] == [
            ("h2", 200),
            ("h1", 200),
            ("h1", 200),
        ]


async def test_an_opening_may_come_byte_by_byte() -> None:
    async with origin(hello) as app, plainly(app) as running, client(running.port) as (reader, writer):
        slow = H2Client(reader, writer, running.port)
        slow.h2.initiate_connection()
        for byte in slow.h2.data_to_send():
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        stream_id = slow.ask()
        assert (":status", "200") in (await slow.read_until(ResponseReceived, stream_id)).headers


@pytest.mark.parametrize("opening", [b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_what_only_begins_alike_is_read_as_http_1(opening: bytes) -> None:
    async with origin(hello) as app, plainly(app) as running, client(running.port) as (reader, writer):
        writer.write(opening)
        head, _ = await read_message(reader)
        assert head.startswith(b"HTTP/1.1 ") and status(head) in (200, 400, 505)


async def test_half_an_opening_is_not_waited_for_for_ever() -> None:
    async with origin(hello) as app, plainly(app) as running, client(running.port) as (reader, writer):
        writer.write(b"PRI * HTTP")
        await asyncio.sleep(0.05)
        await running.pass_time(60.0)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_listener_of_h2_alone_takes_no_http_1() -> None:
    async with origin(hello) as app, plainly(app, ["h2"]) as running:
        assert await curl(running.port, "--http2-prior-knowledge") == "2 200"
        async with client(running.port) as (reader, writer):
            writer.write(get())
            assert b"HTTP/1.1" not in await asyncio.wait_for(reader.read(), 5)


async def test_a_listener_of_h1_alone_takes_no_http_2() -> None:
    async with origin(hello) as app, plainly(app, ["h1"]) as running:
        assert status((await ask(running.port, get()))[0]) == 200
        assert (await curl(running.port, "--http2-prior-knowledge")).startswith("0 ")


async def test_grpc_without_tls() -> None:
    async with (
        grpc_service(Service()) as port,
        plainly(port, ["h2"], protocol="h2") as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        calls = Calls(channel)
        assert await calls.unary(b"hello") == b"hello"
        assert [message async for message in calls.to_many(b"5")] == [b"%d" % n for n in range(5)]


def test_http_3_still_needs_tls() -> None:
    text = "listeners: [{name: web, bind: '0.0.0.0:80', protocols: [h1, h3], tls: false}]"
    with pytest.raises(DocumentError, match="h3 needs TLS; leave out tls: false, or serve only h1 and h2 here"):
        load(text)
