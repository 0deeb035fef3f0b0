"""HTTP/2 downstream (RFC 9113), behind the door that all codecs share. `wire/http2_client` is upstream, and what both
share is in `wire/http2_streams`.

Invariants:
- GOAWAY is said twice (section 6.8): first that we are about to, then, a round trip later, with the last stream that we
  take. A request on its way is not lost.
- A request whose rest is not wanted, because it is answered, is reset a round trip later too. What its client says
  before it can know is heard: if it is wrong, by the code that it deserves.
"""

from collections.abc import Callable

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, PingAckReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.events import ConnectionEnded, Event, Headers, Refused, Reset
from meridian.wire.fields import (
    MalformedError,
    UnwantedError,
    bodiless,
    budget,
    request_head,
    response_fields,
)
from meridian.wire.http2_connection import Connection
from meridian.wire.http2_streams import STREAM_WINDOW_BYTES, Http2Codec, Stream, TooMuchError

CONNECTION_WINDOW_BYTES = 1024 * 1024
"""Request bodies that one connection may have in our memory, however many streams it has."""

_LAST_STREAM_UNKNOWN = 2**31 - 1
_DRAIN_PING = b"meridian"
_ANSWERED_PING = b"answered"


def _settings(bounds: Bounds) -> dict[SettingCodes, int]:
    return {
        SettingCodes.MAX_CONCURRENT_STREAMS: bounds.streams_max,
        SettingCodes.MAX_HEADER_LIST_SIZE: bounds.head_bytes_max,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,  # RFC 8441
    }


class Http2Server(Http2Codec):
    """See `codec.ServerCodec`."""

    def __init__(self, clock: Callable[[], float], bounds: Bounds = USUAL, *, is_proxy: bool = False) -> None:
        """See Http2Codec; `is_proxy`: see Http1Server."""
        connection = Connection(_settings(bounds), client_side=False)
        super().__init__(clock, connection, budget(bounds.idle_frames_max))
        self._bounds = bounds
        self._is_proxy = is_proxy
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - 65535)
        self._credit = 0  # connection-wide, given in batches
        # Streams that are given up before they are done, whoever does it: rapid reset (CVE-2023-44487), and clients
        # that make us reset them (CVE-2025-8671).
        self._resets = budget(bounds.resets_max)
        self._draining = False  # the first GOAWAY is out
        self._refusing = False  # the last GOAWAY is out, or the client's
        self._unwanted: list[int] = []  # streams that are answered while their requests still come
        self._told: list[int] = []  # those of them of which the client knows once it answers our PING
        self._handlers |= {
            RequestReceived: self._on_request,
            PingAckReceived: self._on_ping_ack,
            ConnectionTerminated: self._on_goaway,
        }

    @property
    def closing(self) -> bool:
        """No further request is taken and none is open here: what is held for a slow client counts as open."""
        return self._failed or (self._refusing and not self._streams)

    # What comes from the client

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
        full = len(self._streams) >= self._bounds.streams_max  # a client may have begun before it knew
        if self._refusing or full:  # after the last GOAWAY, or too many: the client may safely repeat it
            if self._is_open(stream_id):
                self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            self._h2.forget(stream_id)
            if full:
                self._spend_reset("too many streams at once", "streams")
            return
        try:
            head = request_head(
                stream_id, event.headers or [], b"2", ended=ended, bounds=self._bounds, is_proxy=self._is_proxy
            )
        except MalformedError as error:
            self._on_broken_stream(stream_id, str(error))
            return
        except UnwantedError as error:
            if self._is_open(stream_id):
                self._streams[stream_id] = Stream(b"GET", ended)
                self.respond(stream_id, error.status, [(b"content-length", b"0")], end=True)
            return
        self._streams[stream_id] = Stream(head.method, ended, body_left=head.body_length)
        self._events.append(head)

    def _on_end(self, event: StreamEnded) -> None:
        super()._on_end(event)
        stream = self._streams.get(event.stream_id or 0)
        if stream is not None and stream.sent:
            self._drop(event.stream_id or 0)

    def _on_reset(self, event: StreamReset) -> None:
        stream = self._streams.get(event.stream_id or 0)
        if stream is not None and stream.sent and event.remote_reset:  # we were about to
            self._drop(event.stream_id or 0)
            return
        who = "the client" if event.remote_reset else "a protocol error"
        self._give_up(event.stream_id or 0, f"reset by {who}, code {event.error_code}")
        self._spend_reset("too many streams are reset", "resets")

    def _on_ping_ack(self, event: PingAckReceived) -> None:
        if self._draining and not self._refusing and event.ping_data == _DRAIN_PING:
            self._h2.say_goaway(self._h2.highest_inbound_stream_id)
            self._refusing = True
        elif self._told and event.ping_data == _ANSWERED_PING:
            told, self._told = self._told, []
            for stream_id in told:
                if self._is_open(stream_id):
                    self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
                self._drop(stream_id)
            if self._unwanted:
                self._tell()
        else:
            self._on_idle_frame(event)

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self._on_idle_frame(event)
        self._refusing = True

    # What goes to the client

    def respond(self, stream_id: int, status: int, headers: Headers, *, end: bool) -> None:
        """Sends a final head; it ends the response too where a body cannot follow (HEAD, 204, 304)."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.begun:
            return
        stream.begun = True
        end = end or bodiless(stream.method, status)
        self._h2.send_headers(stream_id, response_fields(status, headers), end_stream=end)
        if end:
            self._finish(stream_id, stream)

    def upgrade(self, stream_id: int, headers: Headers) -> None:
        """See ServerCodec. Accepted by 200 here (RFC 8441 section 5)."""
        self.respond(stream_id, 200, headers, end=False)

    def inform(self, stream_id: int, status: int, headers: Headers) -> None:
        """Sends a 1xx head; 101 does not exist here (RFC 9113 section 8.6)."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.begun and status != 101:
            self._h2.send_headers(stream_id, response_fields(status, headers))

    def reset(self, stream_id: int, reason: str) -> None:
        """RST_STREAM: the client sees that its response is incomplete."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.sent:
            self._h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
            self._drop(stream_id)

    def shut_down(self) -> None:
        """First GOAWAY and a PING, whose answer brings the last GOAWAY. Calling it again changes nothing."""
        if self._failed or self._refusing or self._draining:
            return
        self._draining = True
        self._h2.say_goaway(_LAST_STREAM_UNKNOWN)
        self._h2.ping(_DRAIN_PING)

    # Within

    def _credit_connection(self, count: int) -> None:
        """By what is consumed, so that all streams together stay within one window."""
        self._credit += count
        if self._credit >= CONNECTION_WINDOW_BYTES // 16:  # small, so that slow streams do not starve the others
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0

    def _credit_stream(self, stream_id: int, stream: Stream, count: int) -> None:
        if not stream.sent:
            super()._credit_stream(stream_id, stream, count)
        self._credit_connection(count)

    def _finish(self, stream_id: int, stream: Stream) -> None:
        """The response is out. A request that is still coming is not wanted any more (RFC 9113 section 8.1)."""
        stream.sent = True
        if stream.received:
            self._drop(stream_id)
            return
        stream.end_held = True  # so that nothing follows
        self._unwanted.append(stream_id)
        if not self._told:
            self._tell()

    def _tell(self) -> None:
        """Asks for a sign that the client has read the responses up to here."""
        self._told, self._unwanted = self._unwanted, []
        self._h2.ping(_ANSWERED_PING)

    def _drop(self, stream_id: int) -> Stream | None:
        """Gives its share of the connection's window back, too."""
        stream = super()._drop(stream_id)
        if stream is not None and stream.unconsumed and not self._failed:
            self._credit_connection(stream.unconsumed)
        return stream

    def _give_up(self, stream_id: int, reason: str) -> None:
        """Drops it, and tells the gateway if it knew of it."""
        if self._drop(stream_id) is not None:
            self._events.append(Reset(stream_id, reason))

    def _on_broken_stream(self, stream_id: int, reason: str) -> None:
        if self._is_open(stream_id):
            self._h2.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        self._give_up(stream_id, reason)
        self._spend_reset("too many malformed requests", "resets")

    def _spend_reset(self, reason: str, why: str) -> None:
        if not self._resets.spend(self._clock()):
            raise TooMuchError(reason, why)

    def _fail(self, reason: str, why: str = "malformed") -> None:
        self._end_all(reason)
        self._events.append(Refused(400, reason, why))

    def refuse(self, reason: str, why: str) -> list[Event]:
        """Ends the connection because of what its client does, or does not, beyond what it says."""
        self._h2.say_goaway(self._h2.highest_inbound_stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
        self._fail(reason, why)
        events, self._events = self._events, []
        return events

    def _end_all(self, reason: str) -> None:
        self._failed = True
        for stream_id in list(self._streams):
            self._give_up(stream_id, reason)
