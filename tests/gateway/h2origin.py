"""An upstream that speaks HTTP/2 by prior knowledge and does only what a test tells it, frame by frame."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived
from h2.settings import SettingCodes, Settings
from tests.gateway.h2client import H2Client
from tests.gateway.harness import Reader, Writer, origin

Fields = list[tuple[str, str]]


class H2Served(H2Client):
    """One connection, of the server's side."""

    def __init__(self, reader: Reader, writer: Writer, settings: dict[SettingCodes, int] | None = None) -> None:
        super().__init__(reader, writer, 0)
        self.h2 = H2Connection(H2Configuration(
            client_side=False, header_encoding="latin-1", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        ))  # fmt: skip
        self.h2.local_settings = Settings(client=False, initial_values=settings or {})
        self.crediting = True
        self.seen = 0  # events that `request` has passed by

    def begin(self) -> None:
        """SETTINGS first."""
        self.h2.initiate_connection()
        self.send()

    async def read(self) -> list[Any]:
        """As H2Client.read; what h2 says to it is sent, and with it credit for what has come."""
        events = await super().read()
        for event in events:
            if self.crediting and isinstance(event, DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        self.send()
        return events

    async def request(self) -> tuple[int, Fields]:
        """The next request: its stream and fields. Raises ConnectionError if there is none."""
        while True:
            for place in range(self.seen, len(self.events)):
                event = self.events[place]
                if isinstance(event, RequestReceived):
                    self.seen = place + 1
                    return event.stream_id or 0, [(str(name), str(value)) for name, value in event.headers or []]
            if not await self.read():
                raise ConnectionError("the gateway has closed the connection")

    def answer(self, stream_id: int, body: bytes | None = b"ok", fields: Fields | None = None) -> None:
        """A response; None: its head only, and more is to come."""
        self.h2.send_headers(stream_id, [(":status", "200"), *(fields or [])])
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        self.send()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(stream_id, code)
        self.send()

    def goaway(self, last_stream_id: int) -> None:
        """GOAWAY, and the connection goes on."""
        self.say(7, 0, 0, last_stream_id.to_bytes(4, "big") + bytes(4))

    def body(self, stream_id: int) -> bytes:
        """What has come of a request's body."""
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, DataReceived) and event.stream_id == stream_id
        )


@contextlib.asynccontextmanager
async def h2_origin(
    app: Callable[[H2Served], Awaitable[None]], settings: dict[SettingCodes, int] | None = None
) -> AsyncIterator[int]:
    """`app` speaks for each connection. Gives its port."""

    async def handler(reader: Reader, writer: Writer) -> None:
        served = H2Served(reader, writer, settings)
        served.begin()
        await app(served)

    async with origin(handler) as port:
        yield port


async def say_ok(served: H2Served) -> None:
    """Answers each request with what it was asked."""
    while True:
        stream_id, fields = await served.request()
        served.answer(stream_id, "\n".join(f"{name}: {value}" for name, value in fields).encode())


async def until_closed(served: H2Served) -> None:
    """Reads on."""
    while await served.read():
        pass
