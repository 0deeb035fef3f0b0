"""h2's connection, with those of its answers changed that cost a client more than it has broken, or cost us more
than it should. `wire/http2` is the codec on it.

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
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame

from meridian.wire.hpack_encoder import ResponseEncoder

CLOSED_STREAMS_REMEMBERED = 1024
"""How many closed streams h2 remembers to tell late frames from errors. Its own default is 65,536."""

_CONFIG = H2Configuration(
    client_side=False,
    validate_inbound_headers=False,  # wire/fields does it in one pass, for HTTP/3 too, and by stream
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class ServerConnection(H2Connection):
    """h2 with three answers of its own changed: see the methods."""

    MAX_CLOSED_STREAMS = CLOSED_STREAMS_REMEMBERED

    def __init__(self, settings: Mapping[SettingCodes, int]) -> None:
        """`settings` are said to the client in the first frame."""
        super().__init__(_CONFIG)
        self.encoder = ResponseEncoder()  # type: ignore[assignment] # stands in for hpack's by shape
        self.local_settings = Settings(client=False, initial_values=dict(settings))

    @property
    def open_inbound_streams(self) -> int:
        """The codec removes a stream when it closes, so counting needs no walk over all of them."""
        return len(self.streams)

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

    def _give_up(self, stream_id: int, error: ProtocolError) -> list[Any]:
        self.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        return [StreamReset(stream_id=stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)]

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Any]]:
        """A client that says GOAWAY opens no more streams; those that are open go on. h2 would drop them."""
        return [], [ConnectionTerminated()]

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
