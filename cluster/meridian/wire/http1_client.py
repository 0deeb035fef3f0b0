"""HTTP/1.1 upstream: requests out, responses in, one at a time (RFC 9112).

Invariant: a connection is `reusable` only when the response ended exactly where its framing said, the request was
sent whole, and not one byte came that nobody asked for. Anything else would let one client read another's answer.
"""

import httptools

from meridian.wire.bounds import USUAL
from meridian.wire.events import Data, End, Event, Headers, Informational, Reset, ResponseHead
from meridian.wire.http1_parts import (
    ChunkReader,
    HeadReader,
    MalformedError,
    last_chunk,
    tokens,
    write_head,
)

INFORMATIONAL_MAX = 16
"""1xx answers to one request; servers send one or two (100, 103)."""

_ORDINARY = ([b"keep-alive"], [b"close"])  # what `connection` says when it names no other field
_IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _FAILED = range(6)  # what the next byte from the upstream is

_READER = HeadReader(httptools.HttpResponseParser)


class Http1Client:
    """See `codec.ClientCodec`."""

    __slots__ = (
        "_buffer", "_chunked_out", "_chunks", "_head_request", "_informational", "_input", "_keep_alive", "_out",
        "_protocol", "_remaining", "_request_open", "_stream_id", "malformed", "silent", "upgraded",
    )  # fmt: skip

    def __init__(self) -> None:
        """Starts idle."""
        self._buffer = b""
        self._input = _IDLE
        self._remaining = 0
        self._chunks: ChunkReader
        self._out: list[bytes] = []
        self._stream_id = 0
        self._request_open = False
        self._chunked_out = False
        self._head_request = False
        self._keep_alive = True
        self._informational = 0
        self._protocol = b""
        self.upgraded = False  # it no longer speaks HTTP
        self.malformed = False  # something came that is no HTTP
        self.silent = True  # not a byte has come since the last request

    def is_reusable(self) -> bool:
        """Whether the next request may be sent here. See the module's head."""
        return self._input == _IDLE and not self._request_open and self._keep_alive and not self._buffer

    # What goes to the upstream

    def request(self, stream_id: int, method: bytes, authority: bytes, target: bytes, headers: Headers,
                *, body_length: int | None, has_body: bool, protocol: bytes = b"", lines: bytes = b"",
                ) -> None:  # fmt: skip
        """See ClientCodec. `headers` hold neither host nor framing fields: they are made here. `lines` are further
        fields as they are to be sent, each with its CRLF.

        Raises MalformedError if a field holds a line break; nothing has been sent then.
        """
        assert self._input == _IDLE and not self._request_open, "one request at a time"
        end = b"\r\n"
        self._chunked_out = False
        if has_body:
            self._chunked_out = body_length is None
            if body_length is None:
                end = b"transfer-encoding: chunked\r\n\r\n"
            else:
                end = b"content-length: %d\r\n\r\n" % body_length
        elif method in (b"POST", b"PUT", b"PATCH"):
            end = b"content-length: 0\r\n\r\n"  # RFC 9110 section 8.6
        elif protocol:
            end = b"connection: upgrade\r\nupgrade: %b\r\n\r\n" % protocol
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target, authority)
        self._out.append(write_head(start, headers, lines + end))
        self._stream_id = stream_id
        self._input = _HEAD
        self._request_open = has_body
        self._protocol = protocol
        self._head_request = method == b"HEAD"
        self._informational = 0
        self.silent = True

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """See ClientCodec."""
        if self._chunked_out:
            if data:
                self._out += (b"%x\r\n" % len(data), data, b"\r\n0\r\n\r\n" if end else b"\r\n")
            elif end:
                self._out.append(b"0\r\n\r\n")
        elif data:
            self._out.append(data)
        if end:
            self._request_open = False

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """See ClientCodec. A body with a length has no place for them: they are dropped."""
        if self._chunked_out:
            self._out.append(last_chunk(headers))
        self._request_open = False

    def take_output(self) -> bytes:
        """See ClientCodec."""
        out = self._out
        if not out:
            return b""
        if len(out) == 1:
            return out.pop()
        output = b"".join(out)
        out.clear()
        return output

    # What comes from the upstream

    def receive(self, data: bytes) -> list[Event]:
        """See ClientCodec."""
        buffer = self._buffer + data if self._buffer else data
        events: list[Event] = []
        self.silent = False
        at, size = 0, len(buffer)
        try:
            while at < size:
                state = self._input
                if state == _HEAD:
                    end = buffer.find(b"\r\n\r\n", at) + 4
                    if (size if end == 3 else end) - at > USUAL.head_bytes_max:
                        raise MalformedError(502, "the response head is too large")
                    if end == 3:
                        break
                    self._take_head(buffer[at:end], events)
                    at = end
                elif state == _LENGTH:
                    left = self._remaining
                    if left > size - at:
                        self._remaining -= size - at
                        events.append(Data(self._stream_id, buffer[at:]))
                        at = size
                    else:
                        events.append(Data(self._stream_id, buffer[at : at + left]))
                        at += left
                        self._end(events)
                elif state == _CHUNKED:
                    at = self._chunks.read(buffer, at, events)
                    if not self._chunks.done:
                        break
                    self._input = _IDLE
                elif state == _UNTIL_CLOSE:
                    events.append(Data(self._stream_id, buffer[at:]))
                    at = size
                else:  # bytes that nobody asked for
                    self._keep_alive = False
                    at = size
        except MalformedError as error:
            self._keep_alive = False
            self.malformed = True
            self._input = _FAILED
            self._buffer = b""
            events.append(Reset(self._stream_id, error.reason))
            return events
        self._buffer = buffer[at:] if at < size else b""
        return events

    def receive_eof(self) -> list[Event]:
        """See ClientCodec."""
        events: list[Event] = []
        if self._input == _UNTIL_CLOSE:
            self._end(events)
        elif self._input not in (_IDLE, _FAILED):
            self._input = _FAILED
            events.append(Reset(self._stream_id, "the upstream closed the connection"))
        self._keep_alive = False
        return events

    def _take_head(self, raw: bytes, events: list[Event]) -> None:
        """Status line and framing (RFC 9112 sections 4 and 6.3)."""
        try:
            start, headers, framing = _READER.read(raw, USUAL.fields_max)
        except MalformedError as error:
            raise MalformedError(502, f"malformed response: {error.reason}") from None
        status: int = _READER.parser.get_status_code()
        _READER.renew()  # llhttp waits for the body now
        version_11 = start.startswith(b"HTTP/1.1 ")
        if status > 599 or not (version_11 or start.startswith(b"HTTP/1.0 ")):
            raise _malformed("no HTTP/1.x status line, or a status that does not exist")
        if status < 200:
            self._informational += 1
            headers = _without_named(headers, framing)
            if status == 101 and self._protocol:
                self._upgrade(headers, framing, events)
                return
            if status == 101 or status < 100 or self._informational > INFORMATIONAL_MAX:
                raise MalformedError(502, f"unexpected status {status}")
            events.append(Informational(self._stream_id, status, headers))
            return
        length: int | None = None
        chunked = False
        named: list[bytes] = []
        for name, value in framing:
            if name == b"content-length":
                if length is not None or not value.isdigit() or len(value) > 18:
                    raise _malformed("content-length is repeated or no number")
                length = int(value)
                headers.append((name, value))
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked" or not version_11:
                    raise _malformed("transfer-encoding is not one chunked")
                chunked = True
            elif name == b"connection":
                if value == b"keep-alive" and version_11:
                    continue  # which says nothing
                named += tokens(value)
        if chunked and length is not None:
            raise _malformed("both framing fields")
        keep_alive = version_11
        if named:
            keep_alive = b"close" not in named and (version_11 or b"keep-alive" in named)
            if named not in _ORDINARY:
                headers = [field for field in headers if field[0] not in named or field[0] == b"content-length"]
        if self._head_request or status == 204 or status == 304:
            has_body = False
        elif chunked:
            has_body = True
            self._input = _CHUNKED
            self._chunks = ChunkReader(self._stream_id)
        elif length is not None:
            has_body = length > 0
            self._input = _LENGTH
            self._remaining = length
        else:
            has_body = True
            keep_alive = False
            self._input = _UNTIL_CLOSE
        self._keep_alive = keep_alive
        events.append(ResponseHead(self._stream_id, status, headers, has_body, None if chunked else length, keep_alive))
        if not has_body:
            self._end(events)

    def _upgrade(self, headers: Headers, framing: Headers, events: list[Event]) -> None:
        """RFC 9110 section 7.8: it says to what, and that must be what was asked for."""
        if [value.lower() for name, value in framing if name == b"upgrade"] != [self._protocol]:
            raise _malformed("101 to another protocol than the one that was asked for")
        self._input = _UNTIL_CLOSE
        self._keep_alive = False
        self.upgraded = True
        events.append(ResponseHead(self._stream_id, 101, headers, True, None, False))

    def _end(self, events: list[Event]) -> None:
        self._input = _IDLE
        events.append(End(self._stream_id))


def _without_named(headers: Headers, framing: Headers) -> Headers:
    """The fields of a 1xx that go on: those that Connection names are of this connection (RFC 9110 section 7.6.1)."""
    named = [token for name, value in framing if name == b"connection" for token in tokens(value)]
    return [field for field in headers if field[0] not in named] if named else headers


def _malformed(reason: str) -> MalformedError:
    return MalformedError(502, f"malformed response: {reason}")
