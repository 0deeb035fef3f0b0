"""HTTP/2 upstream (RFC 9113): requests out, responses in, many at a time. What it shares with the server's side is in
`wire/http2_streams`.

Invariants:
- No stream is opened beyond what the upstream allows, nor before it has said so, nor after it has said GOAWAY.
- A response holds at most one window of its stream. The connection's window is given back on arrival: a client that
  reads slowly stops its own stream, and never those of other clients on the same connection.
"""

from collections.abc import Callable
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from meridian.wire.bounds import USUAL
from meridian.wire.events import ConnectionEnded, Event, Headers, Reset, ResponseHead
from meridian.wire.fields import (
    MalformedError,
    request_fields,
    response_head,
    upstream_frame_budget,
)
from meridian.wire.http1_client import INFORMATIONAL_MAX
from meridian.wire.http2_connection import Connection
from meridian.wire.http2_streams import STREAM_WINDOW_BYTES, Http2Codec, Stream

CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024
"""On the way at once, of all streams together: it is given back as it comes, so this only has to span a round trip."""

STREAM_ID_MAX = 2**31 - 1
"""The last id (section 5.1.1). A connection that has used them up takes no more requests."""

_SETTINGS = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.MAX_HEADER_LIST_SIZE: USUAL.head_bytes_max,
    SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
}


class Http2Client(Http2Codec):
    """See `codec.ClientCodec`. A request is given its stream by `new_stream_id`."""

    def __init__(self, clock: Callable[[], float], scheme: bytes) -> None:
        """`scheme` is what the connection is: b"http" or b"https"."""
        super().__init__(clock, Connection(_SETTINGS, client_side=True), upstream_frame_budget())
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - 65535)
        self._scheme = scheme
        self._credit = 0
        self._next_stream_id = 1
        self._informational: dict[int, int] = {}
        self._leaving = False  # it has said GOAWAY
        self.greeted = False  # its SETTINGS have come
        self._handlers |= {
            ResponseReceived: self._on_head,
            InformationalResponseReceived: self._on_head,
            ConnectionTerminated: self._on_goaway,
        }

    @property
    def streams_max(self) -> int:
        """How many streams may be open now; 0 once no more may be opened."""
        if not self.greeted or self._leaving or self._failed or self._next_stream_id > STREAM_ID_MAX:
            return 0
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def takes_protocols(self) -> bool:
        """Whether another protocol may be asked for on a stream (RFC 8441 section 3)."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def ended(self) -> bool:
        """Whether the connection is of no use any more: broken, or told to go and with nothing left on it."""
        return self._failed or (self._leaving and not self._streams)

    # What goes to the upstream

    def new_stream_id(self) -> int:
        """The stream of the next request; only to be asked for while `streams_max` allows it."""
        stream_id, self._next_stream_id = self._next_stream_id, self._next_stream_id + 2
        return stream_id

    def request(self, stream_id: int, method: bytes, authority: bytes, target: bytes, headers: Headers,
                *, body_length: int | None, has_body: bool, protocol: bytes = b"") -> None:  # fmt: skip
        """See ClientCodec. `headers` hold neither host nor content-length: they are made here."""
        fields = request_fields(
            method, self._scheme, authority, target, headers, body_length, has_body=has_body, protocol=protocol
        )
        self._streams[stream_id] = Stream(method, False, begun=True, sent=not has_body, protocol=protocol)
        self._h2.send_headers(stream_id, fields, end_stream=not has_body)

    def cancel(self, stream_id: int) -> None:
        """RST_STREAM: nobody waits for the response any more, or the rest of the request will not come."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            # With a response that is complete it only means that the request is not (section 8.1).
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR if stream.received else ErrorCodes.CANCEL)
            self._drop(stream_id)

    # What comes from the upstream

    def receive_eof(self) -> list[Event]:
        """See ClientCodec."""
        if not self._failed:
            self._end_all("the upstream closed the connection", malformed=False)
        events, self._events = self._events, []
        return events

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self.greeted = True
        super()._on_settings(event)

    def _on_head(self, event: Any) -> None:
        stream_id = event.stream_id or 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            head = response_head(
                stream_id, event.headers or [], stream.method, ended=getattr(event, "stream_ended", None) is not None
            )
            if type(event) is InformationalResponseReceived:
                self._informational[stream_id] = self._informational.get(stream_id, 0) + 1
                if self._informational[stream_id] > INFORMATIONAL_MAX:
                    raise MalformedError(f"more than {INFORMATIONAL_MAX} heads with 1xx")
        except MalformedError as error:
            self._on_broken_stream(stream_id, str(error))
            return
        if isinstance(head, ResponseHead):
            if stream.protocol and head.status < 300:
                head = ResponseHead(stream_id, 101, head.headers, True, None, True)
            stream.body_left = head.body_length
        self._events.append(head)

    def _on_data(self, event: DataReceived) -> None:
        self._credit_connection(event.flow_controlled_length or 0)
        if event.stream_id in self._streams:
            super()._on_data(event)

    def _on_end(self, event: StreamEnded) -> None:
        super()._on_end(event)
        stream = self._streams.get(event.stream_id or 0)
        if stream is not None and stream.sent:
            self._drop(event.stream_id or 0)

    def _on_reset(self, event: StreamReset) -> None:
        stream_id, code = event.stream_id or 0, event.error_code
        who = "the upstream" if event.remote_reset else "a protocol error"
        unprocessed = event.remote_reset and code == ErrorCodes.REFUSED_STREAM
        self._give_up(
            stream_id, f"reset by {who}, code {code}", unprocessed=unprocessed, malformed=not event.remote_reset
        )

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        """What it has not seen it will not answer (section 6.8); the rest goes on."""
        self._leaving = True
        for stream_id in list(self._streams):
            if stream_id > (event.last_stream_id or 0):
                self._h2.abandon(stream_id)
                self._give_up(stream_id, f"GOAWAY, code {event.error_code}", unprocessed=True)

    # Within

    def _credit_connection(self, count: int) -> None:
        self._credit += count
        if self._credit >= CONNECTION_WINDOW_BYTES // 4:
            self._h2.increment_flow_control_window(self._credit)
            self._credit = 0

    def _finish(self, stream_id: int, stream: Stream) -> None:
        """The request is out; with the response the stream is over."""
        stream.sent = True
        if stream.received:
            self._drop(stream_id)

    def _drop(self, stream_id: int) -> Stream | None:
        self._informational.pop(stream_id, None)
        return super()._drop(stream_id)

    def _give_up(self, stream_id: int, reason: str, *, unprocessed: bool = False, malformed: bool = False) -> None:
        if self._drop(stream_id) is not None:
            self._events.append(Reset(stream_id, reason, unprocessed, malformed))

    def _on_broken_stream(self, stream_id: int, reason: str) -> None:
        if self._is_open(stream_id):
            self._h2.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        self._give_up(stream_id, reason, malformed=True)

    def _fail(self, reason: str, why: str = "") -> None:
        self._end_all(reason, malformed=True)

    def _end_all(self, reason: str, *, malformed: bool) -> None:
        self._failed = True
        for stream_id in list(self._streams):
            self._give_up(stream_id, reason, malformed=malformed)
        self._events.append(ConnectionEnded(reason))
