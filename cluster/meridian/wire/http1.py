"""HTTP/1.1 and 1.0 downstream (RFC 9112), behind the door that all codecs share. `wire/http1_client.py` is upstream.

Invariants:
- One request is open at a time. Bytes behind it wait unread (`held`); they are not even looked at, so a
  pipelining client cannot make us hold parsed requests. Answers leave in order because of that.
- A request that could be read in two ways is refused with 400 and the connection ends: both framing fields, a
  repeated or odd length, stray CR or LF, folded lines, a host that is missing, repeated or contradicted.
- What goes out is always written anew, never passed on as it came.
"""

import re
from functools import lru_cache
from http import HTTPStatus

import httptools

from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.events import TUNNEL, ConnectionEnded, Data, End, Event, Headers, Refused, RequestHead, Reset
from meridian.wire.http1_client import Http1Client
from meridian.wire.http1_parts import (
    ChunkReader,
    HeadReader,
    MalformedError,
    last_chunk,
    tokens,
    write_head,
)

__all__ = ["Http1Client", "Http1Server"]

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"")) for status in range(100, 1000)}

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]{0,5})?").fullmatch
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE).fullmatch

_HEAD, _LENGTH, _CHUNKED, _COMPLETE, _DISCARD, _UPGRADED = range(6)  # what the next byte from the client is

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
_ORDINARY = ([b"keep-alive"], [b"close"])  # what `connection` says when it names no other field
_CR, _LF = b"\r\n"
_WHY = {408: "slow_header", 414: "uri_bytes", 431: "header", 503: "connections"}

_READER = HeadReader(httptools.HttpRequestParser)


@lru_cache(maxsize=1024)  # more hosts than are busy at once; a client cannot make it grow
def _authority_of(host: bytes) -> bytes | None:
    """A host and port (RFC 3986 section 3.2) in lower case; None if it is none, or has userinfo."""
    return host.lower() if _HOST(host) else None


class Http1Server:
    """See `codec.ServerCodec`. Beyond it: `answer`, `held`, `mid_head`, `behind`, `ready`, `unread`, `refuse`, which
    only this protocol needs, because it alone has one stream at a time on a pipe that is paused as a whole."""

    __slots__ = (
        "_bounds", "_chunked_out", "_chunks", "_draining", "_head_request", "_input", "_is_proxy", "_keep_alive",
        "_out", "_protocol", "_remaining", "_response_open", "_scanned", "_scheme", "_skipped_line", "_started",
        "_stream_id", "_takes_trailers", "_version_11", "body_ends_by_close", "closing", "held",
    )  # fmt: skip

    def __init__(self, scheme: bytes, bounds: Bounds = USUAL, *, is_proxy: bool = False) -> None:
        """`scheme` is what the listener speaks: b"http" or b"https". A forward proxy takes CONNECT and absolute forms,
        whatever Host says (RFC 9112 section 3.2.2); an origin form has no authority there."""
        self._bounds = bounds
        self.closing = False
        self.body_ends_by_close = False  # of the open response: only RST can say that it is cut
        self._scheme = scheme
        self._is_proxy = is_proxy
        self.held = b""  # not understood yet: half a head or chunk line, or requests behind the one that is open
        self._scanned = 0  # so much of the buffer holds no end of a head
        self._skipped_line = False
        self._input = _HEAD
        self._remaining = 0
        self._chunks: ChunkReader
        self._out: list[bytes] = []
        self._stream_id = 0
        self._response_open = False
        self._started = False  # its head is written
        self._draining = False
        self._keep_alive = True
        self._version_11 = True
        self._head_request = False
        self._takes_trailers = False
        self._chunked_out = False
        self._protocol = b""  # that the open request asks for

    @property
    def mid_head(self) -> bool:
        """Whether a head has begun and its end has not come."""
        return self._input == _HEAD and 0 < len(self.held) == self._scanned

    @property
    def behind(self) -> bool:
        """Whether bytes of a further request wait behind the one that is open."""
        return self._input == _COMPLETE and bool(self.held)

    @property
    def ready(self) -> bool:
        """Whether `receive(b"")` would go on with what is held."""
        if self._input == _UPGRADED:
            return bool(self.held)
        return self._input == _HEAD and len(self.held) > self._scanned and not self.closing

    @property
    def unread(self) -> bool:
        """Whether the client may still be sending although nothing more will be read."""
        return self._input == _DISCARD

    # What comes from the client

    def receive(self, data: bytes) -> list[Event]:
        """See ServerCodec. With b"" it goes on with what is held."""
        if self._input == _DISCARD or self.closing:
            return []
        buffer = self.held + data if self.held else data
        events: list[Event] = []
        at, size = 0, len(buffer)
        try:
            if self._input == _HEAD and 4 < size < 4096 and buffer.find(b"\r\n\r\n") == size - 4 and buffer[0] != _CR:
                self._scanned = 0  # one whole head and nothing else: what nearly all clients send
                at = size
                self._take_head(buffer, events)
            while at < size:
                state = self._input
                if state == _HEAD:
                    if buffer[at] == _CR and not self._skipped_line:  # one empty line, RFC 9112 section 2.2
                        if size - at == 1:
                            self._scanned = 1
                            break
                        if buffer[at + 1] == _LF:
                            self._skipped_line = True
                            self._scanned = 0
                            at += 2
                            continue
                    end = buffer.find(b"\r\n\r\n", self._scanned - 3 if self._scanned > at + 3 else at)
                    if end < 0 or end - at > self._bounds.head_bytes_max:
                        self._check_unfinished(buffer, at)
                        self._scanned = size - at
                        break
                    self._scanned = 0
                    self._take_head(buffer[at : end + 4], events)
                    at = end + 4
                elif state == _LENGTH:
                    take = min(self._remaining, size - at)
                    events.append(Data(self._stream_id, buffer if take == size else buffer[at : at + take]))
                    at += take
                    self._remaining -= take
                    if self._remaining == 0:
                        events.append(End(self._stream_id))
                        self._input = _COMPLETE
                elif state == _CHUNKED:
                    at = self._chunks.read(buffer, at, events)
                    if not self._chunks.done:
                        break
                    self._input = _COMPLETE
                elif state == _UPGRADED:
                    events.append(Data(self._stream_id, buffer[at:]))
                    at = size
                else:
                    break
        except MalformedError as error:
            events += self.refuse(error.status, error.reason)
            return events
        self.held = buffer[at:] if at < size else b""
        return events

    def receive_eof(self) -> list[Event]:
        """See ServerCodec."""
        events: list[Event] = []
        if self._response_open:
            self._response_open = False
            events.append(Reset(self._stream_id, "the client closed the connection"))
        self.closing = True
        self.held = b""
        events.append(ConnectionEnded("the client closed the connection"))
        return events

    def refuse(self, status: int, reason: str) -> list[Event]:
        """Answers bad input, unless a response has begun, and ends the connection."""
        events: list[Event] = []
        begun = self._response_open and self._started
        if self._response_open:
            self._response_open = False
            events.append(Reset(self._stream_id, reason))
        if not begun:
            text = reason.encode("ascii", "replace") + b"\n"
            self._out.append(STATUS_LINES[status])
            self._out.append(b"content-type: text/plain\r\ncontent-length: %d\r\n" % len(text))
            self._out.append(b"connection: close\r\n\r\n" + text)
        self.closing = True
        self._input = _DISCARD
        self.held = b""
        events.append(Refused(status, reason, _WHY.get(status, "malformed")))
        return events

    def _check_unfinished(self, buffer: bytes, at: int) -> None:
        line_bytes_max = self._bounds.target_bytes_max + 64
        if b"\r\n" not in buffer[at : at + line_bytes_max]:
            if len(buffer) - at > line_bytes_max:
                raise MalformedError(414, "the request line is too long")
        elif len(buffer) - at > self._bounds.head_bytes_max:
            raise MalformedError(431, "the request head is too large")

    def _take_head(self, raw: bytes, events: list[Event]) -> None:
        """Request line, framing and connection (RFC 9112 sections 3, 6.3 and 9.3)."""
        self._skipped_line = False
        start, headers, framing = _READER.read(raw, self._bounds.fields_max)
        parts = start.split(b" ")
        if len(parts) != 3 or parts[0] != _READER.parser.get_method() or parts[2] not in _VERSIONS:
            raise self._malformed("malformed request line")
        method, url, version = parts
        if len(url) > self._bounds.target_bytes_max:
            _READER.renew()
            raise MalformedError(414, "the request target is too long")
        version_11 = keep_alive = version == b"HTTP/1.1"
        host: bytes | None = None  # as `_authority_of` gives it
        length: int | None = None
        chunked = expects = takes_trailers = False
        named: list[bytes] = []
        upgrade = b""
        for name, value in framing:
            if name == b"host":
                if host is not None or (host := _authority_of(value)) is None:
                    raise self._malformed("host is repeated or no host")
            elif name == b"connection":
                if value == b"keep-alive" and version_11:
                    continue  # which says nothing
                named += tokens(value)
            elif name == b"content-length":
                if length is not None or not value.isdigit() or len(value) > 18:
                    raise self._malformed("content-length is repeated or no number")
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or not version_11:
                    raise self._malformed("transfer-encoding is repeated, or in HTTP/1.0")
                if value.lower() != b"chunked":
                    _READER.renew()
                    raise MalformedError(501, "this transfer coding is not served")
                chunked = True
            elif name == b"te":
                takes_trailers = takes_trailers or b"trailers" in tokens(value)
            elif name == b"expect" and value.lower() == b"100-continue":
                expects = version_11
            elif name == b"upgrade":
                upgrade = value
        if (chunked and length is not None) or (host is None and version_11):
            raise self._malformed("both framing fields" if host is not None else "host is missing")
        if named:
            keep_alive = b"close" not in named and (version_11 or b"keep-alive" in named)
            if named not in _ORDINARY:
                headers = [field for field in headers if field[0] not in named]
        has_body = chunked or bool(length)
        if has_body or named or not version_11:
            _READER.renew()
        if url.startswith(b"/") and b"#" not in url and method != b"CONNECT":
            authority, target = (host or b"") if not self._is_proxy else b"", url
        else:
            authority, target = self._target(method, url, host)
            if has_body and method == b"CONNECT":
                raise self._malformed("CONNECT with a body")
        stream_id = self._stream_id = self._stream_id + 1
        self._response_open = True
        self._started = False
        self._keep_alive = keep_alive
        self._version_11 = version_11
        self._takes_trailers = takes_trailers
        self._head_request = method == b"HEAD"
        protocol = b""
        if (  # others are not passed on
            upgrade and b"upgrade" in named and b"websocket" in tokens(upgrade)
            and method == b"GET" and version_11 and not has_body and not self._is_proxy
        ):  # fmt: skip
            protocol = b"websocket"
        elif method == b"CONNECT":
            protocol = TUNNEL
        self._protocol = protocol
        events.append(RequestHead(
            stream_id, method, self._scheme, authority, target, headers, has_body or bool(protocol),
            None if chunked or protocol else length or 0, b"1.1" if version_11 else b"1.0", expects and has_body,
            protocol,
        ))  # fmt: skip
        if protocol:
            self._input = _COMPLETE  # what comes now waits for the answer: it may be another request all the same
        elif chunked:
            self._input = _CHUNKED
            self._chunks = ChunkReader(stream_id, self._bounds)
        elif length:
            self._input = _LENGTH
            self._remaining = length
        else:
            events.append(End(stream_id))
            self._input = _COMPLETE

    def _target(self, method: bytes, url: bytes, host: bytes | None) -> tuple[bytes, bytes]:
        """Authority and origin form of a target that has another form (RFC 9112 section 3.2)."""
        if method == b"CONNECT":
            _READER.renew()
            if not self._is_proxy:
                raise MalformedError(501, "CONNECT is not served")
            if not (authority := _authority_of(url)):
                raise MalformedError(400, "CONNECT names no host and port")
            return authority, b"*"
        if b"#" in url:  # other bytes that are not allowed llhttp has refused
            raise self._malformed("the request target holds a fragment")
        if url == b"*" and method == b"OPTIONS":
            return host or b"", url
        match = _ABSOLUTE(url)
        authority = _authority_of(match[1]) if match else None
        if match is None or not authority:
            raise self._malformed("the request target has a form that is not allowed")
        if self._is_proxy:
            if url[:5].lower() == b"https":
                raise self._malformed("ask for https by CONNECT")
        elif host is not None and host != authority:
            raise self._malformed("host and the request target differ")
        target = match[2]
        if target[:1] != b"/":
            target = b"*" if not target and method == b"OPTIONS" else b"/" + target
        return authority, target

    @staticmethod
    def _malformed(reason: str) -> MalformedError:
        _READER.renew()
        return MalformedError(400, reason)

    # What goes to the client

    def respond(self, stream_id: int, status: int, headers: Headers, *, end: bool) -> None:
        """See ServerCodec."""
        if not self._response_open or stream_id != self._stream_id or self._started:
            return
        if end and self._input != _COMPLETE:
            self._keep_alive = False
        self._head(status, headers, b"", has_body=not end)
        if end:
            self._end_response()

    def answer(self, stream_id: int, status: int, headers: Headers, body: bytes) -> None:
        """A whole response that has a body: as `respond` and `send_data` with its end, in one piece."""
        if self._response_open and stream_id == self._stream_id and not self._started:
            self._head(status, headers, body, has_body=True)
            if self._chunked_out:
                self._out.append(b"\r\n0\r\n\r\n" if body else b"0\r\n\r\n")
            self._end_response()

    def _head(self, status: int, headers: Headers, body: bytes, *, has_body: bool) -> None:
        """The head, and with it a first piece of the body."""
        self._started = True
        if self._draining:
            self._keep_alive = False
        lines = b""
        if not self._head_request and status != 204 and status != 304:
            for field in headers:
                if field[0] == b"content-length":
                    break
            else:
                if not has_body:
                    lines = b"content-length: 0\r\n"
                elif self._version_11:
                    lines = b"transfer-encoding: chunked\r\n"
                    self._chunked_out = True
                    body = b"%x\r\n%b" % (len(body), body) if body else b""
                else:
                    self.body_ends_by_close = True
                    self._keep_alive = False
        elif status == 204:  # RFC 9110 section 8.6
            headers = [field for field in headers if field[0] != b"content-length"]
        if not self._keep_alive:
            lines += b"connection: close\r\n"
        elif not self._version_11:
            lines += b"connection: keep-alive\r\n"
        self._out.append(write_head(STATUS_LINES[status], headers, lines + b"\r\n" + body))

    def upgrade(self, stream_id: int, headers: Headers) -> None:
        """See ServerCodec. What has come behind the request is of the new protocol: `ready` says so."""
        if self._is_open(stream_id) and not self._started and self._protocol:
            self._started = True
            self._input = _UPGRADED
            self._keep_alive = False
            self.body_ends_by_close = True
            if self._protocol == TUNNEL:
                self._out.append(write_head(STATUS_LINES[200], headers, b"\r\n"))
            else:
                end = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
                self._out.append(write_head(STATUS_LINES[101], headers, end))

    def inform(self, stream_id: int, status: int, headers: Headers) -> None:
        """See ServerCodec. HTTP/1.0 knows no such answers (RFC 9110 section 15.2)."""
        if self._is_open(stream_id) and not self._started and self._version_11:
            self._out.append(write_head(STATUS_LINES[status], headers, b"\r\n"))

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """See ServerCodec."""
        if not self._response_open or stream_id != self._stream_id:
            return
        if self._chunked_out:
            if data:
                self._out += (b"%x\r\n" % len(data), data, b"\r\n0\r\n\r\n" if end else b"\r\n")
            elif end:
                self._out.append(b"0\r\n\r\n")
        elif data:
            self._out.append(data)
        if end:
            self._end_response()

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """See ServerCodec. Sent to clients that said `TE: trailers` (RFC 9110 section 6.5.1)."""
        if not self._is_open(stream_id):
            return
        if self._chunked_out:
            self._out.append(last_chunk(headers if self._takes_trailers else []))
        self._end_response()

    def reset(self, stream_id: int, reason: str) -> None:
        """See ServerCodec. The connection ends without the end of the body; see `body_ends_by_close`."""
        if self._is_open(stream_id):
            self._response_open = False
            self.closing = True
            self.held = b""

    def consumed(self, stream_id: int, count: int) -> None:
        """See ServerCodec. Here the connection pauses the socket instead."""

    def writable(self, stream_id: int) -> bool:
        """See ServerCodec. HTTP/1.1 has no flow control of its own."""
        return True

    def shut_down(self) -> None:
        """See ServerCodec. The next response says `connection: close`; an idle connection stays until then."""
        self._draining = True

    def take_output(self) -> bytes:
        """See ServerCodec."""
        out = self._out
        if not out:
            return b""
        if len(out) == 1:
            return out.pop()
        output = b"".join(out)
        out.clear()
        return output

    def _is_open(self, stream_id: int) -> bool:
        return self._response_open and stream_id == self._stream_id

    def _end_response(self) -> None:
        self._response_open = self._chunked_out = self.body_ends_by_close = False
        if self._input != _COMPLETE:
            self._input = _DISCARD  # answered early: what is still coming is not worth reading
            self.closing = True
            self.held = b""
        elif not self._keep_alive:
            self.closing = True
        else:
            self._input = _HEAD
