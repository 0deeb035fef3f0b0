"""A forward proxy over HTTP/2 and HTTP/3: CONNECT is a stream (RFC 9113 section 8.5, RFC 9114 section 4.4)."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial

import pytest
from curl_cffi import CurlOpt
from curl_cffi import requests as curl_requests
from h2.events import DataReceived, ResponseReceived, StreamEnded
from tests.conformance.lines import Line, Open, over_h2, over_h3
from tests.gateway.echoing import authority
from tests.gateway.h2client import h2_client
from tests.gateway.harness import Reader, Running, Writer, document, origin, secure
from tests.gateway.test_forward_proxy import back, echo, near
from tests.support import wait_until

WAYS = {"h2": over_h2, "h3": over_h3}
HTTPS2 = 3
"""CURLPROXY_HTTPS2: a proxy that is spoken to by HTTP/2."""


def connect(_: int, destination: str) -> list[tuple[bytes, bytes]]:
    """A tunnel's request."""
    return [(b":method", b"CONNECT"), (b":authority", destination.encode())]


@contextlib.asynccontextmanager
async def proxy(*ports: int) -> AsyncIterator[tuple[Running, str]]:
    """One that reaches 127.0.0.1 at these."""
    words = {"allow": [near(*ports)], "clients": ["127.0.0.0/8"]}
    async with secure(make=lambda port: document(port, [], [], listener={"forward_proxy": words})) as (running, ca):
        yield running, ca


@contextlib.asynccontextmanager
async def tunnels(way: str, *ports: int) -> AsyncIterator[tuple[Running, Open]]:
    """Opens them."""
    async with proxy(*ports) as (running, ca), WAYS[way](running.port, ca, connect) as opened:
        yield running, opened


async def heard(line: Line, size: int) -> bytes:
    """So many bytes, or what there is at its end."""
    async with asyncio.timeout(10):
        await line.until(lambda: len(line.heard) >= size)
    return bytes(line.heard)


@pytest.mark.parametrize("way", WAYS)
async def test_bytes_both_ways_and_many_tunnels_on_one_connection(way: str) -> None:
    body = bytes(range(256)) * 1000
    async with origin(back) as app, tunnels(way, app) as (running, opened):
        lines = await asyncio.gather(*(opened(f"127.0.0.1:{app}") for _ in range(10)))
        for number, line in enumerate(lines):
            assert line.status == 200
            line.write(b"%d" % number + body)
        for number, line in enumerate(lines):
            assert await heard(line, len(body) + 1) == b"%d" % number + body
            line.write_eof()
            await heard(line, 2**30)
            assert line.ended and not line.lost
        await wait_until(lambda: len(running.seen.outcomes) == 10, within_seconds=5, what="the ends")
        assert {(seen.status, seen.why, seen.route) for seen in running.seen.outcomes} == {(200, "", "forward:web")}
        assert running.gateway.active == 0


@pytest.mark.parametrize("way", WAYS)
async def test_who_has_said_all_hears_the_rest(way: str) -> None:
    async def answers_at_the_end(reader: Reader, writer: Writer) -> None:
        asked = await reader.read(-1)
        writer.write(asked + b", and an answer of " + b"x" * 300_000)
        await writer.drain()

    async with origin(answers_at_the_end) as app, tunnels(way, app) as (_, opened):
        line = await opened(f"127.0.0.1:{app}")
        line.write(b"a question")
        line.write_eof()
        said = await heard(line, 2**30)
        assert said.startswith(b"a question, and an answer") and len(said) > 300_000 and line.ended


async def test_what_a_client_says_before_it_is_agreed_to_is_not_lost() -> None:
    async with origin(back) as app, proxy(app) as (running, ca), h2_client(running.port, ca) as client:
        await client.read()
        stream_id = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, connect(0, f"127.0.0.1:{app}"))
        client.h2.send_data(stream_id, b"early", end_stream=True)
        client.send()
        assert (await client.read_until(DataReceived, stream_id)).data == b"early"
        await client.read_until(StreamEnded, stream_id)


async def test_a_destination_that_does_not_read_stops_the_client() -> None:
    async def stalls(reader: Reader, writer: Writer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # typeshed knows only the write side
        await asyncio.sleep(3600)

    async with origin(stalls) as app, tunnels("h2", app) as (running, opened):
        line = await opened(f"127.0.0.1:{app}")
        (exchange,) = running.gateway._worker.exchanges
        for _ in range(512):
            line.write(bytes(65536))
        taken = -1
        while taken != exchange._body.byte_count:  # type: ignore[attr-defined] # the kernel's buffers fill, and no more
            taken = exchange._body.byte_count  # type: ignore[attr-defined] # as above
            await asyncio.sleep(0.2)
        assert 2**16 < taken < 24 * 2**20
        await running.pass_time(301.0)
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="the idle end")
        assert running.seen.outcomes[0].why == "tunnel_idle"


async def test_plain_http_is_asked_for_by_its_scheme() -> None:
    async with origin(echo) as app, proxy(app) as (running, ca), h2_client(running.port, ca) as client:
        await client.read()
        for scheme, status in (("http", "200"), ("https", "400")):
            stream_id = client.h2.get_next_available_stream_id()
            fields = [(":method", "GET"), (":scheme", scheme), (":authority", f"127.0.0.1:{app}"), (":path", "/a?b")]
            client.h2.send_headers(stream_id, fields, end_stream=True)
            client.send()
            said = dict((await client.read_until(ResponseReceived, stream_id)).headers)
            assert said[":status"] == status and "alt-svc" not in said, "that would be the destination's"
        assert running.seen.outcomes[0].route == "forward:web"


REFUSED = {
    "127.0.0.2:{app}": (403, "forward_refused"),
    "no-such-host.invalid:{app}": (502, "name_unknown"),
    "127.0.0.1": (400, "bad_target"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_not_allowed_is_not_reached(way: str) -> None:
    async with origin(back) as app, tunnels(way, app) as (running, opened):
        for destination, (status, why) in REFUSED.items():
            line = await opened(destination.format(app=app))
            assert line.status == status and running.seen.outcomes[-1].why == why
        assert (await opened(f"127.0.0.1:{app}")).status == 200


async def test_curl_tunnels_tls_through_http2() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(context)
    async with origin(echo, context) as app, proxy(app) as (running, ca):
        options = {CurlOpt.PROXY: f"https://localhost:{running.port}", CurlOpt.PROXYTYPE: HTTPS2,
                   CurlOpt.PROXY_CAINFO: ca, CurlOpt.CAINFO: ca}  # fmt: skip
        ask = partial(curl_requests.get, f"https://localhost:{app}/secret", curl_options=options, timeout=20)
        answer = await asyncio.to_thread(ask)
        assert answer.status_code == 200 and answer.text.startswith("GET /secret HTTP/1.1\r\n")
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="the end of the tunnel")
        (outcome,) = running.seen.outcomes
        assert (outcome.status, outcome.method, outcome.version) == (200, b"CONNECT", b"2")
