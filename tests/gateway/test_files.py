"""Files from the disk, on real sockets: over every protocol, in parts, to clients that stop reading, and explained."""

import asyncio
import contextlib
import email
import email.message
import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.harness import Running, ask, client, document, get, length_of, read_head, secure, serving, status
from tests.gateway.test_explaining import told
from tests.gateway.test_protocols import VERSIONS, curl
from tests.support import wait_until

LARGE = random.Random(5).randbytes(3_000_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small site."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_bytes(b"<h1>home</h1>")
    (site / "sub" / "index.html").write_bytes(b"sub")
    (site / "a.js").write_bytes(b"0123456789")
    (site / "a.js.br").write_bytes(b"in br")
    (site / "a.js.gz").write_bytes(b"in gzip")
    (site / "empty.txt").write_bytes(b"")
    (site / "large.bin").write_bytes(LARGE)
    (site / ".env").write_bytes(b"secret")
    return site


def routes(root: Path) -> list[dict[str, Any]]:
    """Routes with files, plain and with every word."""
    full = {
        "root": str(root),
        "precompressed": ["br", "gzip"],
        "cache_control": "max-age=60",
        "fallback": "/index.html",
    }
    return [
        {"name": "site", "match": {"path_prefix": "/"}, "files": {"root": str(root)}},
        {"name": "app", "match": {"path_prefix": "/app"}, "files": full,
         "stages": [{"rewrite": {"path_prefix": "/"}}, {"response_headers": {"set": {"x-a": "${path}"}}}]},
        {"name": "gone", "match": {"path_prefix": "/gone"}, "files": {"root": str(root / "gone")}},
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def site(root: Path) -> AsyncIterator[Running]:
    """A gateway that serves it by HTTP/1.1 alone."""
    async with serving(lambda port: document(port, [], routes(root))) as running:
        yield running


def field(head: bytes, name: str) -> str | None:
    """A field of a head."""
    return email.message_from_bytes(head.partition(b"\r\n")[2])[name]


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_protocol_serves_files(root: Path, version: str) -> None:
    async with secure(make=lambda port: document(port, [], routes(root))) as (running, ca):
        answer = await curl(running.port, version, ca, "/")
        assert (answer.status_code, answer.content) == (200, b"<h1>home</h1>")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        answer = await curl(running.port, version, ca, "/large.bin")
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(LARGE).digest()
        answer = await curl(running.port, version, ca, "/large.bin", headers={"range": "bytes=1000-2000999"})
        assert answer.status_code == 206 and answer.content == LARGE[1000:2_001_000]
        assert answer.headers["content-range"] == f"bytes 1000-2000999/{len(LARGE)}"
        answer = await curl(running.port, version, ca, "/large.bin", method="HEAD")
        assert answer.headers["content-length"] == str(len(LARGE)) and answer.content == b""
        again = await curl(running.port, version, ca, "/large.bin", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304 and again.content == b""
        assert (await curl(running.port, version, ca, "/empty.txt")).content == b""
        assert (await curl(running.port, version, ca, "/nothing")).status_code == 404
        assert (await curl(running.port, version, ca, "/a.js", method="POST", data=b"x" * 300_000)).status_code == 405
        seen = running.seen.outcomes
        assert [one.status for one in seen] == [200, 200, 206, 200, 304, 200, 404, 405]
        assert [one.response_body_bytes for one in seen[1:4]] == [len(LARGE), 2_000_000, 0]
        assert {one.route for one in seen} == {"site"} and seen[1].first_byte_seconds > 0
    assert running.gateway.active == 0


@pytest.mark.parametrize(("path", "fields", "method", "expected"), [
    ("/a.js", (), "GET", 200), ("/sub", (), "GET", 308), ("/sub/", (), "GET", 200), ("/.env", (), "GET", 404),
    ("/%2e%2e/secret", (), "GET", 404), ("/..%2fsecret", (), "GET", 404), ("/a.js/", (), "GET", 404),
    ("/a.js", ("If-Match: \"x\"",), "GET", 412), ("/a.js", ("Range: bytes=10-",), "GET", 416),
    ("/a.js", ("Range: bytes=2-3",), "GET", 206), ("/a.js", (), "PUT", 405), ("/gone/x", (), "GET", 500),
    ("/app/no/such/page", (), "GET", 200), ("/app/a.js", ("Accept-Encoding: gzip",), "GET", 200),
    ("/app/sub", (), "GET", 308),
])  # fmt: skip
async def test_answers_and_what_is_told_of_them(
    root: Path, path: str, fields: tuple[str, ...], method: str, expected: int
) -> None:
    async with site(root) as running:
        head, _ = await ask(running.port, get(path, *fields, method=method))
        assert status(head) == expected
        (outcome,) = running.seen.outcomes
        explained = told(running, path, *fields, method=method)
        assert (explained.status, explained.why) == (outcome.status, outcome.why)
        if expected == 405:
            assert field(head, "allow") == "GET, HEAD"
        if expected == 416:
            assert field(head, "content-range") == "bytes */10"
        if expected == 308:
            assert field(head, "location") == path + "/" and explained.steps[-1].text.endswith(path + "/")


async def test_words_of_a_route_with_files(root: Path) -> None:
    async with site(root) as running:
        head, body = await ask(running.port, get("/app/a.js?x", "Accept-Encoding: gzip;q=0.5, br"))
        assert body == b"in br" and field(head, "content-encoding") == "br"
        assert field(head, "content-type") == "text/javascript; charset=utf-8"
        assert field(head, "vary") == "accept-encoding" and field(head, "cache-control") == "max-age=60"
        assert field(head, "x-a") == "/app/a.js"
        plain, body = await ask(running.port, get("/app/a.js"))
        assert body == b"0123456789" and field(plain, "content-encoding") is None
        assert field(plain, "vary") == "accept-encoding" and field(plain, "etag") != field(head, "etag")
        head, body = await ask(running.port, get("/app/page"))
        assert body == b"<h1>home</h1>" and field(head, "content-type") == "text/html; charset=utf-8"


async def test_several_ranges_are_parts_of_one_answer(root: Path) -> None:
    async with site(root) as running:
        head, body = await ask(running.port, get("/large.bin", "Range: bytes=-5, 0-299999,7-7"))
        assert status(head) == 206 and length_of(head) == len(body)
        message = email.message_from_bytes(
            b"content-type: " + (field(head, "content-type") or "").encode() + b"\n\n" + body
        )
        parts = message.get_payload()
        assert isinstance(parts, list)
        total = len(LARGE)
        assert [part["content-range"] for part in parts if isinstance(part, email.message.Message)] == [
            f"bytes {total - 5}-{total - 1}/{total}", f"bytes 0-299999/{total}", f"bytes 7-7/{total}",
        ]  # fmt: skip
        assert LARGE[-5:] in body and LARGE[:300_000] in body
        outcome = running.seen.outcomes[0]
        assert (outcome.status, outcome.response_body_bytes) == (206, len(body))


async def test_a_client_that_does_not_read_holds_one_piece_and_is_cut(root: Path) -> None:
    with (root / "huge.bin").open("wb") as file:
        file.truncate(2**30)
    async with site(root) as running, client(running.port) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a Transport
        writer.write(get("/huge.bin"))
        exchanges = running.gateway._worker.exchanges
        await wait_until(lambda: exchanges, within_seconds=5, what="the exchange")
        (exchange,) = exchanges
        await wait_until(
            lambda: exchange._response_bytes and not exchange.stream.writable,  # type: ignore[attr-defined] # an Exchange
            within_seconds=5, what="the client's end to be full",
        )  # fmt: skip
        sent = exchange._response_bytes  # type: ignore[attr-defined] # as above
        assert sent < 64 * 2**20, "what the kernel takes, and not the file"
        running.clock.push(61.0)
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="the end")
        (outcome,) = running.seen.outcomes
        assert outcome.why == "cut_client" and outcome.response_body_bytes == sent
    assert not [path for path in open_files() if path.endswith("huge.bin")]


async def test_a_file_that_becomes_shorter_is_cut_and_not_ended(root: Path) -> None:
    path = root / "huge.bin"
    with path.open("wb") as file:
        file.truncate(2**28)
    async with site(root) as running, client(running.port) as (reader, writer):
        writer.write(get("/huge.bin"))
        assert length_of(await read_head(reader)) == 2**28
        os.truncate(path, 10)
        with pytest.raises(asyncio.IncompleteReadError):
            await asyncio.wait_for(reader.readexactly(2**28), 20)
        assert running.seen.outcomes[0].why == "cut_file"


async def test_a_client_that_leaves_leaves_no_file_open(root: Path) -> None:
    async with site(root) as running:
        for _ in range(20):
            async with client(running.port) as (reader, writer):
                writer.write(get("/large.bin"))
                await reader.read(1000)
        await wait_until(lambda: not running.gateway.active, within_seconds=5, what="the ends")
        await wait_until(
            lambda: not [path for path in open_files() if path.endswith("large.bin")], within_seconds=5, what="closing"
        )


async def test_a_disk_that_hangs_holds_up_nothing_else(root: Path) -> None:
    released = threading.Event()
    async with site(root) as running:
        disk = running.gateway._worker.disk
        try:
            for _ in range(disk._max_workers):
                disk.submit(released.wait, 30)
            async with client(running.port) as (reader, writer):
                writer.write(get("/a.js"))
                await wait_until(lambda: running.gateway.active, within_seconds=5, what="the exchange")
                head, _ = await ask(running.port, get("/.meridian/health"))
                assert status(head) == 200
                running.clock.push(61.0)
                head = await read_head(reader)
                assert status(head) == 504 and running.seen.outcomes[0].why == "file_timeout"
        finally:
            released.set()
        head, body = await ask(running.port, get("/a.js"))
        assert body == b"0123456789"


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(descriptor.readlink()))
    return found
