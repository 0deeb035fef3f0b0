"""Lines of bytes to a WebSocket service, behind the handshake: straight to it, and through a gateway over HTTP/1.1,
HTTP/2 and HTTP/3. Over the latter two all lines share one connection.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aioquic.quic.events import QuicEvent
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from tests.gateway.h2client import H2Client, h2_client
from tests.gateway.test_quic import client as h3_client

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Line:
    """What is said on it goes out at once; `head` are the fields of the answer to the handshake."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.status = 0
        self.extensions = ""
        self.ended = self.lost = False
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Says it."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Ends this side alone."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives it up."""

    def changed(self) -> None:
        """Something has come."""
        self._changed.set()

    async def until(self, done: Callable[[], Any]) -> None:
        """Waits for something that may change it, or for its end."""
        while not (done() or self.ended or self.lost):
            self._changed.clear()
            await self._changed.wait()


Open = Callable[[str], Awaitable[Line]]
"""A new line, by a handshake that offers these extensions."""

Fields = Callable[[int, str], list[tuple[bytes, bytes]]]
"""Of a request for a line, from the gateway's port and what is asked for."""


class SocketLine(Line, asyncio.Protocol):
    """Over HTTP/1.1."""

    _transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.changed()

    def eof_received(self) -> None:
        self.ended = True
        self.changed()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = not self.ended
        self.changed()

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises
            self._transport.write(data)

    def write_eof(self) -> None:
        self._transport.write_eof()

    def close(self) -> None:
        self._transport.abort()

    async def shake_hands(self, port: int, extensions: str) -> None:
        fields = ["GET / HTTP/1.1", f"Host: localhost:{port}", "Connection: Upgrade", "Upgrade: websocket",
                  "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]  # fmt: skip
        if extensions:
            fields.append(f"Sec-WebSocket-Extensions: {extensions}")
        self.write("\r\n".join([*fields, "", ""]).encode())
        await self.until(lambda: b"\r\n\r\n" in self.heard)
        head, _, rest = bytes(self.heard).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status, self.heard = int(lines[0].split(" ")[1]), bytearray(rest)
        said = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.extensions = said.get("sec-websocket-extensions", "")


async def _socket(port: int, extensions: str, context: ssl.SSLContext | None = None) -> Line:
    name = "localhost" if context else None
    _, line = await asyncio.get_running_loop().create_connection(
        SocketLine, "127.0.0.1", port, ssl=context, server_hostname=name
    )
    await line.shake_hands(port, extensions)
    return line


@contextlib.asynccontextmanager
async def straight(port: int, ca: str) -> AsyncIterator[Open]:
    """To the service itself."""
    yield lambda extensions: _socket(port, extensions)


@contextlib.asynccontextmanager
async def over_h1(port: int, ca: str) -> AsyncIterator[Open]:
    """RFC 6455 over TLS."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    yield lambda extensions: _socket(port, extensions, context)


def websocket(port: int, extensions: str) -> list[tuple[bytes, bytes]]:
    """Extended CONNECT."""
    offer = [(b"sec-websocket-extensions", extensions.encode())] if extensions else []
    return [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
        (b":authority", b"localhost:%d" % port), (b":path", b"/"), (b"sec-websocket-version", b"13"), *offer,
    ]  # fmt: skip


class Http2Line(Line):
    """A stream of HTTP/2 (RFC 8441)."""

    def __init__(self, client: H2Client, stream_id: int) -> None:
        super().__init__()
        self._client, self._id = client, stream_id
        self._held: deque[bytes | memoryview] = deque()
        self._ends = False

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self.push()

    def write_eof(self) -> None:
        self._ends = True
        self.push()

    def close(self) -> None:
        if not self.ended and not self.lost:
            self._client.h2.reset_stream(self._id)
            self._client.send()
        self._client.h2.streams.pop(self._id, None)

    def push(self) -> None:
        """What the windows let out."""
        h2 = self._client.h2
        while self._held and not (self.ended or self.lost):
            room = min(h2.local_flow_control_window(self._id), h2.max_outbound_frame_size)
            if not room:
                break
            piece = memoryview(self._held.popleft())
            if len(piece) > room:
                self._held.appendleft(piece[room:])
            h2.send_data(self._id, piece[:room])
        if self._ends and not self._held:
            self._ends = False
            h2.end_stream(self._id)
        self._client.send()

    def take(self, event: Any) -> None:
        """An event of its stream."""
        if isinstance(event, ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            self.status, self.extensions = int(fields[":status"]), fields.get("sec-websocket-extensions", "")
        elif isinstance(event, DataReceived):
            self.heard += event.data or b""
        elif isinstance(event, StreamEnded):
            self.ended = True
        elif isinstance(event, StreamReset):
            self.lost = not self.ended
        self.changed()


@contextlib.asynccontextmanager
async def over_h2(port: int, ca: str, fields: Fields = websocket) -> AsyncIterator[Open]:
    """RFC 8441."""
    lines: dict[int, Http2Line] = {}
    async with h2_client(port, ca) as client:
        while client.h2.remote_settings.enable_connect_protocol != 1:
            assert await client.read()
        client.events.clear()

        async def read() -> None:
            while events := await client.read():
                for event in events:
                    if (line := lines.get(getattr(event, "stream_id", None) or 0)) is not None:
                        line.take(event)
                client.events.clear()
                client.send()
                for line in lines.values():
                    line.push()

        async def line_of(asked: str) -> Line:
            stream_id = client.h2.get_next_available_stream_id()
            line = lines[stream_id] = Http2Line(client, stream_id)
            client.h2.send_headers(stream_id, fields(port, asked))
            client.send()
            await line.until(lambda: line.status)
            return line

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            yield line_of
            reading.cancel()


class Http3Line(Line):
    """A stream of HTTP/3 (RFC 9220)."""

    def __init__(self, client: Any, stream_id: int) -> None:
        super().__init__()
        self._client, self._id = client, stream_id

    def write(self, data: bytes) -> None:
        if not (self.ended or self.lost):
            self._client.h3.send_data(self._id, data, False)
            self._client.transmit()

    def write_eof(self) -> None:
        self._client.h3.send_data(self._id, b"", True)
        self._client.transmit()

    def take(self, seen: list[Any]) -> None:
        """What has come on its stream."""
        for event in seen:
            if not self.status:
                fields = dict(event.headers)
                self.status = int(fields[b":status"])
                self.extensions = fields.get(b"sec-websocket-extensions", b"").decode()
            else:
                self.heard += event.data
            self.ended = self.ended or event.stream_ended
        seen.clear()
        self.lost = not self.ended and (self._id in self._client.resets or self._client.ended is not None)
        self.changed()


@contextlib.asynccontextmanager
async def over_h3(port: int, ca: str, fields: Fields = websocket) -> AsyncIterator[Open]:
    """RFC 9220."""
    lines: dict[int, Http3Line] = {}
    async with h3_client(port) as client:
        taken = client.quic_event_received

        def received(event: QuicEvent) -> None:
            taken(event)
            stream_id = getattr(event, "stream_id", None)
            for line_id in lines if stream_id is None else (stream_id,):
                if (line := lines.get(line_id)) is not None:
                    line.take(client.seen.get(line_id, []))

        client.quic_event_received = received  # type: ignore[method-assign] # as soon as it comes

        async def line_of(asked: str) -> Line:
            stream_id = client._quic.get_next_available_stream_id()
            line = lines[stream_id] = Http3Line(client, stream_id)
            client.h3.send_headers(stream_id, fields(port, asked))
            client.transmit()
            await line.until(lambda: line.status)
            return line

        yield line_of


WAYS: dict[str, Callable[[int, str], contextlib.AbstractAsyncContextManager[Open]]] = {
    "the service itself": straight, "HTTP/1.1": over_h1, "HTTP/2": over_h2, "HTTP/3": over_h3,
}  # fmt: skip
