"""A forward proxy with curl as its client: CONNECT and absolute forms, whom it refuses, and what it hides."""

import asyncio
import base64
import contextlib
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway.echoing import authority
from tests.gateway.harness import (
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    origin,
    read_head,
    read_message,
    serving,
    status,
)
from tests.gateway.test_explaining import told
from tests.support import wait_until

SECRET = "not-a-secret-of-anybody"  # a test's
HASH = "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()


@contextlib.asynccontextmanager
async def proxy(*allow: dict[str, Any], routes: tuple[dict[str, Any], ...] = (), **more: Any) -> AsyncIterator[Running]:
    """One that is for this machine, and reaches 127.0.0.1 at any of `ports`."""
    words = {"allow": list(allow), "clients": ["127.0.0.0/8"], **more}
    gates = [{"name": "people", "basic": True, "consumers": [{"name": "ann", "secrets": [HASH]}]}]
    limits = [{"name": "few", "key": "consumer", "rate": "1/h", "burst": 2}]
    async with serving(
        lambda port: document(
            port, [], list(routes), listener={"forward_proxy": words}, authenticators=gates, limits=limits
        )
    ) as running:
        yield running


def near(*ports: int) -> dict[str, Any]:
    """Loopback, which nobody reaches unless it is said."""
    return {"networks": ["127.0.0.1/32"], "ports": list(ports)}


async def curl(*words: str) -> tuple[int, str]:
    """Exit status, and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--max-time", "20", *words, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={"PATH": "/usr/bin"},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def echo(reader: Reader, writer: Writer) -> None:
    """Answers each request with its head, cacheable for a while."""
    while True:
        head, _ = await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        await writer.drain()


async def test_curl_gets_a_page_and_its_server_learns_nothing_of_the_client() -> None:
    async with origin(echo) as app, proxy(near(app)) as running:
        where = f"http://localhost:{app}/a/../b?c"
        code, output = await curl("-x", f"http://127.0.0.1:{running.port}", "-U", "nobody:asked", "--path-as-is", where)
        head = output.lower()
        assert code == 0 and output.startswith("GET /a/../b?c HTTP/1.1\r\n"), "the path is not ours to read"
        assert f"host: localhost:{app}\r\n" in head and "via: 1.1 meridian\r\n" in head
        for name in ("x-forwarded", "x-request-id", "x-consumer", "proxy-", "127.0.0.1", "client-cert"):
            assert name not in head
        (outcome,) = running.seen.outcomes
        assert (outcome.status, outcome.route, outcome.upstream) == (200, "forward:web", "forward:web")
        assert outcome.endpoint == f"127.0.0.1:{app}"


async def test_curl_tunnels_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(context)
    async with origin(echo, context) as app, proxy(near(app)) as running:
        with authority().cert_pem.tempfile() as ca:
            code, output = await curl(
                "-x", f"http://127.0.0.1:{running.port}", "--cacert", ca, f"https://localhost:{app}/secret"
            )
        assert code == 0 and output.startswith("GET /secret HTTP/1.1\r\n") and "via" not in output.lower()
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="the end of the tunnel")
        (outcome,) = running.seen.outcomes
        assert (outcome.status, outcome.why, outcome.method) == (200, "", b"CONNECT")
        assert outcome.request_body_bytes > 300 and outcome.response_body_bytes > 500
    assert running.gateway.active == 0


async def test_who_may_use_it_is_asked_and_the_password_stays_here() -> None:
    async with origin(echo) as app, proxy(near(app), authenticate="people", limits=["few"]) as running:
        await running.pass_time(10_000.0)
        at, page = f"http://127.0.0.1:{running.port}", f"http://127.0.0.1:{app}/"
        head, _ = await ask(running.port, f"GET {page} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status(head) == 407 and b'proxy-authenticate: Basic realm="people"' in head
        code, output = await curl("-x", at, "-U", "ann:wrong", "-p", page)
        assert code == 56 and "407" in output
        for _ in range(2):
            code, output = await curl("-x", at, "-U", f"ann:{SECRET}", "-u", "bob:other", page)
            assert code == 0 and "proxy-authorization" not in output.lower()
            assert "authorization: basic" in output.lower(), "that of the destination goes on"
        token = base64.b64encode(f"ann:{SECRET}".encode()).decode()
        asked = f"CONNECT 127.0.0.1:{app} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {token}\r\n\r\n"
        assert status((await ask(running.port, asked.encode()))[0]) == 429
        assert SECRET not in str(running.seen.outcomes) and token not in str(running.seen.outcomes)


REFUSED = [
    ("GET http://127.0.0.2:{app}/ HTTP/1.1", 403, "forward_refused"),
    ("GET http://[::1]:{app}/ HTTP/1.1", 403, "forward_refused"),
    ("GET http://[::ffff:127.0.0.2]:{app}/ HTTP/1.1", 403, "forward_refused"),
    ("GET http://2130706434:{app}/ HTTP/1.1", 403, "forward_refused"),
    ("GET http://127.0.0.1:{other}/ HTTP/1.1", 403, "forward_refused"),
    ("CONNECT 127.0.0.2:{app} HTTP/1.1", 403, "forward_refused"),
    ("CONNECT 0x7f000002:{app} HTTP/1.1", 403, "forward_refused"),
    ("CONNECT no-such-host.invalid:{app} HTTP/1.1", 502, "name_unknown"),
    ("CONNECT 127.0.0.1 HTTP/1.1", 400, "bad_target"),
    ("GET / HTTP/1.1", 400, "not_forwarded"),
    ("GET https://127.0.0.1:{app}/ HTTP/1.1", 400, None),
    ("GET http://user@127.0.0.1:{app}/ HTTP/1.1", 400, None),
    ("CONNECT http://127.0.0.1:{app}/ HTTP/1.1", 400, None),
]


@pytest.mark.parametrize(("line", "expected", "why"), REFUSED)
async def test_what_is_not_allowed_is_not_reached(line: str, expected: int, why: str | None) -> None:
    reached = 0

    async def count(reader: Reader, writer: Writer) -> None:
        nonlocal reached
        reached += 1

    async with origin(count) as app, proxy(near(app)) as running:
        asked = line.format(app=app, other=app % 65535 + 1) + "\r\nHost: shop.example.com\r\n\r\n"
        head, _ = await ask(running.port, asked.encode())
        assert status(head) == expected and reached == 0
        assert [one.why for one in running.seen.outcomes] == ([why] if why else [])


async def test_a_client_that_it_is_not_for_is_refused_and_told_the_same_by_explain() -> None:
    async with proxy({"ports": [443]}, clients=["192.0.2.0/24"]) as running:
        head, _ = await ask(running.port, b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(head) == 403 and running.seen.outcomes[0].why == "forward_client"
        found = told(running, "/", method="CONNECT", host="example.com:443")
        assert (found.status, found.why) == (403, "forward_client")
    async with proxy({"ports": [443]}) as running:
        assert told(running, "/", method="CONNECT", host="example.com:22").why == "forward_refused"
        found = told(running, "/", method="CONNECT", host="example.com:443")
        assert found.status == 0 and "example.com, port 443" in str(found.steps)


async def test_listeners_that_are_none_serve_no_proxy() -> None:
    async with serving(lambda port: document(port, [], [{"name": "all", "redirect_to": "/x"}])) as running:
        head, _ = await ask(running.port, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        assert status(head) == 501


async def test_routes_are_not_asked() -> None:
    async with origin(echo) as app, proxy(near(app), routes=({"name": "all", "redirect_to": "/x"},)) as running:
        head, _ = await ask(running.port, f"GET http://127.0.0.1:{app}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status(head) == 200


async def test_pages_are_kept_for_the_next_and_a_stale_one_is_refreshed() -> None:
    served = 0

    async def page(reader: Reader, writer: Writer) -> None:
        nonlocal served
        while True:
            await read_message(reader)
            served += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % served)

    async with origin(page) as app:
        cache = {"ttl_seconds": 60, "stale_while_revalidate_seconds": 60}
        async with proxy(near(app), cache=cache) as running:
            asked = f"GET http://127.0.0.1:{app}/logo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            assert [(await ask(running.port, asked))[1] for _ in range(3)] == [b"1"] * 3
            await running.pass_time(61.0)
            assert (await ask(running.port, asked))[1] == b"1"
            await wait_until(lambda: served == 2 and not running.gateway.active, within_seconds=5, what="the refresh")
            assert (await ask(running.port, asked))[1] == b"2"


@contextlib.asynccontextmanager
async def tunnel(running: Running, port: int) -> AsyncIterator[tuple[Reader, Writer]]:
    """A client's end, agreed to."""
    async with client(running.port) as (reader, writer):
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + b"early")
        head = await read_head(reader)
        assert status(head) == 200 and b"content-length" not in head and b"transfer-encoding" not in head
        yield reader, writer


async def back(reader: Reader, writer: Writer) -> None:
    """Says what it hears, until the other side ends."""
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


async def test_a_tunnel_passes_all_that_was_said_before_an_end() -> None:
    async def greets(reader: Reader, writer: Writer) -> None:
        writer.write(b"x" * 1_000_000)
        await writer.drain()

    async with origin(greets) as app, proxy(near(app)) as running, tunnel(running, app) as (reader, _):
        assert await asyncio.wait_for(reader.read(-1), 10) == b"x" * 1_000_000
    async with origin(back) as app, proxy(near(app)) as running, tunnel(running, app) as (reader, writer):
        assert await reader.readexactly(5) == b"early"
        body = bytes(range(256)) * 8000
        writer.write(body)
        assert await asyncio.wait_for(reader.readexactly(len(body)), 10) == body


async def test_a_side_that_does_not_read_stops_the_other() -> None:
    sent = 0

    async def endless(reader: Reader, writer: Writer) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(2**16))
            await writer.drain()
            sent += 2**16

    async with origin(endless) as app, proxy(near(app)) as running, client(running.port) as (reader, writer):
        writer.write(f"CONNECT 127.0.0.1:{app} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await read_head(reader)
        (exchange,) = running.gateway._worker.exchanges
        await wait_until(
            lambda: not exchange.stream.writable,  # type: ignore[attr-defined] # an Exchange
            within_seconds=10, what="the client's end to be full",
        )  # fmt: skip
        held = 0
        while held != sent:  # the kernel's buffers fill, and then nothing moves
            held = sent
            await asyncio.sleep(0.2)
        assert sent < 64 * 2**20
        await running.pass_time(301.0)
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="the idle end")
        assert running.seen.outcomes[0].why == "tunnel_idle"


async def test_what_cannot_be_reached_is_told() -> None:
    async with origin(back) as app:
        pass
    async with proxy(near(app)) as running:
        for line in (f"CONNECT 127.0.0.1:{app}", f"GET http://127.0.0.1:{app}/"):
            head, _ = await ask(running.port, f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert status(head) == 502 and running.seen.outcomes[-1].why == "upstream_refused"


async def test_a_tunnel_ends_with_its_gateway() -> None:
    async with origin(back) as app, proxy(near(app)) as running, tunnel(running, app) as (reader, _):
        assert await reader.readexactly(5) == b"early"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.gateway.close(1.0))
            assert await asyncio.wait_for(reader.read(-1), 5) == b""
        assert running.seen.outcomes[0].why == "going_away"
