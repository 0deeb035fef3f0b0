"""Small real servers that misbehave on purpose, one way per path, over HTTP/1.1, HTTP/2 and HTTP/3.

/ok the right answer (BODY); /close the right answer and the end of the connection; /status 500; /cut fewer bytes than
promised; /long an answer with more bytes than expected; /drop no answer and the end of the connection; /hang no
answer; /reset (h2, h3) a reset stream; /refuse (h2, h3) every second request is refused as not processed; /goaway
(h2, h3) the right answer, then GOAWAY that refuses all later streams.
"""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import trustme
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent
from tests.support import wait_until

BODY = b"the right answer\n" * 100
HOST = "shop.example.com"


@dataclass(frozen=True, slots=True)
class Authority:
    """A private authority's files, for servers and clients of one test session."""

    ca_file: str
    certificate_file: str
    key_file: str


def make_authority(folder: Path) -> Authority:
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, "localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for number, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(folder / "cert.pem", append=number > 0)
    return Authority(str(folder / "ca.pem"), str(folder / "cert.pem"), str(folder / "key.pem"))


def _server_tls(authority: Authority, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    context.set_alpn_protocols([protocol])
    return context


@asynccontextmanager
async def h1_server(authority: Authority | None = None) -> AsyncIterator[int]:
    """Yields the port."""
    tls = _server_tls(authority, "http/1.1") if authority is not None else None
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        await _h1_connection(reader, writer)
        open_writers.discard(writer)

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in list(open_writers):
            writer.transport.abort()
        await wait_until(lambda: not open_writers, within_seconds=5, what="connections closed")


async def _h1_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            match head.split(" ")[1]:
                case "/ok":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))
                case "/chunked":
                    writer.write(
                        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                    )
                    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
                case "/close":
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
                    )
                    break
                case "/closes-later":  # keep-alive by its words, but gone a moment later, while idle
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))
                    await asyncio.sleep(0.01)
                    break
                case "/status":
                    writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: 7\r\n\r\nbroken\n")
                case "/cut":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY[:10]))
                    break
                case "/long":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY) + 1, BODY + b"x"))
                case "/other":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY[::-1]))
                case "/garbage":
                    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
                case "/hang":
                    await reader.read()
                case _:
                    break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def h2_server(authority: Authority) -> AsyncIterator[int]:
    """Yields the port."""
    loop = asyncio.get_running_loop()
    standing: set[asyncio.Transport] = set()
    tls = _server_tls(authority, "h2")
    server = await loop.create_server(lambda: _H2Connection(standing), "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for transport in list(standing):
            transport.abort()
        await wait_until(lambda: not standing, within_seconds=5, what="connections closed")


class _H2Connection(asyncio.Protocol):
    numbers = itertools.count()

    def __init__(self, standing: set[asyncio.Transport]) -> None:
        self._standing = standing
        self._gone = False

    def connection_lost(self, error: Exception | None) -> None:
        self._standing.discard(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._standing.add(self._transport)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="ascii"))
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                assert event.stream_id is not None
                self._answer(event.stream_id, dict(cast("list[tuple[str, str]]", event.headers))[":path"])
        self._flush()

    def _answer(self, stream_id: int, path: str) -> None:
        if self._gone:
            return
        match path:
            case "/status":
                self._send(stream_id, "500", b"broken\n")
            case "/cut":
                self._h2.send_headers(stream_id, [(":status", "200"), ("content-length", str(len(BODY)))])
                self._h2.send_data(stream_id, BODY[:10])
                self._flush()
                self._transport.close()
            case "/short":
                self._h2.send_headers(stream_id, [(":status", "200"), ("content-length", str(len(BODY)))])
                self._h2.send_data(stream_id, BODY[:10], end_stream=True)
            case "/reset":
                self._h2.send_headers(stream_id, [(":status", "200")])
                self._h2.send_data(stream_id, BODY[:10])
                self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
            case "/refuse" if next(self.numbers) % 2:
                self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            case "/refuse-all":
                self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            case "/drop":
                self._transport.close()
            case "/hang":
                pass
            case "/goaway":
                # The answer comes after GOAWAY, as it does when a server drains.
                self._transport.write(bytes.fromhex("000008070000000000") + stream_id.to_bytes(4, "big") + bytes(4))
                self._send(stream_id, "200", BODY)
                self._gone = True
            case "/close":
                self._send(stream_id, "200", BODY)
                self._flush()
                self._transport.close()
            case _:
                self._send(stream_id, "200", BODY)

    def _send(self, stream_id: int, status: str, body: bytes) -> None:
        self._h2.send_headers(stream_id, [(":status", status), ("content-length", str(len(body)))])
        self._h2.send_data(stream_id, body, end_stream=True)

    def _flush(self) -> None:
        self._transport.write(self._h2.data_to_send())


@asynccontextmanager
async def h3_server(authority: Authority) -> AsyncIterator[int]:
    """Yields the port."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(authority.certificate_file, authority.key_file)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=_H3Connection)
    try:
        transport = cast("asyncio.DatagramTransport", server._transport)
        yield transport.get_extra_info("sockname")[1]
    finally:
        server.close()


class _H3Connection(QuicConnectionProtocol):
    numbers = itertools.count()
    _http: H3Connection | None = None
    _gone = False

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is not None:
            for http_event in self._http.handle_event(event):
                if isinstance(http_event, HeadersReceived):
                    self._answer(self._http, http_event.stream_id, dict(http_event.headers)[b":path"].decode())

    def _answer(self, http: H3Connection, stream_id: int, path: str) -> None:
        if self._gone:
            return
        match path:
            case "/status":
                self._send(http, stream_id, b"500", b"broken\n")
            case "/cut":
                http.send_headers(stream_id, [(b":status", b"200"), (b"content-length", b"%d" % len(BODY))])
                http.send_data(stream_id, BODY[:10], end_stream=True)
            case "/reset":
                self._quic.reset_stream(stream_id, ErrorCode.H3_INTERNAL_ERROR)
            case "/refuse" if next(self.numbers) % 2:
                self._quic.reset_stream(stream_id, ErrorCode.H3_REQUEST_REJECTED)
            case "/refuse-all":
                self._quic.reset_stream(stream_id, ErrorCode.H3_REQUEST_REJECTED)
            case "/drop":
                self._quic.close(ErrorCode.H3_INTERNAL_ERROR)
            case "/hang":
                pass
            case "/goaway":
                # Of a draining server: this stream is answered, later ones are not (RFC 9114 section 5.2).
                refused = (0x8000_0000 | (stream_id + 4)).to_bytes(4, "big")
                self._quic.send_stream_data(http._local_control_stream_id or 0, b"\x07\x04" + refused)
                self._send(http, stream_id, b"200", BODY)
                self._gone = True
            case _:
                self._send(http, stream_id, b"200", BODY)

    def _send(self, http: H3Connection, stream_id: int, status: bytes, body: bytes) -> None:
        http.send_headers(stream_id, [(b":status", status), (b"content-length", b"%d" % len(body))])
        http.send_data(stream_id, body, end_stream=True)
