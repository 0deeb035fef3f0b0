"""What requests and responses of HTTP/1.1 share: reading a head, taking a body apart, writing fields.

Invariant: of two ways to read a message neither is taken: it is refused. llhttp (strict) reads the fields; it only
ever gets whole heads, cut at the first empty line, so that it never sees a body and never decides where one ends.
Framing is decided here, once (RFC 9112 section 6), and on the way out fields are checked before they become lines.
"""

import re
from collections.abc import Callable
from typing import Any

import httptools

from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.events import Data, End, Event, Headers, Trailers

_CHUNK_LINE_BYTES_MAX = 256
"""A chunk's size and extensions: nobody uses extensions but for making others read them."""

_CHUNK_EXCESS_BYTES_MAX = 16 * 1024
"""So much more than a body's data and what usual chunks need may come around it (CVE-2023-39326): else a byte of body
could cost 260 to read."""

_CHUNK_LINE_BYTES_USUAL = 16

CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""Never sent on (RFC 9110 section 7.6.1)."""

_FRAMING_FIELDS = CONNECTION_FIELDS | {b"content-length", b"host", b"expect"}

_KNOWN_LINES_MAX = 4096
_KNOWN_LINE_BYTES_MAX = 160
_known_lines: dict[bytes, tuple[tuple[bytes, bytes], bool]] = {}
"""Lines that were read before, as `_take_apart` gives them: most lines of most messages are (it is why HPACK has a
table), and a look is cheaper than taking them apart. When it is full, some two megabytes, it begins anew: who sends
ever new lines costs others a little time and nothing else. Long lines are not worth the room, and secrets are not kept
longer than their request."""

_SECRET_FIELDS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

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

    llhttp only says whether the head is one, and without callbacks that costs little; what it has passed consists of
    lines that end with CRLF and of no other CR or LF, so that taking them apart here cannot read it in another way.
    """

    __slots__ = ("_make", "_used", "parser")

    def __init__(self, make_parser: Callable[[object], Parser]) -> None:
        """`make_parser` is httptools' class."""
        self._make = make_parser
        self._used = False  # beyond use: llhttp waits for a body, or has failed
        self.parser = make_parser(None)  # llhttp: gives the status or the method of the head just read

    def read(self, head: bytes, fields_max: int) -> tuple[bytes, Headers, Headers]:
        """`head` ends with the first CRLF CRLF, and has at most so many fields. Returns its first line; its fields,
        names in lower case; and apart from them those of the connection, host, content-length and expect, which the
        codec must understand.

        Raises MalformedError.
        """
        if self._used:
            self._used = False
            self.parser = self._make(None)  # 0.3 us
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.renew()  # CONNECT, or fields that ask for another protocol: the codec decides
        except httptools.HttpParserError as error:
            self.renew()
            raise MalformedError(400, str(error) or "malformed head") from None
        lines = head.split(b"\r\n")
        if len(lines) > fields_max + 3:  # the first one, and two empty ones
            self.renew()
            raise MalformedError(431, f"more than {fields_max} fields")
        headers: Headers = []
        framing: Headers = []
        for line in lines[1:-2]:
            field, is_framing = _known_lines.get(line) or _take_apart(line)
            if is_framing:
                framing.append(field)
            else:
                headers.append(field)
        return lines[0], headers, framing

    def renew(self) -> None:
        """Needed after a head that llhttp expects a body (or the end) after."""
        self._used = True


def _take_apart(line: bytes) -> tuple[tuple[bytes, bytes], bool]:
    """A line that llhttp has passed, as a field, and whether it is one of _FRAMING_FIELDS. It is known then."""
    name, _, value = line.partition(b":")
    name = name.lower()
    known = (name, value.strip()), name in _FRAMING_FIELDS
    if len(line) <= _KNOWN_LINE_BYTES_MAX and name not in _SECRET_FIELDS:
        if len(_known_lines) >= _KNOWN_LINES_MAX:
            _known_lines.clear()
        _known_lines[line] = known
    return known


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, lower-case."""
    if value in (b"keep-alive", b"close"):
        return [value]
    return [token for item in value.lower().split(b",") if (token := item.strip(b" \t"))]


class ChunkReader:
    """Takes a chunked body apart (RFC 9112 section 7.1), strictly: CRLF only, no space around the size."""

    __slots__ = ("_bounds", "_excess", "_fields", "_phase", "_remaining", "_stream_id", "_trailer_bytes", "done")

    def __init__(self, stream_id: int, bounds: Bounds = USUAL) -> None:
        self._stream_id = stream_id
        self._bounds = bounds
        self._excess = 0  # bytes of size lines beyond what the data is worth
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
                most = self._bounds.head_bytes_max
                end = buffer.find(b"\n", at, at + most)
                limit = _CHUNK_LINE_BYTES_MAX if self._phase == 0 else most
                if (size if end < 0 else end) - at > limit:
                    raise MalformedError(400, "a chunk's size line or a trailer is too long")
                if end < 0:
                    break
                if end == at or buffer[end - 1 : end] != b"\r":  # in this order: compiled, [-1:0] is no slice (0037)
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
        self._excess = max(0, self._excess + len(line) + 2 - _CHUNK_LINE_BYTES_USUAL - 2 * self._remaining)
        if self._excess > _CHUNK_EXCESS_BYTES_MAX:
            raise MalformedError(400, "chunks of almost nothing but their size lines")
        self._phase = 1 if self._remaining else 3

    def _trailer_line(self, line: bytes) -> None:
        match = _FIELD_LINE(line)
        if match is None:
            raise MalformedError(400, "malformed trailer")
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > self._bounds.head_bytes_max or len(self._fields) >= self._bounds.fields_max:
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
