"""HTTP/1.1, HTTP/2 and HTTP/3 on one port: one exchange, one pool, the same answers. The client is curl (ngtcp2)."""

import asyncio
import hashlib
from typing import Any

import curl_cffi
import pytest
from tests.gateway.harness import Reader, Writer, origin, read_message, secure
from tests.support import free_port

VERSIONS = {"1.1": "v1", "2": "v2tls", "3": "v3only"}


async def curl(port: int, version: str, ca: str, path: str = "/", method: str = "GET", **more: Any) -> Any:
    """One request by curl."""
    async with curl_cffi.AsyncSession(verify=ca, trust_env=False) as session:  # type: ignore[arg-type] # or a path
        return await session.request(
            method,
            f"https://localhost:{port}{path}",
            http_version=VERSIONS[version],
            timeout=20,
            **more,
        )


async def digest(reader: Reader, writer: Writer) -> None:
    """An upstream that answers with the digest of the body, and says what it was asked."""
    while True:
        head, body = await read_message(reader)
        answer = hashlib.sha256(body).hexdigest().encode() + b"\n" + head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()


@pytest.mark.parametrize("version", VERSIONS)
async def test_requests_and_bodies(version: str) -> None:
    async with origin(digest) as app, secure(app) as (running, ca):
        body = bytes(range(256)) * 4000
        for method, sent in (("GET", None), ("POST", b"x"), ("PUT", body)):
            answer = await curl(running.port, version, ca, "/a?b", method, data=sent)
            assert answer.status_code == 200
            assert answer.headers["alt-svc"] == f'h3=":{running.port}"; ma=86400'
            found, _, head = answer.content.partition(b"\n")
            assert found.decode() == hashlib.sha256(sent or b"").hexdigest()
            assert head.startswith(method.encode() + b" /a?b HTTP/1.1\r\nhost: localhost:")
            assert b"x-forwarded-proto: https\r\n" in head and f"via: {version} meridian\r\n".encode() in head
        assert [seen.version.decode() for seen in running.seen.outcomes] == [version] * 3
        assert {seen.status for seen in running.seen.outcomes} == {200}
        head = (await curl(running.port, version, ca, method="HEAD")).headers
        assert int(head["content-length"]) > 64
    assert running.gateway.active == 0


async def test_one_pool_for_all() -> None:
    connections = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await digest(reader, writer)

    async with origin(app) as port, secure(port) as (running, ca):
        for version in [*VERSIONS, *VERSIONS]:
            assert (await curl(running.port, version, ca)).status_code == 200
        assert connections == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_failures_are_said_in_every_protocol(version: str) -> None:
    async def cut(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with secure(free_port()) as (running, ca):
        answer = await curl(running.port, version, ca)
        assert answer.status_code == 502 and running.seen.outcomes[0].request_id in answer.content
    async with origin(cut) as app, secure(app) as (running, ca):
        with pytest.raises(curl_cffi.CurlError):
            await curl(running.port, version, ca)
        assert running.seen.outcomes[0].why == "cut"


@pytest.mark.parametrize("version", VERSIONS)
async def test_many_at_once_and_a_large_download(version: str) -> None:
    total = 8 * 2**20

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            head, _ = await read_message(reader)
            size = total if head.startswith(b"GET /large") else 10
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(0, size, 65536):
                writer.write(bytes(min(size, 65536)))
                await writer.drain()

    async with origin(app) as port, secure(port) as (running, ca):
        paths = ["/large", *[f"/{number}" for number in range(30)]]
        answers = await asyncio.gather(*(curl(running.port, version, ca, path) for path in paths))
        assert [len(answer.content) for answer in answers] == [total] + [10] * 30


@pytest.mark.parametrize("version", VERSIONS)
async def test_health_is_told_in_each_protocol(version: str) -> None:
    async with secure(free_port()) as (running, ca):
        response = await curl(running.port, version, ca, "/.meridian/health")
        assert response.status_code == 200 and response.json() == {"node": "n1", "version": 1, "draining": False}
        assert running.seen.outcomes == []
