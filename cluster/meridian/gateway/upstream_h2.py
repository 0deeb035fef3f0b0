"""One connection to an endpoint that speaks HTTP/2, and the streams on it: each serves one exchange.

Invariants:
- What is under way for an exchange that its client does not take is at most one window of its stream; the others on the
  connection go on (wire/http2_client).
- What several exchanges send in one turn of the loop leaves together.
- A connection whose peer is gone without a word is found by the kernel's keepalive, not by PING: gRPC's servers close a
  connection that pings more often than every five minutes.
"""

import asyncio
import socket
from collections.abc import Callable
from ssl import SSLError
from typing import Protocol, cast

from meridian.gateway.answers import Failure
from meridian.gateway.upstream import WRITE_BUFFER_BYTES, User
from meridian.gateway.upstream_tls import tls_failure
from meridian.wire.events import ConnectionEnded, Data, Event, Headers, RequestHead, Reset, Writable
from meridian.wire.http1_parts import MalformedError
from meridian.wire.http2_client import Http2Client

KEEPALIVE_SECONDS = 15
KEEPALIVE_PROBES = 3
UNACKNOWLEDGED_SECONDS = 30
"""A peer that vanished is known after about so long: between the patience of a caller and a route that flaps."""


class Owner(Protocol):
    """A pool, as its shared connections see it."""

    def changed(self, connection: "SharedConnection") -> None:
        """Streams have come free, or fewer or more are allowed, or none any more."""

    def lost(self, connection: "SharedConnection") -> None:
        """The connection is closed."""


class SharedConnection(asyncio.Protocol):
    """See the module's head."""

    __slots__ = (
        "_busy", "_codec", "_loop", "_owner", "_transport", "_write_soon", "fault", "greeted", "idle_since", "outdated",
        "served", "streams", "write_paused",
    )  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], *, tls: bool) -> None:
        """Made by a pool for one attempt to connect, which is over when `greeted` is done."""
        self._owner = owner
        self._loop = loop
        self._codec = Http2Client(clock, b"https" if tls else b"http")
        self._transport: asyncio.Transport
        self._busy = False  # inside a batch, at whose end all is written
        self._write_soon = False
        self.streams: dict[int, SharedStream] = {}
        self.served = False  # it has had streams before
        self.write_paused = False
        self.idle_since = 0.0
        self.outdated = False  # see pool.Connection
        self.fault: Failure | None = None
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.greeted.add_done_callback(asyncio.Future.exception)  # an attempt that was given up does not ask

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speaks first: preface and SETTINGS."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // KEEPALIVE_PROBES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000)
        self._write()

    def data_received(self, data: bytes) -> None:
        """Runs one batch: bytes to events, each stream's events together to its exchange, one write at the end."""
        self._dispatch(self._codec.receive(data))

    def eof_received(self) -> bool:
        """All that is open is lost."""
        self._dispatch(self._codec.receive_eof())
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tells pool and exchanges."""
        if isinstance(error, SSLError):
            self.fault = tls_failure(error)
        reason = "the upstream reset the connection" if error else "the upstream is gone"
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError(reason))
        self._owner.lost(self)
        for stream in tuple(self.streams.values()):
            stream.take([Reset(stream.id, reason)])

    def pause_writing(self) -> None:
        """The socket is full: exchanges see `writable` False."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self.write_paused = False
        for stream in tuple(self.streams.values()):
            stream.on_writable()

    # The pool's calls

    def usable(self) -> bool:
        """Whether it looks alive: a close that has reached us is known here before `connection_lost`."""
        return not self._transport.is_closing()

    def room(self, streams_max: int) -> bool:
        """Whether one stream more may be opened, of `streams_max` at most."""
        return len(self.streams) < min(streams_max, self._codec.streams_max) and not (
            self.outdated or self._transport.is_closing()
        )

    @property
    def streams_max(self) -> int:
        """What the endpoint allows; 0 once it takes no more."""
        return self._codec.streams_max

    def open_stream(self) -> "SharedStream":
        """Only where there is room; it counts from `begin` on."""
        return SharedStream(self, self._codec, reused=self.served)

    def abort(self) -> None:
        """Ends it at once, whatever is under way."""
        self._transport.abort()

    def close(self) -> None:
        """Ends it; what is to be written still is. For one that is idle."""
        self._transport.close()

    # The streams' calls

    def flush(self) -> None:
        """Writes what was sent, soon."""
        if not self._busy and not self._write_soon:
            self._write_soon = True
            self._loop.call_soon(self._write)

    def forget(self, stream: "SharedStream") -> None:
        """The stream is over."""
        if self.streams.pop(stream.id, None) is not None and not self._busy:
            self._settle()

    # Within

    def _dispatch(self, events: list[Event]) -> None:
        self._busy = True
        batches: dict[int, list[Event]] = {}
        ended = ""
        for event in events:
            if type(event) is ConnectionEnded:
                ended = event.reason
            else:
                batches.setdefault(event.stream_id, []).append(event)  # type: ignore[union-attr] # no other is without
        for stream_id, batch in batches.items():
            stream = self.streams.get(stream_id)
            if stream is not None:
                stream.take(batch)
        self._busy = False
        if not self.greeted.done():
            if ended:
                self.greeted.set_exception(ConnectionError(f"the upstream does not speak HTTP/2: {ended}"))
            elif self._codec.greeted:
                self.greeted.set_result(None)
        self._settle()

    def _settle(self) -> None:
        """After a batch, or when a stream has ended outside of one."""
        self._write()
        if self._codec.ended:
            self._transport.close()
        self._owner.changed(self)

    def _write(self) -> None:
        self._write_soon = False
        output = self._codec.take_output()
        if output and not self._transport.is_closing():  # uvloop raises; `connection_lost` is on its way
            self._transport.write(output)


class SharedStream:
    """See upstream.UpstreamStream: one exchange's door to its upstream."""

    __slots__ = (
        "_blocked", "_codec", "_connection", "_read_paused", "_uncredited", "_user", "id", "malformed", "reused",
        "silent", "unprocessed",
    )  # fmt: skip

    def __init__(self, connection: SharedConnection, codec: Http2Client, *, reused: bool) -> None:
        self._connection = connection
        self._codec = codec
        self._user: User | None = None
        self._blocked = False  # `writable` was asked for and was False: `on_upstream_writable` is owed
        self._read_paused = False
        self._uncredited = 0
        self.id = 0  # before `begin`
        self.silent = True
        self.malformed = False
        self.unprocessed = False
        self.reused = reused

    @property
    def fault(self) -> Failure | None:
        """See UpstreamStream."""
        return self._connection.fault

    # The connection's calls

    def take(self, events: list[Event]) -> None:
        """What has come in one batch."""
        user = self._user
        assert user is not None
        passed_on: list[Event] = []
        for event in events:
            kind = type(event)
            if kind is Writable:
                self.on_writable()
                continue
            if kind is Data:
                self._uncredited += len(event.data)  # type: ignore[union-attr] # as `kind is` says
            elif isinstance(event, Reset):
                self.malformed, self.unprocessed = event.malformed, event.unprocessed
                self._connection.forget(self)
            if kind is not Reset:
                self.silent = False
            passed_on.append(event)
        if passed_on and self._user is not None:
            user.on_events(passed_on)
            self._credit()

    def on_writable(self) -> None:
        """The upstream takes more of the request, if somebody waits for that."""
        if self._blocked and self._user is not None and self.writable:
            self._blocked = False
            self._user.on_upstream_writable()

    # The exchange's calls

    @property
    def writable(self) -> bool:
        """See UpstreamStream."""
        if not self._connection.write_paused and self._codec.writable(self.id):
            return True
        self._blocked = True
        return False

    def begin(self, user: User, head: RequestHead, authority: bytes, target: bytes, headers: Headers,
              lines: bytes) -> None:  # fmt: skip
        """See UpstreamStream."""
        if head.protocol and not self._codec.takes_protocols:
            raise MalformedError(501, "the endpoint takes no extended CONNECT")
        fields = headers + [
            (name, value) for name, _, value in [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
        ]
        connection = self._connection
        self.id = self._codec.new_stream_id()
        self._codec.request(
            self.id, head.method, authority, target, fields, body_length=head.body_length, has_body=head.has_body,
            protocol=head.protocol,
        )  # fmt: skip
        self._user = user
        connection.streams[self.id] = self
        connection.served = True

    def hand_to(self, user: User) -> None:
        """See UpstreamStream."""
        self._user = user

    def send_data(self, data: bytes, *, end: bool) -> None:
        """See UpstreamStream."""
        self._codec.send_data(self.id, data, end=end)

    def send_trailers(self, headers: Headers) -> None:
        """See UpstreamStream."""
        self._codec.send_trailers(self.id, headers)

    def flush(self) -> None:
        """See UpstreamStream."""
        self._connection.flush()

    def pause_reading(self) -> None:
        """See UpstreamStream. Paused by credit."""
        self._read_paused = True

    def resume_reading(self) -> None:
        """See UpstreamStream."""
        self._read_paused = False
        self._credit()
        self._connection.flush()

    def release(self) -> None:
        """See UpstreamStream: a request that is not whole by now is not wanted any more."""
        self._over()

    def abort(self) -> None:
        """See UpstreamStream."""
        self._over()

    def _over(self) -> None:
        self._user = None
        self._codec.cancel(self.id)
        self._connection.flush()
        self._connection.forget(self)

    def _credit(self) -> None:
        if self._uncredited and not self._read_paused:
            self._codec.consumed(self.id, self._uncredited)
            self._uncredited = 0
