"""HTTP/3: a few QUIC connections, many streams. GOAWAY ends a connection's future, not its streams.

The socket is connected, so that an answer from another address than the one asked is never taken.
"""

import asyncio
from collections import deque

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, FrameType, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
    StreamDataReceived,
    StreamReset,
)

from chaosmeridian.connections.shot import Pool, Route, Shot, Target

CONNECTIONS = 2
WAITING_MAX = 1024  # per connection, before the handshake: two seconds of 500 requests per second
IDLE_TIMEOUT_SECONDS = 30.0
WINDOW_BYTES = 1024 * 1024


class H3Pool(Pool):
    """See Pool. A request goes to the connection with the fewest streams."""

    def __init__(self, target: Target, route: Route, connections: int = CONNECTIONS) -> None:
        """Opens up to `connections` at a time, when requests come. Raises OSError if the CA file cannot be read."""
        self.target, self.route = target, route
        self._count = connections
        self._usable: list[_Connection] = []
        self._leaving: set[_Connection] = set()
        self._configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=H3_ALPN,
            server_name=route.host,
            idle_timeout=IDLE_TIMEOUT_SECONDS,
            max_stream_data=WINDOW_BYTES,
        )
        if route.ca_file is not None:
            self._configuration.load_verify_locations(route.ca_file)

    def send(self, shot: Shot) -> None:
        """See Pool.send."""
        quietest = min(self._usable, key=lambda connection: connection.load, default=None)
        if quietest is None or (quietest.load > 0 and len(self._usable) < self._count):
            quietest = _Connection(self, QuicConnection(configuration=self._configuration))
            self._usable.append(quietest)
            self.route.tasks.create_task(self._open(quietest))
        quietest.take(shot)

    def abandon(self, shot: Shot) -> None:
        """See Pool.abandon."""
        for connection in (*self._usable, *self._leaving):
            connection.abandon(shot)

    def close(self) -> None:
        """See Pool.close."""
        for connection in (*self._usable, *self._leaving):
            connection.end("closed by the client")

    async def _open(self, connection: "_Connection") -> None:
        address = (self.target.address, self.target.port)
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: connection, remote_addr=address)
        except OSError as error:
            connection.refused(str(error))
        else:
            connection.start(address)

    def leaves(self, connection: "_Connection") -> None:
        """A connection takes no more requests."""
        if connection in self._usable:
            self._usable.remove(connection)
            self._leaving.add(connection)

    def left(self, connection: "_Connection") -> None:
        """A connection ended."""
        self.leaves(connection)
        self._leaving.discard(connection)


class _Connection(QuicConnectionProtocol):
    def __init__(self, pool: H3Pool, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._pool = pool
        self._http: H3Connection | None = None
        self._ready = False
        self._leaving = False
        self._streams: dict[int, Shot] = {}
        self._waiting: deque[Shot] = deque()
        self._control = _ControlStreams()
        self._connect_timer: asyncio.TimerHandle | None = None

    @property
    def load(self) -> int:
        """Requests under way or waiting here."""
        return len(self._streams) + len(self._waiting)

    def start(self, address: tuple[str, int]) -> None:
        """Begins the handshake."""
        seconds = self._pool.route.connect_timeout_seconds
        self._connect_timer = self._loop.call_later(seconds, self.refused, f"no handshake within {seconds} s")
        self.connect(address)

    def take(self, shot: Shot) -> None:
        """Sends the request, or keeps it until the handshake is done."""
        if self._ready:
            self._send(shot)
            self.transmit()
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(shot)
        else:
            shot.fail("connect", f"{WAITING_MAX} requests wait for a handshake already")

    def abandon(self, shot: Shot) -> None:
        """Stops a stream that timed out. The connection may be stuck: later requests go elsewhere."""
        if shot in self._waiting:
            self._waiting.remove(shot)
        for stream_id, other in list(self._streams.items()):
            if other is shot:
                del self._streams[stream_id]
                self._quic.stop_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
                self.transmit()
                self._leave()

    def refused(self, detail: str) -> None:
        """The connection never stood."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for shot in waiting:
            shot.fail("connect", detail)
        self.end(detail)

    def end(self, detail: str) -> None:
        """Closes the connection; what is under way is lost."""
        self._pool.left(self)
        if self._connect_timer is not None:
            self._connect_timer.cancel()
        streams, self._streams = self._streams, {}
        for shot in streams.values():
            shot.lost(detail)
        waiting = list(self._waiting)
        self._waiting.clear()
        for shot in waiting:  # these were never sent
            if shot.may_go_again(self._pool.route):
                self._pool.send(shot)
        if self._transport is not None and not self._transport.is_closing():
            self.close(ErrorCode.H3_NO_ERROR)
            self._transport.close()

    def error_received(self, error: Exception) -> None:
        """Of asyncio: ICMP. Nobody listens, if the handshake has not begun; later only silence counts (RFC 9000)."""
        if not self._ready:
            self.refused(str(error))

    def quic_event_received(self, event: QuicEvent) -> None:
        """Of aioquic."""
        match event:
            case ProtocolNegotiated():
                self._http = H3Connection(self._quic)
            case HandshakeCompleted():
                self._on_ready()
            case StreamReset(stream_id=stream_id, error_code=error_code):
                self._on_reset(stream_id, error_code)
            case ConnectionTerminated(error_code=code, reason_phrase=reason):
                detail = f"connection closed with {code:#x} {reason}".rstrip()
                self.end(detail) if self._ready else self.refused(detail)
                return
            case StreamDataReceived(stream_id=stream_id, data=data) if stream_id % 4 == 3:
                first_refused = self._control.feed(stream_id, data)
                if first_refused is not None:
                    self._on_goaway(first_refused)
        if self._http is not None:
            for http_event in self._http.handle_event(event):
                self._on_http(http_event)

    def _on_ready(self) -> None:
        if self._connect_timer is not None:
            self._connect_timer.cancel()
        self._ready = True
        self._pool.route.opened()
        while self._waiting:
            self._send(self._waiting.popleft())

    def _send(self, shot: Shot) -> None:
        assert self._http is not None
        stream_id = self._quic.get_next_available_stream_id()
        self._streams[stream_id] = shot
        self._http.send_headers(
            stream_id,
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", self._pool.route.host.encode()),
                (b":path", shot.path.encode()),
                (b"user-agent", b"meridian-load"),
            ],
            end_stream=True,
        )

    def _on_http(self, event: H3Event) -> None:
        if not isinstance(event, (HeadersReceived, DataReceived)):
            return
        shot = self._streams.get(event.stream_id)
        if shot is None:
            return
        if isinstance(event, DataReceived):
            shot.data(event.data)
        else:
            fields = dict(event.headers)
            if b":status" in fields and fields[b":status"][:1] != b"1":
                shot.head(int(fields[b":status"]))
        if event.stream_ended:
            del self._streams[event.stream_id]
            shot.complete()
            self._close_if_empty()

    def _on_reset(self, stream_id: int, error_code: int) -> None:
        shot = self._streams.pop(stream_id, None)
        if shot is None:
            return
        if error_code != ErrorCode.H3_REQUEST_REJECTED:
            shot.fail("reset", f"stream reset with {error_code:#x} after {shot.received} body bytes")
        elif shot.may_go_again(self._pool.route):
            self._pool.send(shot)
        self._close_if_empty()

    def _on_goaway(self, first_refused: int) -> None:
        """RFC 9114 section 5.2: streams from this one on were not processed."""
        self._leave()
        for stream_id, shot in list(self._streams.items()):
            if stream_id >= first_refused:
                del self._streams[stream_id]
                if shot.may_go_again(self._pool.route):
                    self._pool.send(shot)
        self._close_if_empty()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._pool.leaves(self)

    def _close_if_empty(self) -> None:
        if self._leaving and not self._streams:
            self._loop.call_soon(self.end, "closed by the client")  # not within aioquic's own walk over its events


class _ControlStreams:
    """Finds GOAWAY on the server's control stream, which aioquic reads over (RFC 9114 sections 6.2.1 and 7.2.6)."""

    BYTES_MAX = 4096  # a control frame of a sane server is a few bytes; a longer one is not looked for

    def __init__(self) -> None:
        self._unread: dict[int, bytes] = {}

    def feed(self, stream_id: int, data: bytes) -> int | None:
        """Takes bytes of a unidirectional stream; returns the identifier of a GOAWAY in them."""
        first = stream_id not in self._unread
        unread = self._unread.get(stream_id, b"") + data
        if first:
            if unread[:1] != b"\0":  # an encoder's or a decoder's stream
                return None
            unread = unread[1:]
        identifier, at = None, 0
        while (frame := _frame(unread, at)) is not None:
            kind, payload, at = frame
            if kind == FrameType.GOAWAY and (read := _variable_integer(payload, 0)) is not None:
                identifier = read[0]
        self._unread[stream_id] = unread[at:][: self.BYTES_MAX]
        return identifier


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Type, payload and end of the frame at `at` (RFC 9114 section 7.1); None if it is not all there."""
    kind = _variable_integer(data, at)
    size = _variable_integer(data, kind[1]) if kind is not None else None
    if kind is None or size is None or size[1] + size[0] > len(data):
        return None
    return kind[0], data[size[1] : size[1] + size[0]], size[1] + size[0]


def _variable_integer(data: bytes, at: int) -> tuple[int, int] | None:
    """Value and end of a variable-length integer (RFC 9000 section 16)."""
    if at >= len(data):
        return None
    end = at + (1 << (data[at] >> 6))
    if end > len(data):
        return None
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end
