"""An HTTP/2 client that does only what it is told: it reads, acknowledges and opens windows when a test says so."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

WINDOW_BYTES_MAX = 2**31 - 1


class H2Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
        self.events: list[Any] = []
        self._reader, self._writer, self._port = reader, writer, port

    def begin(self) -> None:
        """With windows that let everything out."""
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES_MAX})
        self.h2.increment_flow_control_window(WINDOW_BYTES_MAX - 65535)
        self.send()

    def send(self) -> None:
        """What h2 has to say."""
        self._writer.write(self.h2.data_to_send())

    def ask(self, path: str = "/", times: int = 1) -> int:
        """GETs; the last one's stream."""
        stream_id = 0
        for _ in range(times):
            stream_id = self.h2.get_next_available_stream_id()
            fields = [
                (":method", "GET"), (":scheme", "https"), (":authority", f"localhost:{self._port}"), (":path", path)
            ]  # fmt: skip
            self.h2.send_headers(stream_id, fields, end_stream=True)
        self.send()
        return stream_id

    async def read(self) -> list[Any]:
        """The events of what comes next; nothing if the connection has ended. Nothing is acknowledged yet."""
        async with asyncio.timeout(10):  # wait_for of Python 3.11 loses a cancellation that comes with the data
            data = await self._reader.read(2**16)
        events = self.h2.receive_data(data) if data else []
        self.events += events
        return events

    async def read_until(self, kind: type, stream_id: int | None = None) -> Any:
        """The first event of that kind, and stream; what h2 says to what was read is kept back."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", None)):
                    return event
            assert await self.read(), f"the connection ended before {kind.__name__}"

    # Frames by hand: h2 says nothing more after a GOAWAY

    def say(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Sends one frame."""
        self._writer.write(
            len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload
        )

    async def frame(self, kind: int) -> bytes:
        """The payload of the next frame of that kind; the others are dropped."""
        while True:
            head = await asyncio.wait_for(self._reader.readexactly(9), 10)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == kind:
                return payload


@contextlib.asynccontextmanager
async def h2_client(port: int, ca: str) -> AsyncIterator[H2Client]:
    """Connects, with a small receive buffer, so that little fits between a gateway that writes and a test that does
    not read."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost")
    client = H2Client(reader, writer, port)
    client.begin()
    try:
        yield client
    finally:
        writer.transport.abort()
