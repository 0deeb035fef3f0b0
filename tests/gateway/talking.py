"""WebSocket clients over HTTP/1.1, HTTP/2 and HTTP/3, the frames by the `websockets` library, and a service that says
back what it is told."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aioquic.h3.connection import ErrorCode
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import GoAwayFrame
from tests.gateway.h2client import h2_client
from tests.gateway.h2origin import H2Served
from tests.gateway.test_quic import client as h3_client
from tests.support import wait_until
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State

SIZE_MAX = 2**26


class Refused(Exception):
    """The answer to a handshake that was not accepted: its status."""


class Talk:
    """One WebSocket client over a stream of HTTP/2 or HTTP/3. What is lost on the way raises ConnectionResetError."""

    def __init__(self, write: Callable[[bytes, bool], None]) -> None:
        self._write = write
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self._frames: list[Frame] = []
        self.ended = self.lost = False
        self.fields: list[tuple[bytes, bytes]] = []

    def take(self, data: bytes) -> None:
        """Bytes of the stream."""
        self._protocol.receive_data(data)
        self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        self._out()

    def _out(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._write(data, False)

    async def send(self, message: str | bytes) -> None:
        """One message."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._out()

    async def _frame(self) -> Frame:
        await wait_until(
            lambda: self._frames or self.ended or self.lost, within_seconds=20, what="a frame", every_seconds=0.002
        )
        if not self._frames:
            raise ConnectionResetError("the stream was reset" if self.lost else "the stream ended without good-bye")
        return self._frames.pop(0)

    async def recv(self) -> str | bytes:
        """The next message."""
        frame = first = await self._frame()
        parts = [bytes(frame.data)]
        while not frame.fin:
            frame = await self._frame()
            parts.append(bytes(frame.data))
        whole = b"".join(parts)
        return whole.decode() if first.opcode is Opcode.TEXT else whole

    async def closed(self) -> int:
        """The status with which the other side ends it, once it has."""
        while not self._protocol.close_rcvd:
            await self._frame()
        await wait_until(lambda: self.ended or self.lost, within_seconds=20, what="the end of the stream")
        return int(self._protocol.close_rcvd.code)

    async def close(self, code: int = 1000) -> None:
        """Says good-bye."""
        self._protocol.send_close(CloseCode(code) if code < 3000 else code, "")
        self._out()


class Http1Talk:
    """The same over HTTP/1.1, all of it by the library."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.send, self.recv = connection.send, connection.recv
        self.fields = list(connection.response.headers.raw_items())

    async def closed(self) -> int:
        """See Talk."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
        await self.connection.wait_closed()
        received = self.connection.protocol.close_rcvd
        if received is None:
            raise ConnectionResetError("no close frame")
        return int(received.code)

    async def close(self, code: int = 1000) -> None:
        """See Talk."""
        await self.connection.close(code)


@contextlib.asynccontextmanager
async def over_h1(port: int, ca: str, path: str = "/") -> AsyncIterator[Any]:
    """A client."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    async with connect(f"wss://localhost:{port}{path}", ssl=context, max_size=SIZE_MAX, proxy=None) as connection:
        yield Http1Talk(connection)


def _fields(port: int, path: str) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
        (b":authority", b"localhost:%d" % port), (b":path", path.encode()), (b"sec-websocket-version", b"13"),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def over_h2(port: int, ca: str, path: str = "/") -> AsyncIterator[Talk]:
    """A client by RFC 8441."""
    async with h2_client(port, ca) as client:
        client.h2._frame_dispatch_table[GoAwayFrame] = lambda frame: (
            [],
            [ConnectionTerminated()],
        )  # else h2 says no more
        while client.h2.remote_settings.enable_connect_protocol != 1:
            assert await client.read()
        stream_id = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, _fields(port, path))
        client.send()
        held: list[bytes] = []

        def push() -> None:
            while held and not client.h2.streams[stream_id].closed:
                room = min(client.h2.local_flow_control_window(stream_id), client.h2.max_outbound_frame_size)
                if not room:
                    break
                piece = held.pop(0)
                if len(piece) > room:
                    held.insert(0, piece[room:])
                client.h2.send_data(stream_id, piece[:room])
            client.send()

        def write(data: bytes, end: bool) -> None:
            held.append(data)
            push()

        talk = Talk(write)

        async def read() -> None:
            while events := await client.read():
                for event in events:
                    if isinstance(event, DataReceived):
                        talk.take(event.data or b"")
                    talk.ended = talk.ended or isinstance(event, StreamEnded)
                    talk.lost = talk.lost or (isinstance(event, StreamReset) and not talk.ended)
                client.events.clear()
                push()

        response = await client.read_until(ResponseReceived, stream_id)
        talk.fields = [(name.encode(), value.encode()) for name, value in response.headers]
        if dict(response.headers)[":status"] != "200":
            raise Refused(int(dict(response.headers)[":status"]))
        for event in client.events:
            if isinstance(event, DataReceived):
                talk.take(event.data or b"")
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            yield talk
            reading.cancel()


@contextlib.asynccontextmanager
async def over_h3(port: int, ca: str, path: str = "/") -> AsyncIterator[Talk]:
    """A client by RFC 9220."""
    async with h3_client(port) as client:
        stream_id = client._quic.get_next_available_stream_id()
        client.h3.send_headers(stream_id, _fields(port, path))
        client.transmit()

        def write(data: bytes, end: bool) -> None:
            client.h3.send_data(stream_id, data, end)
            client.transmit()

        talk = Talk(write)
        await wait_until(lambda: client.seen.get(stream_id), within_seconds=10, what="an answer")
        talk.fields = list(client.seen[stream_id].pop(0).headers)  # type: ignore[attr-defined] # the head
        status = int(dict(talk.fields)[b":status"])
        if status != 200:
            raise Refused(status)
        settings = client.h3.received_settings or {}
        assert settings[8] == 1, "SETTINGS_ENABLE_CONNECT_PROTOCOL"
        taken = client.quic_event_received

        def received(event: Any) -> None:
            taken(event)
            for seen in client.seen.get(stream_id, []):
                talk.take(seen.data)  # type: ignore[attr-defined] # data, after the head
                talk.ended = talk.ended or bool(seen.stream_ended)  # type: ignore[attr-defined] # as above
            client.seen[stream_id] = []
            talk.lost = talk.lost or (not talk.ended and (stream_id in client.resets or client.ended is not None))

        client.quic_event_received = received  # type: ignore[method-assign] # as soon as it comes
        for seen in client.seen[stream_id]:
            talk.take(seen.data)  # type: ignore[attr-defined] # as above
        client.seen[stream_id] = []
        yield talk
        client._quic.reset_stream(stream_id, ErrorCode.H3_NO_ERROR)


OVER = {"1.1": over_h1, "2": over_h2, "3": over_h3}


async def say_back(connection: ServerConnection) -> None:
    """Each message; `close N` closes with that status."""
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            await connection.close(int(message[6:]), "as asked")
            return
        await connection.send(message)


@contextlib.asynccontextmanager
async def talking(
    handler: Callable[[ServerConnection], Awaitable[None]] = say_back, **options: Any
) -> AsyncIterator[int]:
    """A service; gives its port."""
    async with serve(handler, "127.0.0.1", 0, max_size=SIZE_MAX, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def say_back_h2(served: H2Served) -> None:
    """The same for extended CONNECT on an upstream that speaks HTTP/2; for one stream."""
    stream_id, fields = await served.request()
    assert (":method", "CONNECT") in fields and (":protocol", "websocket") in fields
    assert "sec-websocket-key" not in dict(fields) and ("sec-websocket-version", "13") in fields
    served.answer(stream_id, None)
    protocol = Protocol(Side.SERVER, state=State.OPEN)
    while not protocol.close_rcvd:
        for event in served.events:
            if isinstance(event, DataReceived) and event.stream_id == stream_id:
                protocol.receive_data(event.data or b"")
        served.events.clear()
        for frame in protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                protocol.send_text(frame.data)
        for data in protocol.data_to_send():
            if data:
                served.h2.send_data(stream_id, data)
        served.send()
        if not protocol.close_rcvd:
            await served.read()
    served.h2.end_stream(stream_id)
    served.send()
