"""What requests and responses of HTTP/1.1 share: reading a head, taking a body apart, writing fields.

Invariant: of two ways to read a message neither is taken: it is refused. llhttp (strict) reads the fields; it only
ever gets whole heads, cut at the first empty line, so that it never sees a body and never decides where one ends.
Framing is decided here, once (RFC 9112 section 6), and on the way out fields are checked before they become lines.
"""

import re
from collections.abc import Callable
from typing import Any

import httptools

from meridian.wire.events import Data, End, Event, Headers, Trailers

HEAD_BYTES_MAX = 64 * 1024
"""One message's start line and fields: eight times what common servers take, so that no cookie is the first to fail."""

FIELDS_MAX = 100
"""Fields of one message. Each costs time in every stage; browsers send about 20."""

TARGET_BYTES_MAX = 16 * 1024
"""RFC 9112 section 3 recommends at least 8,000."""

_CHUNK_LINE_BYTES_MAX = 256
"""A chunk's size and extensions: nobody uses extensions but for making others read them."""

CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""Never sent on (RFC 9110 section 7.6.1)."""

_FRAMING_FIELDS = CONNECTION_FIELDS | {b"content-length", b"host", b"expect"}

_COMMON_NAMES = {
    spelled: name
    for name in (
        b"accept", b"accept-encoding", b"accept-language", b"accept-ranges", b"age", b"authorization",
        b"cache-control", b"content-encoding", b"content-language", b"content-type", b"cookie", b"date", b"etag",
        b"expires", b"if-modified-since", b"if-none-match", b"last-modified", b"location", b"origin", b"pragma",
        b"priority", b"referer", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"server", b"set-cookie",
        b"traceparent", b"upgrade-insecure-requests", b"user-agent", b"vary", b"x-forwarded-for",
        b"x-forwarded-proto", b"x-request-id",
    )
    for spelled in (name, name.title())
}  # fmt: skip
"""Spellings whose lower case need not be made anew, none of them in _FRAMING_FIELDS."""

_TRAILERS_REFUSED = _FRAMING_FIELDS | {
    b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"cookie",
    b"max-forwards", b"proxy-authorization", b"range", b"set-cookie", b"trailer",
}  # fmt: skip
"""Dropped from trailers: they frame, route or authenticate, and were not there when that was decided
(RFC 9110 section 6.5.1)."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):"
    rb"[ \t]*((?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?)[ \t]*"
).fullmatch


Parser = Any
"""httptools' request or response parser: their common class exists in Cython only."""


class MalformedError(Exception):
    """The message cannot be taken; `status` is what its sender is told if it was a request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class HeadReader:
    """Reads whole heads, one after the other; between two calls it remembers nothing, so all connections share one.

    After `read`: `headers`, names in lower case; `framing`, the fields of the connection, host, content-length and
    expect, which the codec must understand; `url`, the target of a request. They are the reader's until the next call.
    """

    __slots__ = ("_make", "_used", "framing", "headers", "parser", "url")

    def __init__(self, make_parser: Callable[["HeadReader"], Parser]) -> None:
        """`make_parser` is httptools' class."""
        self.url = b""
        self.headers: Headers = []
        self.framing: Headers = []
        self._make = make_parser
        self._used = False  # beyond use: llhttp waits for a body, or has failed
        self.parser = make_parser(self)  # llhttp: gives the status or the method of the head just read

    def read(self, head: bytes) -> None:
        """`head` ends with the first CRLF CRLF. Raises MalformedError."""
        if self._used:
            self._used = False
            self.parser = self._make(self)  # 0.3 us
        self.url = b""
        headers: Headers = []
        framing: Headers = []
        self.headers, self.framing = headers, framing
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.renew()  # CONNECT, or fields that ask for another protocol: the codec decides
        except httptools.HttpParserError as error:
            self.renew()
            raise MalformedError(400, str(error) or "malformed head") from None
        if len(headers) + len(framing) > FIELDS_MAX:
            self.renew()
            raise MalformedError(431, f"more than {FIELDS_MAX} fields")
        if b" \r\n" in head or b"\t\r\n" in head:  # llhttp leaves white space at the end of values
            self.headers = [(name, value.rstrip(b" \t")) for name, value in headers]
            self.framing = [(name, value.rstrip(b" \t")) for name, value in framing]

    def renew(self) -> None:
        """Needed after a head that llhttp expects a body (or the end) after."""
        self._used = True

    # llhttp's calls

    def on_url(self, part: bytes) -> None:
        """A piece of the target."""
        self.url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        common = _COMMON_NAMES.get(name)
        if common is not None:
            self.headers.append((common, value))
            return
        name = name.lower()
        if name in _FRAMING_FIELDS:
            self.framing.append((name, value))
        else:
            self.headers.append((name, value))


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, lower-case."""
    if value in (b"keep-alive", b"close"):
        return [value]
    return [token for item in value.lower().split(b",") if (token := item.strip(b" \t"))]


class ChunkReader:
    """Takes a chunked body apart (RFC 9112 section 7.1), strictly: CRLF only, no space around the size."""

    __slots__ = ("_fields", "_phase", "_remaining", "_stream_id", "_trailer_bytes", "done")

    def __init__(self, stream_id: int) -> None:
        self._stream_id = stream_id
        self._phase = 0  # 0 size line, 1 data, 2 CRLF after data, 3 trailers
        self._remaining = 0
        self._fields: Headers = []
        self._trailer_bytes = 0
        self.done = False

    def read(self, buffer: bytes, at: int, events: list[Event]) -> int:
        """Reads from `at` as far as it can, adds events, returns where it stopped: the rest belongs before the next
        bytes, or, once `done`, to the next message. Raises MalformedError."""
        size = len(buffer)
        while at < size:
            if self._phase == 1:
                take = min(self._remaining, size - at)
                piece = buffer if take == size else buffer[at : at + take]
                events.append(Data(self._stream_id, piece))
                at += take
                self._remaining -= take
                if self._remaining == 0:
                    self._phase = 2
            elif self._phase == 2:
                if buffer[at : at + 2] == b"\r\n":
                    at += 2
                    self._phase = 0
                elif size - at >= 2 or buffer[at : at + 1] != b"\r":
                    raise MalformedError(400, "a chunk does not end where it said")
                else:
                    break
            else:
                end = buffer.find(b"\n", at, at + HEAD_BYTES_MAX)
                limit = _CHUNK_LINE_BYTES_MAX if self._phase == 0 else HEAD_BYTES_MAX
                if (size if end < 0 else end) - at > limit:
                    raise MalformedError(400, "a chunk's size line or a trailer is too long")
                if end < 0:
                    break
                if buffer[end - 1 : end] != b"\r" or end == at:
                    raise MalformedError(400, "a line of a chunked body ends without CR")
                line, at = buffer[at : end - 1], end + 1
                if self._phase == 0:
                    self._size_line(line)
                elif line:
                    self._trailer_line(line)
                else:
                    self.done = True
                    if self._fields:
                        events.append(Trailers(self._stream_id, self._fields))
                    events.append(End(self._stream_id))
                    break
        return at

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE(line)
        if match is None:
            raise MalformedError(400, "malformed chunk size")
        self._remaining = int(match[1], 16)
        self._phase = 1 if self._remaining else 3

    def _trailer_line(self, line: bytes) -> None:
        match = _FIELD_LINE(line)
        if match is None:
            raise MalformedError(400, "malformed trailer")
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > HEAD_BYTES_MAX or len(self._fields) >= FIELDS_MAX:
            raise MalformedError(400, "too many trailers")
        name = match[1].lower()
        if name not in _TRAILERS_REFUSED:
            self._fields.append((name, match[2]))


def write_head(start: bytes, headers: Headers, end: bytes) -> bytes:
    """`start` line, fields, then `end` (more lines, and the empty one), each ending with CRLF.

    Raises MalformedError if a field would become more or less than one line: that is how a request is smuggled
    through a codec that allows what HTTP/1.1 does not (RFC 9113 section 10.3).
    """
    if headers:
        lines = b"\r\n".join([b": ".join(field) for field in headers])
        count = len(headers) - 1
        if lines.count(b"\n") != count or lines.count(b"\r") != count:
            raise MalformedError(400, "a field holds a line break")
        return b"".join((start, lines, b"\r\n", end))
    return start + end


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body. Raises MalformedError as `write_head` does."""
    kept = [field for field in trailers if field[0] not in _TRAILERS_REFUSED]
    return write_head(b"0\r\n", kept, b"\r\n")
