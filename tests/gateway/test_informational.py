"""1xx answers pass from an upstream to its client over every protocol: early hints while the answer is still made, and
100 for who waits with the body until it is wanted. The client is curl (nghttp2, ngtcp2)."""

import asyncio
from collections.abc import Callable
from io import BytesIO

import pytest
from curl_cffi import Curl, CurlHttpVersion, CurlInfo, CurlOpt
from tests.gateway.harness import Reader, Writer, document, length_of, origin, read_head, secure, upstream

VERSIONS = {
    "1.1": CurlHttpVersion.V1_1, "2": CurlHttpVersion.V2TLS, "3": CurlHttpVersion.V3ONLY
}  # fmt: skip


def ask(port: int, version: str, ca: str, on_line: Callable[[bytes], None], body: bytes | None = None) -> int:
    """One request; gives each line of each head as it comes. Blocks. Returns the final status."""
    curl = Curl(cacert=ca)

    def taken(line: bytes) -> int:
        on_line(bytes(line))
        return len(line)

    curl.setopt(CurlOpt.URL, f"https://localhost:{port}/".encode())
    curl.setopt(CurlOpt.HTTP_VERSION, VERSIONS[version])
    curl.setopt(CurlOpt.HEADERFUNCTION, taken)
    curl.setopt(CurlOpt.WRITEDATA, BytesIO())
    curl.setopt(CurlOpt.TIMEOUT_MS, 20_000)
    curl.setopt(CurlOpt.PROXY, b"")
    if body is not None:
        curl.setopt(CurlOpt.POSTFIELDS, body)
        curl.setopt(CurlOpt.POSTFIELDSIZE, len(body))
        curl.setopt(CurlOpt.HTTPHEADER, [b"Expect: 100-continue"])
        curl.setopt(CurlOpt.EXPECT_100_TIMEOUT_MS, 15_000)  # longer than the test may take
    try:
        curl.perform()
        return int(curl.getinfo(CurlInfo.RESPONSE_CODE))  # type: ignore[arg-type] # a number, of this one
    finally:
        curl.close()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
async def test_early_hints_come_before_the_answer_is_made(version: str, cached: bool) -> None:
    hinted = asyncio.Event()
    loop, lines = asyncio.get_running_loop(), list[bytes]()

    def on_line(line: bytes) -> None:
        lines.append(line.rstrip().lower())
        if line.lower().startswith(b"link:"):
            loop.call_soon_threadsafe(hinted.set)

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
        )
        await asyncio.wait_for(hinted.wait(), 10)  # answers only once the client has the hints
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    stages = [{"cache": {"ttl_seconds": 60}}] if cached else []
    routes = [{"name": "all", "upstream": "app", "stages": stages}]
    async with (
        origin(slow) as app,
        secure(make=lambda port: document(port, [upstream(app)], routes)) as (running, ca),
    ):
        assert await asyncio.to_thread(ask, running.port, version, ca, on_line) == 200
        starts = [line.split(b" ")[1] for line in lines if line.startswith(b"http/")]
        assert starts == [b"103", b"200"]
        assert b"link: </a.css>; rel=preload" in lines and not any(line.startswith(b"x-hop") for line in lines)
        assert [one.status for one in running.seen.outcomes] == [200]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_body_waits_until_the_upstream_wants_it(version: str) -> None:
    early, lines = list[bytes](), list[bytes]()

    async def wants(reader: Reader, writer: Writer) -> None:
        head = await read_head(reader)
        assert b"expect: 100-continue\r\n" in head.lower()
        try:
            early.append(await asyncio.wait_for(reader.readexactly(1), 0.3))
        except TimeoutError:
            pass
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await asyncio.wait_for(reader.readexactly(length_of(head)), 10)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with origin(wants) as app, secure(app) as (running, ca):
        status = await asyncio.to_thread(ask, running.port, version, ca, lines.append, b"x" * 5000)
        starts = [line.split(b" ")[1] for line in lines if line.lower().startswith(b"http/")]
        assert (status, starts, early) == (200, [b"100", b"200"], [])
        assert running.seen.outcomes[0].request_body_bytes == 5000


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_body_that_is_not_wanted_is_not_sent(version: str) -> None:
    async def refuses(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        assert not await reader.read(1), "nothing but the end follows"

    async with origin(refuses) as app, secure(app) as (running, ca):
        assert await asyncio.to_thread(ask, running.port, version, ca, lambda line: None, b"x" * 5000) == 413
        assert running.seen.outcomes[0].request_body_bytes == 0
