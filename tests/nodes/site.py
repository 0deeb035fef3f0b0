"""One real node for tests: ports, a document, an upstream, and the admin API as a client sees it."""

import asyncio
import base64
import contextlib
import functools
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import curl_cffi
import trustme
from tests.support import free_port, wait_until
from tests.telemetry.otlp_receiver import ReceivedSpan

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TOKEN = "a-token-for-tests"


class Site:
    """Flags and ports of a node on 127.0.0.1 with the embedded store."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.folder = folder
        self.upstream = upstream_port
        self.web, self.dns, self.admin = free_port(), free_port(), free_port()
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        self.token_file.chmod(0o600)
        self.key_file = folder / "cluster.key"
        self.key_file.write_bytes(b"k" * 32)
        self.key_file.chmod(0o600)

    def flags(self, *more: str, workers: int = 2) -> list[str]:
        return [
            "--name=one", "--region=eu", "--address=127.0.0.1", f"--dns-port={self.dns}", f"--workers={workers}",
            f"--admin-port={self.admin}", f"--state={self.folder / 'state'}", f"--token-file={self.token_file}",
            "--limit-nodes=1", f"--cluster-key-file={self.key_file}", *more,
        ]  # fmt: skip

    def document(self, path_prefix: str = "/", **more: object) -> str:
        value: dict[str, object] = {
            "listeners": [{"name": "web", "bind": f"0.0.0.0:{self.web}", "protocols": ["h1"]}],
            "regions": [{"name": "eu"}],
            "upstreams": [{"name": "app", "endpoints": [{"address": f"127.0.0.1:{self.upstream}"}]}],
            "routes": [{"name": "all", "match": {"path_prefix": path_prefix}, "upstream": "app"}],
            "zones": [{
                "name": "gw.example.com", "nameservers": ["ns1.gw.example.com"],
                "records": [{"name": "shop", "type": "A", "steer": {"regions": ["eu"]}, "ttl_seconds": 5}],
            }],
        }  # fmt: skip
        return json.dumps(value | more)

    def secure_document(self, otlp_endpoint: str) -> str:
        """h1, h2 and h3 on one port, everything traced. Writes the certificate's files beside the document."""
        authority = trustme.CA()
        certificate = authority.issue_cert("shop.example.com", "localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(str(self.folder / "shop.pem"))
        certificate.private_key_pem.write_to_path(str(self.folder / "shop.key"))
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        return self.document(
            listeners=[{"name": "secure", "bind": f"127.0.0.1:{self.web}", "protocols": ["h1", "h2", "h3"]}],
            certificates=[{"hosts": ["shop.example.com"], "cert_file": "shop.pem", "key_file": "shop.key"}],
            tracing={"sample_ratio": 1.0, "otlp_endpoint": otlp_endpoint},
        )

    async def check_protocols(self) -> None:
        """One request over each protocol, on connections of their own."""
        for version, number in (("v1", 2), ("v2", 3), ("v3only", 30)):
            response = await asyncio.to_thread(self._curl, version)
            assert (response.status_code, response.http_version, response.text) == (200, number, f"/{version}")

    def session(self, resumed: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        """The session of a new connection, and whether it goes on with the one that is given."""
        context = self._context
        with (
            socket.create_connection(("127.0.0.1", self.web), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=resumed) as secured,
        ):
            secured.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while secured.recv(4096):
                pass
            return secured.session, bool(secured.session_reused)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        """Of a client; sessions are of one context."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def shown(self) -> str:
        """The certificate that is served now."""
        return ssl.get_server_certificate(("127.0.0.1", self.web), timeout=10)

    def _curl(self, version: Any) -> curl_cffi.Response:
        url = f"https://localhost:{self.web}/{version}"
        trusted: Any = str(self.folder / "ca.pem")  # a path is understood, whatever the types say
        return curl_cffi.request("GET", url, http_version=version, verify=trusted, timeout=10)

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Calls the admin API. Raises urllib.error.HTTPError, with what it said, for an error."""
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", data, method=method)
        request.add_header("authorization", f"Bearer {TOKEN}")
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{error.code}: {error.read().decode()}") from None
        return json.loads(text) if text.startswith(("{", "[")) else text

    async def apply(self, document: str, *, waits: bool = True) -> int:
        """Applies a document, with the files that lie beside it, and waits until this node serves it."""
        body = {"text": document, "files": self._files(), "author": "test", "force": True}
        applied = await self.call("PUT", "/v1/config", body)
        version: int = applied["version"]
        if waits:

            async def serves() -> bool:
                status = await self.call("GET", "/v1/status")
                return bool(status["nodes"]) and status["nodes"][0]["config_version"] >= version

            await until(serves, f"version {version} acknowledged")
        return version

    def _files(self) -> dict[str, str]:
        paths = [self.folder / name for name in ("shop.pem", "shop.key")]
        return {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths if path.exists()}

    async def get(self, path: str = "/") -> bytes:
        """One request through the gateway; the whole answer. Raises OSError."""
        return await ask(self.web, path)


async def until(condition: Any, what: str, within_seconds: float = 15.0) -> Any:
    """`wait_until`, without its types."""
    return await wait_until(condition, within_seconds=within_seconds, what=what)


async def ask(port: int, path: str = "/") -> bytes:
    """One HTTP/1.1 request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    if not answer:
        raise ConnectionResetError("no answer")
    return answer


@contextlib.asynccontextmanager
async def serving_with(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP server on a free port, which it yields. At the end its connections are cut and its handlers have ended."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            writers.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await until(lambda: not writers, "handlers have ended")


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """A service that answers every request with its path; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with serving_with(answer) as port:
        yield port


def check_spans(spans: Sequence[ReceivedSpan], exchanges: int) -> None:
    """Every exchange has a server span, and its try a client span below it."""
    servers = {span.span_id for span in spans if span.kind == 2}
    parents = {span.parent_span_id for span in spans if span.kind == 3}
    assert len(servers) == exchanges and parents == servers


class Load:
    """Requests on keep-alive connections, until told to stop. Counts what came back."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.connections = connections
        self.answered = 0
        self.failures: list[str] = []
        self.slowest_seconds = 0.0
        self._stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.connections):
                tasks.create_task(self._client())

    def stop(self) -> None:
        self._stopping = True

    async def _client(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                while not self._stopping:
                    began = loop.time()
                    writer.write(b"GET /load HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                    body = await asyncio.wait_for(reader.readexactly(5), 10)
                    self.slowest_seconds = max(self.slowest_seconds, loop.time() - began)
                    if head.startswith(b"HTTP/1.1 200") and body == b"/load":
                        self.answered += 1
                    else:
                        self.failures.append(head.decode())
                    if b"connection: close" in head.lower():
                        break
                    await asyncio.sleep(0.01)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
            finally:
                writer.close()
