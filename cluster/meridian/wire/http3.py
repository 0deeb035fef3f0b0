"""HTTP/3 downstream (RFC 9114) on aioquic: the verbs of all codecs, over datagrams instead of a byte stream.

The four verbs of the transport are `receive_datagram`, `handle_timer`, `deadline` and `datagrams`; whoever calls one
of the first two, or sends, calls `datagrams` and looks at `deadline` afterwards. An address is opaque here.

Invariants: as in http2. What differs: QUIC keeps a response until it is acknowledged, so `writable` turns False when
UNSENT_BYTES_MAX wait for that, and is said again when half of them are gone. A stream that ended early stays known
as gone until the client has ended its side too, because its bytes may still be under way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    PingAcknowledged,
    ProtocolNegotiated,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.stream import QuicStream

from meridian.wire.aioquic_hooks import (
    CONNECTION_ID_BYTES,
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    ServerH3,
    ServerQuic,
    StreamMalformed,
    unsent_bytes,
)
from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.events import ConnectionEnded, Data, End, Event, Headers, Refused, Reset, Trailers, Writable
from meridian.wire.fields import (
    CONNECTION_FIELDS,
    MalformedError,
    UnwantedError,
    bodiless,
    budget,
    check_trailers,
    request_head,
    response_fields,
)

UNSENT_BYTES_MAX = 256 * 1024
"""Response bytes of one stream that wait for the client's acknowledgement: 20 Mbit/s at a round trip of 100 ms."""

IDLE_SECONDS = 60.0
"""A connection on which nothing arrives is forgotten, at the latest. QUIC costs no port, but memory: about 50 KB."""

KEEPALIVE_SHARE = 1 / 3
"""After this share of it a client with an open request is asked for a sign of life: a request may be silent for longer
than a connection (a WebSocket, a slow answer), and has deadlines of its own. A client that is gone is forgotten all the
same: only what arrives counts against IDLE_SECONDS (RFC 9000 section 10.1)."""

_LAST_STREAM_UNKNOWN = 2**62 - 4
_DRAIN_PING, _KEEPALIVE_PING = 1, 2

Address = Any


def configuration(bounds: Bounds = USUAL) -> QuicConfiguration:
    """The settings of a server connection. The certificate is chosen later, by the host in the handshake."""
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        congestion_control_algorithm="cubic",
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=min(bounds.idle_seconds, IDLE_SECONDS),
        max_data=CONNECTION_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
    )


@dataclass(slots=True)
class _Stream:
    """One request. `gone`: nothing more is said about it; what still arrives is dropped."""

    quic: QuicStream
    method: bytes = b""  # b"" until the head is there
    request_ended: bool = False
    responded: bool = False
    gone: bool = False
    unconsumed: int = 0
    began: float = 0.0


class Http3Server:
    """One connection. Sending verbs: see `codec.ServerCodec`."""

    def __init__(self, quic: ServerQuic, *, is_proxy: bool = False) -> None:
        """`is_proxy`: see Http1Server."""
        self.handshake_complete = False
        self.ended = False  # forget the connection: all its ids are void
        self.dirty = False  # credit or data waits for `datagrams`
        self.connection_ids: list[tuple[bytes, bool]] = []  # (id, True: issued, False: retired), for the owner to empty
        self._quic = quic
        self._h3: ServerH3 | None = None
        self._streams: dict[int, _Stream] = {}
        self._blocked: set[int] = set()
        self._events: list[Event] = []
        self._next_stream_id = 0  # above all requests seen
        self._draining = False
        self._goaway_id: int | None = None  # requests from here on are rejected
        self._bounds = quic.bounds
        self._is_proxy = is_proxy
        self._keepalive_seconds = min(quic.bounds.idle_seconds, IDLE_SECONDS) * KEEPALIVE_SHARE
        self._resets = budget(quic.bounds.resets_max)
        self._idle_frames = budget(quic.bounds.idle_frames_max)
        self._why = ""  # of what there was too much
        self._look_at = self._stalled_at = 0.0  # when heads, and readers, are looked at next
        self._now = 0.0
        self._keepalive_at = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            StreamDataReceived: self._on_stream_data,
            StreamReset: self._on_stream_reset,
            StopSendingReceived: self._on_stop_sending,
            ProtocolNegotiated: self._on_protocol,
            HandshakeCompleted: self._on_handshake,
            ConnectionIdIssued: lambda event: self.connection_ids.append((event.connection_id, True)),
            ConnectionIdRetired: lambda event: self.connection_ids.append((event.connection_id, False)),
            PingAcknowledged: self._on_ping_acknowledged,
            ConnectionTerminated: self._on_terminated,
        }

    @property
    def peer_certificate(self) -> bytes | None:
        """The one that the client has shown, in DER; only after the handshake."""
        return self._quic.peer_certificate

    # The transport

    def receive_datagram(self, data: bytes, address: Address, now: float) -> list[Event]:
        """Takes a datagram that came from `address` at `now` (monotonic seconds). Never raises for bad input."""
        self._now = now
        self._keepalive_at = now + self._keepalive_seconds
        self._quic.receive_datagram(data, address, now)
        idle, self._quic.idle_frames = self._quic.idle_frames, 0
        for _ in range(idle):
            if not self._spend_idle():
                self._refuse_connection("too many frames that ask for nothing", "idle_frames")
                break
        return self._collect()

    def handle_timer(self, now: float) -> list[Event]:
        """To be called at `deadline`."""
        self._now = now
        self._quic.handle_timer(now)
        if now >= self._keepalive_at:
            self._keepalive_at = now + self._keepalive_seconds
            if self._streams and not self.ended:
                self._quic.send_ping(_KEEPALIVE_PING)
        if self.handshake_complete and not self.ended:
            self._look(now)
        return self._collect()

    def deadline(self) -> float | None:
        """When `handle_timer` has to be called; None once all is over."""
        timer = self._quic.get_timer()
        if timer is None or not self._quic.has_requests:
            return timer
        return min(timer, self._keepalive_at, self._look_at, self._stalled_at)

    def datagrams(self, now: float) -> list[tuple[bytes, Address]]:
        """What has to be sent now, and where to."""
        self.dirty = False
        return [] if self._quic.is_fresh else self._quic.datagrams_to_send(now)

    def turn_away(self) -> list[Event]:
        """Its client has too many connections."""
        self._refuse_connection("too many connections", "connections")
        return self._collect()

    def close(self) -> None:
        """Ends the connection at once; `datagrams` has the farewell."""
        self._quic.close(error_code=ErrorCode.H3_NO_ERROR)

    @property
    def is_fresh(self) -> bool:
        """Nothing has arrived that could be decrypted: whoever sent the first datagram does not speak QUIC."""
        return self._quic.is_fresh

    @property
    def closing(self) -> bool:
        """No request is taken any more and every response has arrived."""
        return self.ended or (
            self._goaway_id is not None
            and not any(not stream.gone for stream in self._streams.values())
            and not self._quic.has_unsent_responses
        )

    # What comes from the client

    def _collect(self) -> list[Event]:
        while (event := self._quic.next_event()) is not None:
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event)
        reason = self._quic.end_reason
        if reason is not None and self._why:
            self._events.append(Refused(400, reason, self._why))
            self._why = ""
        if reason is not None and self._streams:
            for stream_id, stream in list(self._streams.items()):
                if not stream.gone:
                    self._say_reset(stream_id, stream, reason)
            self._streams.clear()
            self._blocked.clear()
        for stream_id in list(self._blocked):
            if unsent_bytes(self._streams[stream_id].quic) <= UNSENT_BYTES_MAX // 2:
                self._blocked.discard(stream_id)
                self._events.append(Writable(stream_id))
        events, self._events = self._events, []
        return events

    def _on_protocol(self, event: ProtocolNegotiated) -> None:
        self._h3 = ServerH3(self._quic, self._spend_idle)
        if self._draining:
            self._say_first_goaway()

    def _on_handshake(self, event: HandshakeCompleted) -> None:
        self.handshake_complete = True
        self._quic.release_handshake()

    def _on_stream_data(self, event: StreamDataReceived) -> None:
        stream_id = event.stream_id
        assert self._h3 is not None
        if stream_id & 3:
            self._h3.handle_event(event)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = _Stream(self._quic.stream(stream_id), began=self._now)
            self._next_stream_id = max(self._next_stream_id, stream_id + 4)
            if self._goaway_id is not None and stream_id >= self._goaway_id:
                self._give_up(stream_id, stream, ErrorCode.H3_REQUEST_REJECTED, ErrorCode.H3_REQUEST_REJECTED)
        if not stream.gone:
            for received in self._h3.handle_event(event):
                if stream.gone:
                    break
                self._on_h3_event(stream_id, stream, received)
            if not stream.gone:
                self._credit(stream)
        if stream.gone and event.end_stream:
            self._streams.pop(stream_id, None)

    def _on_h3_event(self, stream_id: int, stream: _Stream, event: object) -> None:
        if isinstance(event, DataReceived):
            if event.data:
                stream.unconsumed += len(event.data)
                self._quic.unconsumed += len(event.data)
                self._events.append(Data(stream_id, event.data))
        elif isinstance(event, HeadersReceived):
            try:
                if stream.method:
                    self._on_trailers(stream_id, event)
                else:
                    self._on_head(stream_id, stream, event)
            except MalformedError as error:
                self._refuse(stream_id, stream, str(error))
                return
            except UnwantedError as error:
                stream.method, stream.request_ended = b"GET", event.stream_ended
                self.respond(stream_id, error.status, [(b"content-length", b"0")], end=True)
                return
        elif isinstance(event, StreamMalformed):
            self._refuse(stream_id, stream, event.reason)
            return
        else:
            return
        if event.stream_ended:
            stream.request_ended = True
            self._events.append(End(stream_id))

    def _on_head(self, stream_id: int, stream: _Stream, event: HeadersReceived) -> None:
        most = self._bounds.head_bytes_max
        if sum(len(name) + len(value) + 32 for name, value in event.headers) > most:
            raise UnwantedError(431, f"more than {most} bytes of fields")
        head = request_head(
            stream_id, event.headers, b"3", ended=event.stream_ended, bounds=self._bounds, is_proxy=self._is_proxy
        )
        head.early = not self.handshake_complete
        stream.method = head.method
        self._events.append(head)

    def _on_trailers(self, stream_id: int, event: HeadersReceived) -> None:
        trailers = check_trailers(event.headers)
        if trailers:
            self._events.append(Trailers(stream_id, trailers))

    def _on_stream_reset(self, event: StreamReset) -> None:
        """The client takes its request back."""
        stream_id = event.stream_id
        if stream_id & 3:
            if self._h3 is not None:
                self._h3.handle_event(event)
            return
        stream = self._streams.pop(stream_id, None)  # nothing more can come
        if stream is None:  # it was taken back before its first byte came
            self._quic.reset_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
        elif not stream.gone:
            self._give_up(stream_id, stream, ErrorCode.H3_REQUEST_CANCELLED, None)
            self._say_reset(stream_id, stream, f"reset by the client, code {event.error_code}")
        self._spend_reset()

    def _on_stop_sending(self, event: StopSendingReceived) -> None:
        """The client does not want the response; QUIC has already reset it."""
        stream_id = event.stream_id
        if self._h3 is not None:
            self._h3.handle_event(event)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.gone:
            self._give_up(stream_id, stream, None, ErrorCode.H3_REQUEST_CANCELLED)
            self._say_reset(stream_id, stream, f"stopped by the client, code {event.error_code}")
        self._spend_reset()

    def _on_ping_acknowledged(self, event: PingAcknowledged) -> None:
        if event.uid == _DRAIN_PING and self._goaway_id is None and self._h3 is not None:
            self._goaway_id = self._next_stream_id
            self._h3.say_goaway(self._goaway_id)
            self.dirty = True

    def _on_terminated(self, event: ConnectionTerminated) -> None:
        self.ended = True
        self._events.append(ConnectionEnded(event.reason_phrase or f"closed with code {event.error_code}"))

    # What goes to the client

    def respond(self, stream_id: int, status: int, headers: Headers, *, end: bool) -> None:
        """Sends a final head; it ends the response too where a body cannot follow (HEAD, 204, 304)."""
        stream = self._live(stream_id)
        if stream is None or stream.responded or self._h3 is None:
            return
        stream.responded = True
        end = end or bodiless(stream.method, status)
        self._h3.send_headers(stream_id, response_fields(status, headers), end_stream=end)
        self._sent(stream_id, stream, end)

    def upgrade(self, stream_id: int, headers: Headers) -> None:
        """See ServerCodec. Accepted by 200 here (RFC 9220 section 3)."""
        self.respond(stream_id, 200, headers, end=False)

    def inform(self, stream_id: int, status: int, headers: Headers) -> None:
        """Sends a 1xx head; 101 does not exist here (RFC 9114 section 4.5)."""
        stream = self._live(stream_id)
        if stream is not None and not stream.responded and status != 101 and self._h3 is not None:
            self._h3.send_headers(stream_id, response_fields(status, headers))
            self.dirty = True

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Hands a piece to QUIC, which keeps it until it is acknowledged."""
        stream = self._live(stream_id)
        if stream is not None and stream.responded and self._h3 is not None:
            if data:
                self._h3.send_data(stream_id, data, end)
            elif end:
                self._quic.send_stream_data(stream_id, b"", end_stream=True)
            self._sent(stream_id, stream, end)

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Sends trailers and ends the response."""
        fields = [field for field in headers if field[0] not in CONNECTION_FIELDS]
        if not fields:
            self.send_data(stream_id, b"", end=True)
            return
        stream = self._live(stream_id)
        if stream is not None and stream.responded and self._h3 is not None:
            self._h3.send_headers(stream_id, fields, end_stream=True)
            self._sent(stream_id, stream, True)

    def reset(self, stream_id: int, reason: str) -> None:
        """RESET_STREAM: the client sees that its response is incomplete."""
        stream = self._live(stream_id)
        if stream is not None:
            self._give_up(stream_id, stream, ErrorCode.H3_INTERNAL_ERROR, ErrorCode.H3_NO_ERROR)

    def consumed(self, stream_id: int, count: int) -> None:
        """Credits `count` bytes to the stream and the connection."""
        stream = self._live(stream_id)
        if stream is not None:
            stream.unconsumed -= count
            self._quic.unconsumed -= count
            self._credit(stream)

    def writable(self, stream_id: int) -> bool:
        """False while too much waits for acknowledgement."""
        return stream_id not in self._blocked and self._live(stream_id) is not None

    def shut_down(self) -> None:
        """First GOAWAY and a PING, whose answer brings the last GOAWAY. Calling it again changes nothing."""
        if not self.ended and not self._draining:
            self._draining = True
            if self._h3 is not None:
                self._say_first_goaway()

    # Within

    def _live(self, stream_id: int) -> _Stream | None:
        stream = self._streams.get(stream_id)
        return None if stream is None or stream.gone else stream

    def _sent(self, stream_id: int, stream: _Stream, end: bool) -> None:
        self.dirty = True
        if not end:
            if unsent_bytes(stream.quic) >= UNSENT_BYTES_MAX:
                self._blocked.add(stream_id)
        elif stream.request_ended:
            self._release(stream_id, stream)
            del self._streams[stream_id]
        else:  # the rest of the request is not wanted (RFC 9114 section 4.1)
            self._give_up(stream_id, stream, None, ErrorCode.H3_NO_ERROR)

    def _credit(self, stream: _Stream) -> None:
        if not stream.request_ended and self._quic.grant(stream.quic, stream.unconsumed):
            self.dirty = True

    def _refuse(self, stream_id: int, stream: _Stream, reason: str) -> None:
        self._give_up(stream_id, stream, ErrorCode.H3_MESSAGE_ERROR, ErrorCode.H3_MESSAGE_ERROR)
        self._say_reset(stream_id, stream, reason)
        self._spend_reset()

    def _give_up(self, stream_id: int, stream: _Stream, send_code: int | None, receive_code: int | None) -> None:
        """Ends a stream early, each direction with its code; None: that direction has ended or ends by itself."""
        self.dirty = True
        if send_code is not None:
            self._quic.reset_stream(stream_id, send_code)
        if receive_code is not None and not stream.quic.receiver.is_finished:
            self._quic.stop_stream(stream_id, receive_code)
        if self._h3 is not None:
            self._h3.forget(stream_id)
        self._release(stream_id, stream)
        stream.gone = True
        if stream.quic.receiver.is_finished:
            self._streams.pop(stream_id, None)

    def _release(self, stream_id: int, stream: _Stream) -> None:
        self._quic.unconsumed -= stream.unconsumed
        stream.unconsumed = 0
        self._blocked.discard(stream_id)

    def _say_reset(self, stream_id: int, stream: _Stream, reason: str) -> None:
        """Tells the gateway, if it knows the stream."""
        if stream.method:
            self._events.append(Reset(stream_id, reason))
            stream.method = b""

    def _spend_reset(self) -> None:
        if not self._resets.spend(self._now):
            self._refuse_connection("too many streams are reset", "resets")

    def _spend_idle(self) -> bool:
        if self._idle_frames.spend(self._now):
            return True
        self._why = "idle_frames"
        return False

    def _refuse_connection(self, reason: str, why: str) -> None:
        self._why = why
        self.dirty = True
        self._quic.close(error_code=ErrorCode.H3_EXCESSIVE_LOAD, reason_phrase=reason)

    def _look(self, now: float) -> None:
        """Whether a head has not come in time, or a response is not taken."""
        bounds = self._bounds
        if now >= self._look_at:
            since = now - bounds.header_seconds
            if any(not one.method and not one.gone and one.began <= since for one in self._streams.values()):
                self._refuse_connection("a request head did not come in time", "slow_header")
            self._look_at = now + bounds.header_seconds / 2
        if now >= self._stalled_at:
            for stream_id in self._quic.stalled(bounds.bytes_per_second_min * bounds.slow_seconds):
                self._stop_stalled(stream_id)
            self._stalled_at = now + bounds.slow_seconds

    def _stop_stalled(self, stream_id: int) -> None:
        self._events.append(Refused(400, "the client does not read", "slow_read"))
        stream = self._streams.get(stream_id)
        if stream is None or stream.gone:  # the rest of a response that is over for us
            self._quic.reset_stream(stream_id, ErrorCode.H3_INTERNAL_ERROR)
            self.dirty = True
        else:
            self._give_up(stream_id, stream, ErrorCode.H3_INTERNAL_ERROR, ErrorCode.H3_NO_ERROR)
            self._say_reset(stream_id, stream, "the client does not read")
        self._spend_reset()

    def _say_first_goaway(self) -> None:
        assert self._h3 is not None
        self._h3.say_goaway(_LAST_STREAM_UNKNOWN)
        self._quic.send_ping(_DRAIN_PING)
        self.dirty = True
