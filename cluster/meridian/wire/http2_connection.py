"""h2's connection, with those of its answers changed that cost the other side more than it has broken, or cost us more
than it should. `wire/http2_streams` is the codec on it.

Invariant: what is malformed within one stream is an error of that stream; frames after a GOAWAY are sent and read for
the streams that are open.
"""

from collections.abc import Mapping
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset
from h2.exceptions import InvalidBodyLengthError, ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame

from meridian.wire.hpack_encoder import PlainEncoder

CLOSED_STREAMS_REMEMBERED = 1024
"""How many closed streams h2 remembers to tell late frames from errors. Its own default is 65,536."""

_OPTIONS: Mapping[str, Any] = {
    "validate_inbound_headers": False,  # wire/fields does it in one pass, for HTTP/3 too, and by stream
    "normalize_inbound_headers": False,
    "validate_outbound_headers": False,
    "normalize_outbound_headers": False,
}
_CLIENT = H2Configuration(client_side=True, **_OPTIONS)
_SERVER = H2Configuration(client_side=False, **_OPTIONS)


class _FrameBuffer(FrameBuffer):
    """Refuses a frame that is too large when its length is known. h2 first waits for all of it, which may be 16 MiB."""

    def __next__(self) -> Frame:
        if len(self._data) >= 9:
            self._validate_frame_length(int.from_bytes(self._data[:3], "big"))
        return super().__next__()


class Connection(H2Connection):
    """h2 with some answers of its own changed: see the methods."""

    MAX_CLOSED_STREAMS = CLOSED_STREAMS_REMEMBERED

    def __init__(self, settings: Mapping[SettingCodes, int], *, client_side: bool) -> None:
        """`settings` are said to the other side in the first frame."""
        super().__init__(_CLIENT if client_side else _SERVER)
        self.incoming_buffer = _FrameBuffer(server=not client_side)
        self.encoder = PlainEncoder()  # type: ignore[assignment] # stands in for hpack's by shape
        self.local_settings = Settings(client=client_side, initial_values=dict(settings))

    @property
    def open_inbound_streams(self) -> int:
        """The codec removes a stream when it closes, so counting needs no walk over all of them."""
        return 0 if self.config.client_side else len(self.streams)

    @property
    def open_outbound_streams(self) -> int:
        """As above."""
        return len(self.streams) if self.config.client_side else 0

    def _receive_frame(self, frame: Frame) -> list[Any]:
        """Makes malformed messages errors of their stream (RFC 9113 section 8.1.1); h2 ends the connection."""
        try:
            return super()._receive_frame(frame)
        except InvalidBodyLengthError as error:
            return self._give_up(frame.stream_id, error)
        except ProtocolError as error:
            # Plain and without a cause: said about the fields of a known stream. HPACK and state errors have a cause.
            if type(error) is ProtocolError and error.__cause__ is None and isinstance(frame, HeadersFrame):
                stream = self.streams.get(frame.stream_id)
                if stream is not None and not stream.closed:
                    return self._give_up(frame.stream_id, error)
            raise

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Any]]:
        """A server opens no stream but by a push, which is never allowed here. h2 would let it."""
        if self.config.client_side and not frame.stream_id & 1:
            raise ProtocolError(f"stream {frame.stream_id} was opened by a server")
        return super()._receive_headers_frame(frame)

    def _give_up(self, stream_id: int, error: ProtocolError) -> list[Any]:
        self.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        return [StreamReset(stream_id=stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)]

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Any]]:
        """Who says GOAWAY opens or takes no more streams; those that are open go on. h2 would drop them."""
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]

    def say_goaway(self, last_stream_id: int, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """GOAWAY while streams go on. h2's `close_connection` would forbid all further frames."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = last_stream_id
        frame.error_code = error_code
        self._prepare_for_sending([frame])

    def forget(self, stream_id: int) -> None:
        """Drops a closed stream."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._closed_streams[stream_id] = stream.closed_by

    def abandon(self, stream_id: int) -> None:
        """Drops a stream that the other side has never looked at: to say so would be an error (section 5.1, idle)."""
        if self.streams.pop(stream_id, None) is not None:
            self._closed_streams[stream_id] = StreamClosedBy.SEND_RST_STREAM
