"""One downstream connection over QUIC: it binds the listener's sockets, the codec, and one exchange a stream.

Invariant: it ends by a deadline whatever the client does (of the handshake, then of the transport's own idle timer),
and once over it is known to nobody. All calls come from the loop and none awaits; what one batch or one turn of the
loop has to send leaves together.
"""

import asyncio
from dataclasses import replace
from typing import Protocol

from meridian.core.guards import Guards
from meridian.gateway.client_certificate import client_certificate
from meridian.gateway.stream import Exchange, Peer
from meridian.wire.events import Data, End, Event, Headers, Refused, RequestHead, Reset, Trailers, Writable
from meridian.wire.http3 import Http3Server

Address = tuple[tuple[str, int], int]
"""The client's socket address (longer for IPv6) and the number of our socket."""


class Owner(Protocol):
    """What a connection needs from its listener."""

    def now(self) -> float:
        """Monotonic seconds."""

    def call_soon(self, connection: "QuicDownstream") -> None:
        """Flushes after the current callbacks."""

    def call_at(self, when: float, connection: "QuicDownstream") -> asyncio.TimerHandle:
        """Wakes the connection."""

    def send(self, datagram: bytes, address: Address) -> None:
        """Sends from the socket that was asked."""

    def exchange_of(self, head: RequestHead, stream: "QuicStream", peer: Peer) -> Exchange:
        """Asks for the exchange of a request."""

    def handshaken(self, connection: "QuicDownstream") -> None:
        """The client's address is proved."""

    def refused(self, status: int, why: str) -> None:
        """A client wanted too much: see events.Refused."""

    def identify(self, connection: "QuicDownstream", connection_id: bytes, *, issued: bool) -> None:
        """A connection id now leads, or no longer leads, to the connection."""

    def forget(self, connection: "QuicDownstream", *, half_open: bool) -> None:
        """The connection is over."""


class QuicDownstream:
    """See the module's head. `connection.DownstreamConnection` is its sister for TCP."""

    __slots__ = (
        "_asks", "_done", "_flushing", "_handshake_until", "_listener", "_requests_left", "_timer", "_timer_at",
        "codec", "ids", "peer", "streams",
    )  # fmt: skip

    def __init__(
        self, listener: Owner, codec: Http3Server, peer: Peer, now: float, guards: Guards, *, asks: bool = False
    ) -> None:
        """`asks`: the client may show a certificate, which `peer` learns of when the handshake is over."""
        self._asks = asks
        self.ids: set[bytes] = set()
        self.streams: dict[int, QuicStream] = {}
        self.peer = peer
        self._listener = listener
        self.codec = codec
        self._handshake_until: float | None = now + guards.header_seconds
        self._requests_left = guards.requests_per_connection_max
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._done = False
        self._flushing = False  # a flush is certain to come: at the end of this batch, or soon

    def received(self, data: bytes, address: Address, now: float) -> None:
        """Handles a datagram. The listener flushes after its batch. An exception is a fault of ours: it costs this
        connection and goes to the loop's handler."""
        self._flushing = True
        try:
            events = self.codec.receive_datagram(data, address, now)
            if self._asks and self.codec.handshake_complete:  # a request may come with the last of the handshake
                self._asks = False
                if (der := self.codec.peer_certificate) is not None:
                    self.peer = replace(self.peer, certificate=client_certificate(der))
            self._dispatch(events)
        except BaseException:
            self._over()
            raise

    def wake(self) -> None:
        """The timer."""
        self._timer = None
        if self._done:
            return
        now = self._listener.now()
        deadline = self.codec.deadline()
        self._flushing = True
        if self._handshake_until is not None and now >= self._handshake_until:
            self.codec.close()
            self._over()
            return
        if deadline is not None and deadline <= now:
            self._dispatch(self.codec.handle_timer(now))
        self.flush()

    def touch(self) -> None:
        """Something was sent or credited outside a batch: flush once, soon."""
        if self.codec.dirty and not self._flushing:
            self._flushing = True
            self._listener.call_soon(self)

    def flush(self) -> None:
        """Sends what there is to send, and sets the timer."""
        self._flushing = False
        if self._done:
            return
        codec, listener = self.codec, self._listener
        for connection_id, issued in codec.connection_ids:
            listener.identify(self, connection_id, issued=issued)
        codec.connection_ids.clear()
        if self._handshake_until is not None and codec.handshake_complete:
            self._handshake_until = None
            listener.handshaken(self)
        if codec.closing and not codec.ended:
            codec.close()
        for datagram, address in codec.datagrams(listener.now()):
            listener.send(datagram, address)
        if codec.ended or codec.is_fresh:
            self._over()
        else:
            self._set_timer()

    def turn_away(self) -> None:
        """Its client has too many connections."""
        self._dispatch(self.codec.turn_away())

    def shut_down(self) -> None:
        """Drain."""
        self.codec.shut_down()
        self.flush()

    def abandon(self) -> None:
        """Ends at once."""
        self.codec.close()
        self.flush()
        self._over()

    def _over(self) -> None:
        if self._done:
            return
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listener.forget(self, half_open=self._handshake_until is not None)
        self._handshake_until = None
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.exchange.on_reset("the connection is over")

    def _set_timer(self) -> None:
        """A timer that is early is left alone: it finds out when it fires. Most are moved later by every packet."""
        deadline = self.codec.deadline()
        if self._handshake_until is not None:
            deadline = min(deadline or self._handshake_until, self._handshake_until)
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._listener.call_at(deadline, self)

    def _dispatch(self, events: list[Event]) -> None:
        streams = self.streams
        for event in events:
            if isinstance(event, RequestHead):
                self._begin(event)
                continue
            if isinstance(event, Refused):
                self._listener.refused(event.status, event.why)
                continue
            if not isinstance(event, Data | End | Trailers | Reset | Writable):
                continue
            known = streams.get(event.stream_id)
            if known is None:  # answered already
                continue
            if isinstance(event, Data):
                known.exchange.on_body(event.data)
            elif isinstance(event, End):
                known.exchange.on_body_end()
            elif isinstance(event, Writable):
                if known.blocked:
                    known.blocked = False
                    known.exchange.on_writable()
            elif isinstance(event, Trailers):
                known.exchange.on_trailers(event.headers)
            else:
                del streams[event.stream_id]
                known.exchange.on_reset(event.reason)

    def _begin(self, head: RequestHead) -> None:
        self._requests_left -= 1
        if self._requests_left <= 0:
            self.codec.shut_down()
        stream = self.streams[head.stream_id] = QuicStream(self, head.stream_id)
        try:
            stream.exchange = self._listener.exchange_of(head, stream, self.peer)
        except BaseException:
            self.streams.pop(head.stream_id, None)
            raise


class QuicStream:
    """See stream.DownstreamStream: one exchange's door to its client."""

    __slots__ = ("_connection", "_id", "blocked", "exchange")

    exchange: Exchange

    def __init__(self, connection: QuicDownstream, stream_id: int) -> None:
        self._connection = connection
        self._id = stream_id
        self.blocked = False  # `writable` was asked for and was False: `on_writable` is owed

    @property
    def writable(self) -> bool:
        """See DownstreamStream."""
        if self._connection.codec.writable(self._id):
            return True
        self.blocked = True
        return False

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """See DownstreamStream."""
        self._connection.codec.respond(self._id, status, headers, end=end)
        self._sent(end)

    def upgrade(self, headers: Headers) -> None:
        """See DownstreamStream."""
        self._connection.codec.upgrade(self._id, headers)
        self._sent(False)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """See DownstreamStream."""
        self._connection.codec.respond(self._id, status, headers, end=False)
        self.send_data(body, end=True)

    def inform(self, status: int, headers: Headers) -> None:
        """See DownstreamStream."""
        self._connection.codec.inform(self._id, status, headers)

    def send_data(self, data: bytes, *, end: bool) -> None:
        """See DownstreamStream."""
        self._connection.codec.send_data(self._id, data, end=end)
        self._sent(end)

    def send_trailers(self, headers: Headers) -> None:
        """See DownstreamStream."""
        self._connection.codec.send_trailers(self._id, headers)
        self._sent(True)

    def reset(self, reason: str) -> None:
        """See DownstreamStream."""
        self._connection.codec.reset(self._id, reason)
        self._sent(True)

    def consumed(self, count: int) -> None:
        """See DownstreamStream."""
        self._connection.codec.consumed(self._id, count)
        self._connection.touch()

    def pause_body(self) -> None:
        """See DownstreamStream. Paused by credit: `consumed` is not called."""

    def resume_body(self) -> None:
        """See DownstreamStream."""

    def flush(self) -> None:
        """See DownstreamStream. Several streams' sends of one turn of the loop leave together."""
        self._connection.touch()

    def _sent(self, end: bool) -> None:
        if end:
            self._connection.streams.pop(self._id, None)
        self._connection.touch()
