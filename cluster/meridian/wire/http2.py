"""HTTP/2 downstream (RFC 9113) on the h2 library, behind the door that all codecs share.

Invariants:
- A request body holds at most one window: credit is given by `consumed` alone, and a stream that ends early gives
  its share of the connection's window back.
- A response holds at most what the gateway sent on after `writable` turned False. Held data goes out in turns of one
  frame a stream, so that a big download does not starve a small one.
- What the client breaks within one stream costs it that stream; what it breaks beyond that costs it the connection,
  by GOAWAY. Either way it costs us a bounded amount of work: see the budgets.
- GOAWAY is said twice (section 6.8): first that we are about to, then, a round trip later, with the last stream that
  we take. A request on its way is not lost.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from meridian.wire.events import (
    ConnectionEnded,
    Data,
    End,
    Event,
    Headers,
    Refused,
    Reset,
    Trailers,
    Writable,
)
from meridian.wire.fields import (
    CONNECTION_FIELDS,
    HEADER_BLOCK_BYTES_MAX,
    MalformedError,
    UnwantedError,
    bodiless,
    check_trailers,
    idle_frame_budget,
    request_head,
    reset_budget,
    response_fields,
)
from meridian.wire.http2_connection import ServerConnection

STREAMS_MAX = 128
"""Requests in flight of one connection. Browsers use up to about 100; more would let one client hold a worker."""

STREAM_WINDOW_BYTES = 256 * 1024
"""Request body that one stream may have in our memory: 20 Mbit/s at a round trip of 100 ms."""

CONNECTION_WINDOW_BYTES = 1024 * 1024
"""Request bodies that one connection may have in our memory, however many streams it has."""

_LAST_STREAM_UNKNOWN = 2**31 - 1
_DRAIN_PING = b"meridian"

_SETTINGS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
    SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BLOCK_BYTES_MAX,
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
}


class _TooMuchError(Exception):
    """A budget is spent."""


@dataclass(slots=True)
class _Stream:
    """What the codec knows of one request beyond h2. `unconsumed`: body bytes handed on and not yet credited."""

    method: bytes
    request_ended: bool
    unconsumed: int = 0
    credit: int = 0
    responded: bool = False
    held: deque[bytes | memoryview] = field(default_factory=deque)
    end_held: bool = False
    trailers_held: Headers | None = None


class Http2Server:
    """See `codec.ServerCodec`. `clock` gives monotonic seconds; it is asked only for frames that a budget counts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._h2 = ServerConnection(_SETTINGS)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - 65535)
        self._streams: dict[int, _Stream] = {}
        self._blocked: dict[int, None] = {}  # streams that flow control has stopped, in the order of their turns
        self._events: list[Event] = []
        self._credit = 0  # connection-wide, given in batches
        self._resets = reset_budget()
        self._idle_frames = idle_frame_budget()
        self._draining = False  # the first GOAWAY is out
        self._refusing = False  # the last GOAWAY is out, or the client's
        self._failed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            RequestReceived: self._on_request,
            DataReceived: self._on_data,
            TrailersReceived: self._on_trailers,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_settings,
            PingReceived: self._on_idle_frame,
            PriorityUpdated: self._on_idle_frame,
            UnknownFrameReceived: self._on_idle_frame,
            PingAckReceived: self._on_ping_ack,
            ConnectionTerminated: self._on_goaway,
        }

    @property
    def closing(self) -> bool:
        """No further request is taken and none is open here: what is held for a slow client counts as open."""
        return self._failed or (self._refusing and not self._streams)

    # What comes from the client

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes, returns events. A broken connection is answered by GOAWAY and `Refused`, the last event."""
        if self._failed:
            return []
        try:
            for event in self._h2.receive_data(data):
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(event)
        except ProtocolError as error:
            # h2 has put a GOAWAY into the output. What the frames before this one said is lost with the connection.
            self._fail(str(error) or type(error).__name__)
        except _TooMuchError as error:
            self._h2.say_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
            self._fail(str(error))
        events, self._events = self._events, []
        return events

    def receive_eof(self) -> list[Event]:
        """The client closed: all that is open is reset."""
        if self._failed:
            return []
        reason = "the client closed the connection"
        self._end_all(reason)
        events, self._events = [*self._events, ConnectionEnded(reason)], []
        return events

    def _on_request(self, event: RequestReceived) -> None:
        stream_id, ended = event.stream_id or 0, event.stream_ended is not None
        if self._refusing:  # after the last GOAWAY; the client may safely repeat it elsewhere
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            self._h2.forget(stream_id)
            return
        try:
            head = request_head(stream_id, event.headers or [], b"2", ended=ended)
        except MalformedError as error:
            self._reset_for_client(stream_id, str(error))
            return
        except UnwantedError as error:
            if self._is_open(stream_id):
                self._streams[stream_id] = _Stream(b"GET", ended)
                self.respond(stream_id, error.status, [(b"content-length", b"0")], end=True)
            return
        self._streams[stream_id] = _Stream(head.method, ended)
        self._events.append(head)

    def _on_data(self, event: DataReceived) -> None:
        stream_id, data, length = event.stream_id or 0, event.data or b"", event.flow_controlled_length or 0
        stream = self._streams.get(stream_id)
        if stream is None:
            self._credit_connection(length)
            return
        if data:
            stream.unconsumed += len(data)
            self._events.append(Data(stream_id, data if type(data) is bytes else bytes(data)))
        elif event.stream_ended is None:
            self._on_idle_frame(event)
        if length > len(data):  # padding
            self._credit_stream(stream_id, stream, length - len(data))

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream_id = event.stream_id or 0
        if stream_id not in self._streams:
            return
        try:
            trailers = check_trailers(event.headers or [])
        except MalformedError as error:
            self._reset_for_client(stream_id, str(error))
            return
        if trailers:
            self._events.append(Trailers(stream_id, trailers))

    def _on_end(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id or 0)
        if stream is not None:
            stream.request_ended = True
            self._events.append(End(event.stream_id or 0))

    def _on_reset(self, event: StreamReset) -> None:
        who = "the client" if event.remote_reset else "a protocol error"
        self._drop(event.stream_id or 0, f"reset by {who}, code {event.error_code}")
        if not self._resets.spend(self._clock()):
            raise _TooMuchError("too many streams are reset")

    def _on_window(self, event: WindowUpdated) -> None:
        if self._blocked and (not event.stream_id or event.stream_id in self._blocked):
            self._flush()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._on_idle_frame(event)
        if self._blocked:
            self._flush()  # the initial window may have grown, and with it every stream's

    def _on_idle_frame(self, event: object) -> None:
        if not self._idle_frames.spend(self._clock()):
            raise _TooMuchError(f"too many frames that ask for nothing ({type(event).__name__})")

    def _on_ping_ack(self, event: PingAckReceived) -> None:
        if self._draining and not self._refusing and event.ping_data == _DRAIN_PING:
            self._h2.say_goaway(self._h2.highest_inbound_stream_id)
            self._refusing = True

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self._refusing = True

    # What goes to the client

    def respond(self, stream_id: int, status: int, headers: Headers, *, end: bool) -> None:
        """Sends a final head; it ends the response too where a body cannot follow (HEAD, 204, 304)."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.responded:
            return
        stream.responded = True
        end = end or bodiless(stream.method, status)
        self._h2.send_headers(stream_id, response_fields(status, headers), end_stream=end)
        if end:
            self._finish(stream_id, stream)

    def inform(self, stream_id: int, status: int, headers: Headers) -> None:
        """Sends a 1xx head; 101 does not exist here (RFC 9113 section 8.6)."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.responded and status != 101:
            self._h2.send_headers(stream_id, response_fields(status, headers))

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Sends what the windows let out; the rest is held."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.responded or stream.end_held:
            return
        if not stream.held:
            h2, room = self._h2, self._room(stream_id)
            if len(data) <= room and len(data) <= h2.max_outbound_frame_size:  # the common path: one frame
                if data or end:
                    h2.send_data(stream_id, data, end_stream=end)
                if end:
                    self._finish(stream_id, stream)
                elif len(data) == room:
                    self._blocked[stream_id] = None
                return
        if data:
            stream.held.append(data)
        stream.end_held = end
        if stream_id not in self._blocked:
            self._blocked[stream_id] = None
            while self._take_turn(stream_id, stream) and stream.held:
                pass

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Sends trailers after all that is held, and ends the response."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.responded or stream.end_held:
            return
        fields = [field for field in headers if field[0] not in CONNECTION_FIELDS]
        if not fields:
            self.send_data(stream_id, b"", end=True)
        elif stream.held:
            stream.end_held, stream.trailers_held = True, fields
        else:
            self._h2.send_headers(stream_id, fields, end_stream=True)
            self._finish(stream_id, stream)

    def reset(self, stream_id: int, reason: str) -> None:
        """RST_STREAM: the client sees that its response is incomplete."""
        if stream_id in self._streams:
            self._h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
            self._drop(stream_id, None)

    def consumed(self, stream_id: int, count: int) -> None:
        """Credits `count` bytes to the stream and the connection."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.unconsumed -= count
            self._credit_stream(stream_id, stream, count)

    def writable(self, stream_id: int) -> bool:
        """False while data is held or a window is shut."""
        return stream_id in self._streams and stream_id not in self._blocked

    def shut_down(self) -> None:
        """First GOAWAY and a PING, whose answer brings the last GOAWAY. Calling it again changes nothing."""
        if self._failed or self._refusing or self._draining:
            return
        self._draining = True
        self._h2.say_goaway(_LAST_STREAM_UNKNOWN)
        self._h2.ping(_DRAIN_PING)

    def take_output(self) -> bytes:
        """Returns and forgets what has to be written."""
        return self._h2.data_to_send()

    # Within

    def _take_turn(self, stream_id: int, stream: _Stream) -> bool:
        """Sends at most one frame of a blocked stream; what then still waits goes to the end of the row.

        Returns whether anything has moved.
        """
        if not self._is_open(stream_id):
            return False
        room = self._room(stream_id)
        if room <= 0 and (stream.held or not stream.end_held):
            return False
        h2 = self._h2
        del self._blocked[stream_id]
        ended = False
        if stream.held:
            piece = stream.held.popleft()
            room = min(room, h2.max_outbound_frame_size)
            if len(piece) > room:
                stream.held.appendleft(memoryview(piece)[room:])
                piece = piece[:room]
            ended = stream.end_held and not stream.held and stream.trailers_held is None
            h2.send_data(stream_id, piece, end_stream=ended)
        if stream.end_held and not stream.held and not ended:
            ended = True
            if stream.trailers_held is not None:
                h2.send_headers(stream_id, stream.trailers_held, end_stream=True)
            else:
                h2.send_data(stream_id, b"", end_stream=True)
        if ended:
            self._finish(stream_id, stream)
        elif stream.held or self._room(stream_id) <= 0:
            self._blocked[stream_id] = None
        return True

    def _is_open(self, stream_id: int) -> bool:
        """False while the event that resets the stream waits behind the one at hand: h2 reads all bytes that it is
        given before we see the first event."""
        stream = self._h2.streams.get(stream_id)
        return stream is not None and not stream.closed

    def _room(self, stream_id: int) -> int:
        """Bytes that both windows let out now; a settings change can make it negative."""
        h2 = self._h2
        return min(h2.outbound_flow_control_window, h2.streams[stream_id].outbound_flow_control_window)

    def _flush(self) -> None:
        """Turns of one frame each, until the windows are shut or nothing is held."""
        moved = True
        while moved:
            moved = False
            for stream_id in list(self._blocked):
                moved = self._take_turn(stream_id, self._streams[stream_id]) or moved
                if stream_id in self._streams and stream_id not in self._blocked:
                    self._events.append(Writable(stream_id))

    def _credit_stream(self, stream_id: int, stream: _Stream, count: int) -> None:
        stream.credit += count
        if stream.credit >= STREAM_WINDOW_BYTES // 2 and not stream.request_ended and self._is_open(stream_id):
            self._h2.increment_flow_control_window(stream.credit, stream_id)
            stream.credit = 0
        self._credit_connection(count)

    def _credit_connection(self, count: int) -> None:
        self._credit += count
        if self._credit >= CONNECTION_WINDOW_BYTES // 16:  # small, so that slow streams do not starve the others
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0

    def _finish(self, stream_id: int, stream: _Stream) -> None:
        """The response is out. A request that is still coming is not wanted any more (RFC 9113 section 8.1)."""
        if not stream.request_ended:
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._drop(stream_id, None)

    def _drop(self, stream_id: int, reason: str | None) -> None:
        """Forgets a closed stream, tells the gateway if there is a reason to, and gives its credit back."""
        self._h2.forget(stream_id)
        self._blocked.pop(stream_id, None)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            if reason is not None:
                self._events.append(Reset(stream_id, reason))
            if stream.unconsumed and not self._failed:
                self._credit_connection(stream.unconsumed)

    def _reset_for_client(self, stream_id: int, reason: str) -> None:
        self._h2.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        self._drop(stream_id, reason)
        if not self._resets.spend(self._clock()):
            raise _TooMuchError("too many malformed requests")

    def _fail(self, reason: str) -> None:
        self._end_all(reason)
        self._events.append(Refused(400, reason))

    def _end_all(self, reason: str) -> None:
        self._failed = True
        for stream_id in list(self._streams):
            self._drop(stream_id, reason)
