"""What both sides of HTTP/2 share: streams under flow control (RFC 9113 section 5.2), on the h2 library.

Invariants:
- What comes holds at most one window a stream: credit is given by `consumed` alone.
- What goes out holds at most what was sent on after `writable` turned False. Held data goes out in turns of one frame a
  stream, so that a big message does not starve a small one.
- What the other side breaks within one stream costs it that stream; what it breaks beyond that costs it the
  connection, by GOAWAY. Either way it costs us a bounded amount of work: see the budgets.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, ProtocolError

from meridian.wire.events import Data, End, Event, Headers, Trailers, Writable
from meridian.wire.fields import CONNECTION_FIELDS, Budget, MalformedError, check_trailers
from meridian.wire.http2_connection import Connection, IdleFrame

STREAM_WINDOW_BYTES = 256 * 1024
"""Body that one stream may have in our memory: 20 Mbit/s at a round trip of 100 ms."""


SLICE_BYTES = 4096
"""Of what comes so much is read at once: h2 reads all that it is given before we see the first event of it, and what is
too much is to be refused before all of it is read."""


class TooMuchError(Exception):
    """A budget is spent; `why` is of which."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(reason)
        self.why = why


@dataclass(slots=True)
class Stream:
    """What a codec knows of one stream beyond h2. `unconsumed`: body bytes handed on and not yet credited."""

    method: bytes
    received: bool  # the message of the other side is complete
    body_left: int | None = None  # of the body that its content-length promises
    begun: bool = False  # the head of ours is out
    sent: bool = False  # all of ours is out
    protocol: bytes = b""  # that it asks for
    unconsumed: int = 0
    credit: int = 0
    held: deque[bytes | memoryview] = field(default_factory=deque)
    moved: int = 0  # bytes that went out since `stalled` was asked last
    end_held: bool = False
    trailers_held: Headers | None = None


class Http2Codec:
    """The half of `wire/http2` and `wire/http2_client` that does not care who asks and who answers."""

    def __init__(self, clock: Callable[[], float], h2: Connection, idle_frames: Budget) -> None:
        """`clock` gives monotonic seconds; it is asked only for frames that a budget counts."""
        self._clock = clock
        self._h2 = h2
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[int, None] = {}  # streams that flow control has stopped, in the order of their turns
        self._events: list[Event] = []
        self._idle_frames = idle_frames
        self._windows_owed = 0  # WINDOW_UPDATEs that what we have sent is an occasion for
        self._failed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            DataReceived: self._on_data,
            TrailersReceived: self._on_trailers,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_settings,
            PingReceived: self._on_idle_frame,
            SettingsAcknowledged: self._on_idle_frame,
            PingAckReceived: self._on_idle_frame,
            IdleFrame: self._on_idle_frame,
            PriorityUpdated: self._on_idle_frame,
            UnknownFrameReceived: self._on_idle_frame,
        }

    # What each side does in its own way

    def _on_reset(self, event: StreamReset) -> None:
        raise NotImplementedError

    def _on_broken_stream(self, stream_id: int, reason: str) -> None:
        """The other side has broken the rules within one stream."""
        raise NotImplementedError

    def _fail(self, reason: str, why: str = "malformed") -> None:
        """It has broken them beyond that: the connection is over. `why`: see events.Refused."""
        raise NotImplementedError

    def _credit_connection(self, count: int) -> None:
        """So many bytes more may come on the connection."""
        raise NotImplementedError

    def _finish(self, stream_id: int, stream: Stream) -> None:
        """Our message is out."""
        raise NotImplementedError

    def _drop(self, stream_id: int) -> Stream | None:
        """Forgets a closed stream."""
        self._h2.forget(stream_id)
        self._blocked.pop(stream_id, None)
        return self._streams.pop(stream_id, None)

    # What comes

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes, returns events. A broken connection is answered by GOAWAY, and its last event says so."""
        if self._failed:
            return []
        if len(data) <= SLICE_BYTES:
            self._receive(data)
        else:
            for at in range(0, len(data), SLICE_BYTES):
                self._receive(data[at : at + SLICE_BYTES])
                if self._failed:
                    break
        events, self._events = self._events, []
        return events

    def _receive(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(event)
        except ProtocolError as error:
            # h2 has put a GOAWAY into the output. What the frames before this one said is lost with the connection.
            why = "header" if isinstance(error, DenialOfServiceError) else "malformed"
            self._fail(str(error) or type(error).__name__, why)
        except TooMuchError as error:
            self._h2.say_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
            self._fail(str(error), error.why)

    @property
    def mid_head(self) -> bool:
        """Whether a header block has begun and its end has not come."""
        return self._h2.incoming_buffer.in_block

    def _on_data(self, event: DataReceived) -> None:
        stream_id, data, length = event.stream_id or 0, event.data or b"", event.flow_controlled_length or 0
        stream = self._streams.get(stream_id)
        if stream is None:
            self._credit_connection(length)
            return
        if data:
            if stream.body_left is not None:
                stream.body_left -= len(data)
            stream.unconsumed += len(data)
            self._events.append(Data(stream_id, data if type(data) is bytes else bytes(data)))
        elif event.stream_ended is None:
            self._on_idle_frame(event)
        if length > len(data):  # padding
            self._credit_stream(stream_id, stream, length - len(data))

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream_id = event.stream_id or 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            trailers = check_trailers(event.headers or [])
            if stream.body_left:  # h2 looks only at the end of DATA
                raise MalformedError("the body is shorter than its content-length")
        except MalformedError as error:
            self._on_broken_stream(stream_id, str(error))
            return
        if trailers:
            self._events.append(Trailers(stream_id, trailers))

    def _on_end(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id or 0)
        if stream is not None:
            stream.received = True
            self._events.append(End(event.stream_id or 0))

    def _on_window(self, event: WindowUpdated) -> None:
        if self._windows_owed > 0:
            self._windows_owed -= 1
        else:
            self._on_idle_frame(event)
        if self._blocked and (not event.stream_id or event.stream_id in self._blocked):
            self._flush()

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._on_idle_frame(event)
        if self._blocked:
            self._flush()  # the initial window may have grown, and with it every stream's

    def _on_idle_frame(self, event: object) -> None:
        if not self._idle_frames.spend(self._clock()):
            raise TooMuchError(f"too many frames that ask for nothing ({type(event).__name__})", "idle_frames")

    # What goes out

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Sends what the windows let out; the rest is held."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.begun or stream.end_held:
            return
        if not stream.held:
            h2, room = self._h2, self._room(stream_id)
            if len(data) <= room and len(data) <= h2.max_outbound_frame_size:  # the common path: one frame
                if data or end:
                    h2.send_data(stream_id, data, end_stream=end)
                    self._sent(stream, len(data))
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
        """Sends trailers after all that is held, and ends the message."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.begun or stream.end_held:
            return
        fields = [field for field in headers if field[0] not in CONNECTION_FIELDS]
        if not fields:
            self.send_data(stream_id, b"", end=True)
        elif stream.held:
            stream.end_held, stream.trailers_held = True, fields
        else:
            self._h2.send_headers(stream_id, fields, end_stream=True)
            self._finish(stream_id, stream)

    def consumed(self, stream_id: int, count: int) -> None:
        """Credits `count` bytes that were handed on."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.unconsumed -= count
            self._credit_stream(stream_id, stream, count)

    def writable(self, stream_id: int) -> bool:
        """False while data is held or a window is shut."""
        return stream_id in self._streams and stream_id not in self._blocked

    def take_output(self) -> bytes:
        """Returns and forgets what has to be written."""
        return self._h2.data_to_send()

    @property
    def holds(self) -> bool:
        """Whether a window has stopped a stream."""
        return bool(self._blocked)

    def stalled(self, bytes_min: float) -> list[int]:
        """Streams whose held data has moved by less than so much since this was asked last."""
        found = [one for one in self._blocked if self._streams[one].held and self._streams[one].moved < bytes_min]
        for stream_id in self._blocked:
            self._streams[stream_id].moved = 0
        return found

    # Within

    def _sent(self, stream: Stream, count: int) -> None:
        """An occasion to open the windows of stream and connection; some clients do for each kilobyte."""
        stream.moved += count
        self._windows_owed += 2 + count // 512

    def _take_turn(self, stream_id: int, stream: Stream) -> bool:
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
            self._sent(stream, len(piece))
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
                stream = self._streams[stream_id]
                moved = self._take_turn(stream_id, stream) or moved
                if stream_id not in self._blocked and not stream.sent:
                    self._events.append(Writable(stream_id))

    def _credit_stream(self, stream_id: int, stream: Stream, count: int) -> None:
        stream.credit += count
        if stream.credit >= STREAM_WINDOW_BYTES // 2 and not stream.received and self._is_open(stream_id):
            self._h2.increment_flow_control_window(stream.credit, stream_id)
            stream.credit = 0
