"""Clients that are not ours, before a real service: curl (curl_cffi: nghttp2, ngtcp2) over HTTP/1.1, HTTP/2 and HTTP/3,
and Chromium over HTTP/3, which runs the checks of page.html. grpcio: test_grpc; `websockets`: test_websocket.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.gateway.harness import Reader, Running, Writer, document, origin, read_message, secure, upstream
from tests.gateway.test_protocols import VERSIONS
from websockets.asyncio.server import serve

BROWSER_FLOOR = 20
CURL_FLOOR = 14


class Service:
    """What the checks ask of a service."""

    def __init__(self) -> None:
        self.reported: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._next_piece = asyncio.Event()

    async def speak(self, reader: Reader, writer: Writer) -> None:
        """One connection."""
        while True:
            head, body = await read_message(reader)
            method, path = head.decode().split(" ")[:2]
            await self._answer(method, path, head, body, writer)
            await writer.drain()

    async def _answer(self, method: str, path: str, head: bytes, body: bytes, writer: Writer) -> None:
        _, word, *rest = path.split("/")
        if word == "pieces":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await self._next_piece.wait()
            writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
            return
        if word == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            await writer.drain()
            writer.close()
            raise ConnectionResetError
        status, fields, answer = 200, "", b""
        if word == "":
            fields = "Content-Type: text/html\r\n"
            answer = Path(__file__).with_name("page.html").read_bytes()
        elif word == "echo":
            answer = b"%d" % len(body)
        elif word == "bytes":
            answer = b"x" * int(rest[0])
        elif word == "status":
            status = int(rest[0])
            answer = rest[0].encode() if status != 204 else b""
        elif word == "redirect":
            status, fields = 302, "Location: /echo\r\n"
        elif word == "etag":
            status, fields = (304 if b'"one"' in head else 200), 'ETag: "one"\r\n'
        elif word == "cookie":
            fields = f"Set-Cookie: large={'z' * 3000}\r\n"
        elif word == "cookie-size":
            answer = b"%d" % len(head.partition(b"large=")[2].partition(b"\r\n")[0])
        elif word == "next-piece":
            self._next_piece.set()
        elif word == "events":
            fields, answer = "Content-Type: text/event-stream\r\n", b"data: one\n\ndata: two\n\n"
        elif word == "held":
            await asyncio.shield(self.reported)
        elif word == "report" and not self.reported.done():
            self.reported.set_result(json.loads(body))
        length = "" if status in (204, 304) else f"Content-Length: {len(answer)}\r\n"
        writer.write(f"HTTP/1.1 {status} Said\r\n{fields}{length}\r\n".encode())
        if method != "HEAD":
            writer.write(answer)


@contextlib.asynccontextmanager
async def before_a_service() -> AsyncIterator[tuple[Service, Running, str]]:
    """A gateway that speaks all three, and an authority's file."""
    service = Service()

    async def talk(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with origin(service.speak) as app, serve(talk, "127.0.0.1", 0) as talking:
        port = next(iter(talking.sockets)).getsockname()[1]
        routes: list[dict[str, Any]] = [
            {"name": "talk", "match": {"path": "/talk"}, "upstream": "talk", "websocket": {}},
            {"name": "all", "upstream": "app"},
        ]
        upstreams = [upstream(app), upstream(port, name="talk")]
        async with secure(make=lambda own: document(own, upstreams, routes)) as (running, ca):
            yield service, running, ca


def report(what: str, seen: dict[str, str], floor: int) -> None:
    """The score, and what was wrong."""
    wrong = {name: why for name, why in seen.items() if why}
    print(f"\n{what}: {len(seen) - len(wrong)} of {len(seen)}")  # noqa: T201
    assert not wrong and len(seen) >= floor, wrong


def is_body(body: bytes) -> Callable[[Any], bool]:
    """200 with it."""
    return lambda answer: (answer.status_code, answer.content) == (200, body)


LARGE = {f"x-large-{number}": "y" * 1000 for number in range(20)}
CURL: dict[str, tuple[str, str, dict[str, Any], Callable[[Any], bool]]] = {
    "GET": ("GET", "/echo", {}, is_body(b"0")),
    "POST of 1 MiB": ("POST", "/echo", {"data": b"x" * 2**20}, is_body(b"1048576")),
    "PUT without a body": ("PUT", "/echo", {}, is_body(b"0")),
    "DELETE": ("DELETE", "/echo", {}, is_body(b"0")),
    "an empty body": ("GET", "/bytes/0", {}, is_body(b"")),
    "4 MiB down": ("GET", "/bytes/4194304", {}, lambda answer: len(answer.content) == 2**22),
    "HEAD": ("HEAD", "/bytes/100", {}, lambda seen: seen.headers["content-length"] == "100" and not seen.content),
    "204": ("GET", "/status/204", {}, lambda answer: answer.status_code == 204 and not answer.content),
    "304": ("GET", "/etag", {"headers": {"If-None-Match": '"one"'}}, lambda answer: answer.status_code == 304),
    "404 with a body": ("GET", "/status/404", {}, lambda seen: (seen.status_code, seen.content) == (404, b"404")),
    "a redirect": ("GET", "/redirect", {}, lambda answer: answer.redirect_count == 1 and answer.content == b"0"),
    "a cookie of 3000 bytes": ("GET", "/cookie", {}, lambda answer: len(answer.cookies["large"]) == 3000),
    "fields of 20 KiB": ("GET", "/echo", {"headers": LARGE}, is_body(b"0")),
    "an answer that breaks off": ("GET", "/cut", {}, lambda answer: False),
}


@pytest.mark.parametrize("version", VERSIONS)
async def test_curl(version: str) -> None:
    seen: dict[str, str] = {}
    async with (
        before_a_service() as (_, running, ca),
        curl_cffi.AsyncSession(verify=ca, trust_env=False) as session,  # type: ignore[arg-type] # or a path
    ):
        ask = partial(session.request, http_version=VERSIONS[version], timeout=20)

        async def look(name: str) -> None:
            method, path, options, right = CURL[name]
            try:
                answer: Any = await ask(method, f"https://localhost:{running.port}{path}", **options)
            except curl_cffi.CurlError as error:
                seen[name] = "" if path == "/cut" else str(error)
            else:
                seen[name] = "" if right(answer) else f"{answer.status_code} {answer.content[:80]!r}"

        await asyncio.gather(*map(look, CURL))
    report(f"curl over HTTP/{version}", seen, CURL_FLOOR)


def pin_of(port: int) -> str:
    """Of the public key that is shown, which Chromium is told to trust."""
    shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
    key = shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


async def test_chromium_over_http3(tmp_path: Path) -> None:
    async with before_a_service() as (service, running, _):
        where = f"localhost:{running.port}"
        pin = await asyncio.to_thread(pin_of, running.port)
        process = await asyncio.create_subprocess_exec(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}",
            "--host-resolver-rules=MAP localhost 127.0.0.1", f"--origin-to-force-quic-on={where}",
            f"--ignore-certificate-errors-spki-list={pin}", "--dump-dom", f"https://{where}/",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            seen = await asyncio.wait_for(service.reported, 60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the session that it was made, with all that it has started
            await process.wait()
    report("Chromium over HTTP/3", seen, BROWSER_FLOOR)
