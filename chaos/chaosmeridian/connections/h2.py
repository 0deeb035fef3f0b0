"""HTTP/2 over TLS: a few connections, many streams. GOAWAY ends a connection's future, not its streams."""

import asyncio
from collections import deque
from typing import cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from chaosmeridian.connections.shot import Pool, Route, Shot, Target, tls_context

CONNECTIONS = 2
WAITING_MAX = 1024  # per connection, beyond the server's limit of streams: two seconds of 500 requests per second
WINDOW_BYTES = 1024 * 1024

_GOAWAY = 0x07
_FRAME_HEAD_BYTES = 9


class H2Pool(Pool):
    """See Pool. A request goes to the connection with the fewest streams."""

    def __init__(self, target: Target, route: Route, connections: int = CONNECTIONS) -> None:
        """Opens up to `connections` at a time, when requests come."""
        self.target, self.route = target, route
        self._count = connections
        self._tls = tls_context(route, "h2")
        self._usable: list[_Connection] = []
        self._leaving: set[_Connection] = set()

    def send(self, shot: Shot) -> None:
        """See Pool.send."""
        quietest = min(self._usable, key=lambda connection: connection.load, default=None)
        if quietest is None or (quietest.load > 0 and len(self._usable) < self._count):
            quietest = _Connection(self)
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
        try:
            async with asyncio.timeout(self.route.connect_timeout_seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    self.target.address,
                    self.target.port,
                    ssl=self._tls,
                    server_hostname=self.route.host,
                )
        except OSError as error:  # a TimeoutError and an ssl.SSLError too
            connection.refused(str(error) or type(error).__name__)

    def leaves(self, connection: "_Connection") -> None:
        """A connection takes no more requests."""
        if connection in self._usable:
            self._usable.remove(connection)
            self._leaving.add(connection)

    def left(self, connection: "_Connection") -> None:
        """A connection ended."""
        self.leaves(connection)
        self._leaving.discard(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, pool: H2Pool) -> None:
        self._pool = pool
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=False))
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Shot] = {}
        self._waiting: deque[Shot] = deque()
        self._unread = bytearray()
        self._leaving = False

    @property
    def load(self) -> int:
        """Requests under way or waiting here."""
        return len(self._streams) + len(self._waiting)

    def take(self, shot: Shot) -> None:
        """Sends the request, or keeps it until the handshake is done and a stream is free."""
        if len(self._waiting) >= WAITING_MAX:
            shot.fail("connect", f"{WAITING_MAX} requests wait for a stream already")
            return
        self._waiting.append(shot)
        self._send_waiting()

    def abandon(self, shot: Shot) -> None:
        """Resets a stream that timed out. The connection may be stuck: later requests go elsewhere."""
        if shot in self._waiting:
            self._waiting.remove(shot)
        for stream_id, other in list(self._streams.items()):
            if other is shot:
                del self._streams[stream_id]
                self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
                self._write()
                self._leave()

    def end(self, detail: str) -> None:
        """Closes the connection; what is under way is lost."""
        self._pool.left(self)
        self._lose_all(detail)
        if self._transport is not None:
            self._transport.abort()

    def refused(self, detail: str) -> None:
        """The connection never stood."""
        self._pool.left(self)
        while self._waiting:
            self._waiting.popleft().fail("connect", detail)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio, after the TLS handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._pool.route.opened()
        tls = transport.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            self.refused(f"the server chose {tls.selected_alpn_protocol()} by ALPN, not h2")
            self._transport.abort()
            return
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._write()
        self._send_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio."""
        self._pool.left(self)
        self._lose_all(f"connection closed ({error or 'end of stream'})")

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        try:
            for part in self._without_goaway(data):
                for event in self._h2.receive_data(part):
                    self._on_event(event)
        except h2.exceptions.ProtocolError as error:
            self._write()
            for shot in self._streams.values():
                shot.fail("protocol", f"{type(error).__name__}: {error}")
            self.end(f"protocol error: {error}")
            return
        self._send_waiting()
        self._write()
        self._close_if_empty()

    def _without_goaway(self, data: bytes) -> list[bytes]:
        """Whole frames, without GOAWAY: the library would refuse all that follows it, the streams under way too."""
        unread = self._unread
        unread += data
        parts, begin, at = [], 0, 0
        while len(unread) - at >= _FRAME_HEAD_BYTES:
            end = at + _FRAME_HEAD_BYTES + int.from_bytes(unread[at : at + 3], "big")
            if end > len(unread):
                break
            if unread[at + 3] == _GOAWAY:
                parts.append(bytes(unread[begin:at]))
                self._on_goaway(bytes(unread[at + _FRAME_HEAD_BYTES : end]))
                begin = end
            at = end
        parts.append(bytes(unread[begin:at]))
        del unread[:at]
        return [part for part in parts if part]

    def _on_goaway(self, payload: bytes) -> None:
        """RFC 9113 section 6.8: streams above the last one named were not processed."""
        last_stream_id = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        error_code = int.from_bytes(payload[4:8], "big")
        self._leave()
        for stream_id, shot in list(self._streams.items()):
            if stream_id > last_stream_id:
                del self._streams[stream_id]
                if shot.may_go_again(self._pool.route):
                    self._pool.send(shot)
            elif error_code != h2.errors.ErrorCodes.NO_ERROR:
                shot.fail("protocol", f"GOAWAY with error {error_code}: {payload[8:100]!r}")

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=stream_id, headers=headers):
                if (shot := self._streams.get(stream_id or 0)) is not None:
                    fields = dict(headers)
                    shot.head(int(fields[b":status"]))
            case h2.events.DataReceived(stream_id=stream_id, data=data, flow_controlled_length=length):
                self._h2.acknowledge_received_data(length or 0, stream_id or 0)
                if (shot := self._streams.get(stream_id or 0)) is not None:
                    shot.data(data or b"")
            case h2.events.StreamEnded(stream_id=stream_id):
                if (shot := self._streams.pop(stream_id or 0, None)) is not None:
                    shot.complete()
            case h2.events.StreamReset(stream_id=stream_id, error_code=error_code):
                if (shot := self._streams.pop(stream_id or 0, None)) is None:
                    return
                if error_code != h2.errors.ErrorCodes.REFUSED_STREAM:
                    shot.fail("reset", f"stream reset with {error_code!s} after {shot.received} body bytes")
                elif shot.may_go_again(self._pool.route):
                    self._pool.send(shot)

    def _send_waiting(self) -> None:
        if self._transport is None or not self._waiting:
            return
        if self._leaving:
            for shot in self._take_waiting():
                self._pool.send(shot)
            return
        while self._waiting and len(self._streams) < self._h2.remote_settings.max_concurrent_streams:
            shot = self._waiting.popleft()
            stream_id = self._h2.get_next_available_stream_id()
            self._streams[stream_id] = shot
            self._h2.send_headers(
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
        self._write()

    def _take_waiting(self) -> list[Shot]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._pool.leaves(self)
            self._send_waiting()

    def _close_if_empty(self) -> None:
        if self._leaving and not self._streams and self._transport is not None:
            self._transport.close()

    def _lose_all(self, detail: str) -> None:
        streams, self._streams = self._streams, {}
        for shot in streams.values():
            shot.lost(detail)
        for shot in self._take_waiting():  # these were never sent
            if shot.may_go_again(self._pool.route):
                self._pool.send(shot)

    def _write(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
