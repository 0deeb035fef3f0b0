"""h2's connection, with those of its answers changed that cost the other side more than it has broken, or cost us more
than it should. `wire/http2_streams` is the codec on it.

Invariant: what is malformed within one stream is an error of that stream; frames after a GOAWAY are sent and read for
the streams that are open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, InvalidBodyLengthError, ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy
from hpack.exceptions import HPACKError
from hyperframe.frame import ContinuationFrame, ExtensionFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame

from meridian.wire.hpack_decoder import QuickDecoder
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


_PRIORITY, _SETTINGS, _WINDOW_UPDATE, _CONTINUATION = 2, 4, 8, 9


@dataclass(slots=True)
class IdleFrame:
    """Ours among h2's events: a frame that changes nothing, such as DATA of a stream that is closed."""

    kind: str


class _BrokenFrame(ExtensionFrame):
    """Stands for a frame that costs its stream, and that h2 would not let through: see _FrameBuffer."""

    code = ErrorCodes.PROTOCOL_ERROR


class _FrameBuffer(FrameBuffer):
    """Refuses a frame that is too large when its length is known: h2 first waits for all of it, which may be 16 MiB.
    So it does with CONTINUATION that makes a block larger than all of its fields may be (CVE-2024-27316). And knows
    what h2 takes for an error of the connection (RFC 9113 sections 6.3 and 6.9) or for another (6.5)."""

    block_bytes_max = 0  # h2 has a limit of 64 frames

    @property
    def in_block(self) -> bool:
        """Whether a header block has begun and its end has not come."""
        return bool(self._headers_buffer)

    @property
    def _block_bytes(self) -> int:
        return sum(len(frame.data) for frame in self._headers_buffer)

    def __next__(self) -> Frame:
        data = self._data
        if len(data) >= 9:
            size, kind = int.from_bytes(data[:3], "big"), data[3]
            self._validate_frame_length(size)
            if kind == _SETTINGS and size and data[4] & 1:
                raise FrameTooLargeError("an acknowledgement of SETTINGS with a payload")
            if kind == _CONTINUATION and size + self._block_bytes > self.block_bytes_max:
                raise DenialOfServiceError("a header block without end")
            if kind in (_PRIORITY, _WINDOW_UPDATE) and len(data) >= 9 + size and not self._headers_buffer:
                stream_id = int.from_bytes(data[5:9], "big") & 0x7FFFFFFF
                if kind == _PRIORITY and size != 5:
                    return self._broken(stream_id, size, ErrorCodes.FRAME_SIZE_ERROR)
                if kind == _PRIORITY and int.from_bytes(data[9:13], "big") & 0x7FFFFFFF == stream_id:
                    return self._broken(stream_id, size, ErrorCodes.PROTOCOL_ERROR)  # RFC 7540 section 5.3.1
                if kind == _WINDOW_UPDATE and size == 4 and stream_id and not any(data[9:13]):
                    return self._broken(stream_id, size, ErrorCodes.PROTOCOL_ERROR)
        return super().__next__()

    def _broken(self, stream_id: int, size: int, code: ErrorCodes) -> Frame:
        del self._data[: 9 + size]
        frame = _BrokenFrame(type=0, stream_id=stream_id)
        frame.code = code
        return frame


class Connection(H2Connection):
    """h2 with some answers of its own changed: see the methods."""

    MAX_CLOSED_STREAMS = CLOSED_STREAMS_REMEMBERED

    def __init__(self, settings: Mapping[SettingCodes, int], *, client_side: bool) -> None:
        """`settings` are said to the other side in the first frame."""
        super().__init__(_CLIENT if client_side else _SERVER)
        self.incoming_buffer: _FrameBuffer = _FrameBuffer(server=not client_side)
        self.encoder = PlainEncoder()  # type: ignore[assignment] # stands in for hpack's by shape
        self.local_settings = Settings(client=client_side, initial_values=dict(settings))
        # Of the first SETTINGS h2 heeds only what is changed later.
        self.incoming_buffer.block_bytes_max = settings[SettingCodes.MAX_HEADER_LIST_SIZE]
        self.decoder = QuickDecoder()
        self.decoder.max_header_list_size = settings[SettingCodes.MAX_HEADER_LIST_SIZE]
        self._has_settings = False

    @property
    def open_inbound_streams(self) -> int:
        """The codec counts them, because too many are errors of their streams (section 5.1.2)."""
        return 0

    @property
    def open_outbound_streams(self) -> int:
        """The codec removes a stream when it closes, so counting needs no walk over all of them."""
        return len(self.streams) if self.config.client_side else 0

    def _receive_frame(self, frame: Frame) -> list[Any]:
        """Makes malformed messages errors of their stream (RFC 9113 section 8.1.1); h2 ends the connection. Says what
        HPACK cannot decode by its own code (section 4.3), and that SETTINGS come first (section 3.4)."""
        if not self._has_settings:
            if not isinstance(frame, SettingsFrame) or "ACK" in frame.flags:
                raise ProtocolError("the first frame is not SETTINGS")
            self._has_settings = True
        if type(frame) is _BrokenFrame:
            stream = self.streams.get(frame.stream_id)
            if stream is None or stream.closed:
                raise ProtocolError(f"a broken frame of stream {frame.stream_id}, which is not open")
            return self._give_up(frame.stream_id, frame.code)
        try:
            return super()._receive_frame(frame) or [IdleFrame(type(frame).__name__)]
        except InvalidBodyLengthError:
            return self._give_up(frame.stream_id)
        except ProtocolError as error:
            if type(error) is ProtocolError and isinstance(error.__cause__, HPACKError):  # not those of too much
                error.error_code = ErrorCodes.COMPRESSION_ERROR
            # Plain and without a cause: said about the fields of a known stream. HPACK and state errors have a cause.
            if type(error) is ProtocolError and error.__cause__ is None and isinstance(frame, HeadersFrame):
                stream = self.streams.get(frame.stream_id)
                if stream is not None and not stream.closed:
                    return self._give_up(frame.stream_id)
            raise

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Any]]:
        """A server opens no stream but by a push, which is never allowed here. h2 would let it."""
        if self.config.client_side and not frame.stream_id & 1:
            raise ProtocolError(f"stream {frame.stream_id} was opened by a server")
        return super()._receive_headers_frame(frame)

    def _receive_naked_continuation(self, frame: ContinuationFrame) -> None:
        """What it holds is not decoded, so that the tables of both sides differ from here on, whatever the stream."""
        raise ProtocolError("CONTINUATION without a header block that it continues")

    def _give_up(self, stream_id: int, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> list[Any]:
        self.reset_stream(stream_id, code)
        return [StreamReset(stream_id=stream_id, error_code=code, remote_reset=False)]

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
