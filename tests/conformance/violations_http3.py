"""What a client of HTTP/3 may not do (RFC 9114, RFC 9204), one a requirement, by section: whether that costs it the
connection or the stream, and by which code; and what costs nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, encode_frame

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 13
OF_HTTP2 = {"PRIORITY": 2, "PING": 6, "WINDOW_UPDATE": 8, "CONTINUATION": 9}
GREASE = 0x21 + 0x1F * 3
CONTROL, PUSH, ENCODER, DECODER = 0, 1, 2, 3

Said = tuple[int, bytes, bool | None]
"""Stream, bytes, and whether they end it; None: it is reset behind them."""

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """`said` follows what a good client says at first, which is SETTINGS on stream 2, unless `bare`. `scope`:
    connection, stream (0), or nothing; then a good request is answered."""

    section: str
    what: str
    said: tuple[Said, ...]
    scope: str
    codes: frozenset[int] = frozenset()
    bare: bool = False

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


def number(value: int) -> bytes:
    """A variable-length integer (RFC 9000 section 16)."""
    return encode_uint_var(value)


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS."""
    return encode_frame(SETTINGS, b"".join(number(name) + number(value) for name, value in pairs))


def stream(kind: int, raw: bytes = b"", *, stream_id: int, end: bool | None = False) -> Said:
    """A unidirectional stream."""
    return stream_id, number(kind) + raw, end


def block(fields: Fields) -> bytes:
    """Of the static table alone."""
    return bytes(pylsqpack.Encoder().encode(0, fields)[1])


def pseudo(method: bytes = b"GET") -> Fields:
    """Of a good request."""
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]


def head(fields: Fields) -> bytes:
    """HEADERS."""
    return encode_frame(HEADERS, block(fields))


GET = head(pseudo())
POST = head(pseudo(b"POST"))
X = encode_frame(DATA, b"x")
BEGUN = stream(CONTROL, settings(), stream_id=2)


def connection(section: str, what: str, code: ErrorCode, *said: Said, bare: bool = False) -> Case:
    """Ends it by this code."""
    return Case(f"9114-{section}", what, said, "connection", frozenset((code,)), bare)


def _streams() -> Iterator[Case]:
    missing, unexpected = ErrorCode.H3_MISSING_SETTINGS, ErrorCode.H3_FRAME_UNEXPECTED
    created, closed = ErrorCode.H3_STREAM_CREATION_ERROR, ErrorCode.H3_CLOSED_CRITICAL_STREAM
    for what, kind, payload in (
        ("GOAWAY", GOAWAY, number(0)), ("MAX_PUSH_ID", MAX_PUSH_ID, number(0)), ("an unknown frame", GREASE, b"x"),
    ):  # fmt: skip
        first = stream(CONTROL, encode_frame(kind, payload), stream_id=2)
        yield connection("6.2.1", f"{what} before SETTINGS", missing, first, bare=True)
    for name, kind in {"control": CONTROL, "encoder": ENCODER, "decoder": DECODER}.items():
        raw = settings() if kind == CONTROL else b""
        twice = stream(kind, raw, stream_id=6), stream(kind, raw, stream_id=10)
        yield connection("6.2.1", f"two {name} streams", created, *(twice[:1] if kind == CONTROL else twice))
        for what, end in {"ends": True, "is reset": None}.items():
            said = (2, b"", end) if kind == CONTROL else stream(kind, stream_id=6, end=end)
            yield connection("6.2.1", f"the {name} stream {what}", closed, said)
    yield connection("6.2.2", "a client that pushes", created, stream(PUSH, number(0), stream_id=6))
    yield Case("9114-6.2.3", "a stream of an unknown type", (stream(GREASE, b"x", stream_id=6, end=True),), "nothing")
    for what, kind in {"DATA": DATA, "HEADERS": HEADERS, "PUSH_PROMISE": PUSH_PROMISE}.items():
        yield connection("7.2", f"{what} on the control stream", unexpected, (2, encode_frame(kind, GET), False))
    for name, kind in OF_HTTP2.items():
        old = encode_frame(kind, bytes(8))
        yield connection("7.2.8", f"{name} of HTTP/2 on the control stream", unexpected, (2, old, False))
        yield connection("7.2.8", f"{name} of HTTP/2 in a request", unexpected, (0, GET + old, False))
    unknown = encode_frame(GREASE, b"x")
    yield Case("9114-7.2.8", "an unknown frame on the control stream", ((2, unknown, False),), "nothing")
    yield connection("7.2.4", "SETTINGS twice", unexpected, (2, settings(), False))


def _settings() -> Iterator[Case]:
    wrong = ErrorCode.H3_SETTINGS_ERROR
    for name in (2, 3, 4, 5):
        raw = stream(CONTROL, settings((name, 1)), stream_id=2)
        yield connection("7.2.4.1", f"setting {name} of HTTP/2", wrong, raw, bare=True)
    twice = stream(CONTROL, settings((6, 1), (6, 1)), stream_id=2)
    yield connection("7.2.4", "a setting twice", wrong, twice, bare=True)
    for name, what in {8: "ENABLE_CONNECT_PROTOCOL", 0x33: "H3_DATAGRAM"}.items():
        raw = stream(CONTROL, settings((name, 2)), stream_id=2)
        yield connection("7.2.4.1", f"{what} is neither 0 nor 1", wrong, raw, bare=True)
    half = stream(CONTROL, encode_frame(SETTINGS, number(6)), stream_id=2)
    yield Case("9114-7.1", "a setting without a value", (half,), "connection",
               frozenset((ErrorCode.H3_FRAME_ERROR, ErrorCode.H3_SETTINGS_ERROR)), bare=True)  # fmt: skip
    unknown = stream(CONTROL, settings((GREASE, 1), (1, 4096), (7, 100)), stream_id=2)
    yield Case("9114-7.2.4.1", "an unknown setting", (unknown,), "nothing", bare=True)
    wrong = ErrorCode.H3_ID_ERROR
    fewer = encode_frame(MAX_PUSH_ID, number(5)) + encode_frame(MAX_PUSH_ID, number(4))
    yield connection("7.2.7", "a push id that falls", wrong, (2, fewer, False))
    yield Case("9114-7.2.7", "push ids", ((2, encode_frame(MAX_PUSH_ID, number(5)), False),), "nothing")
    yield Case("9114-5.2", "GOAWAY", ((2, encode_frame(GOAWAY, number(0)), False),), "nothing")


def _compression() -> Iterator[Case]:
    broken = frozenset((ErrorCode.QPACK_DECOMPRESSION_FAILED,))
    for what, raw in {
        "a field of a table that is empty": b"\x02\x00\x80",
        "an index beyond the static table": b"\x00\x00\xff\x80\x01",
        "a name's index beyond it": b"\x00\x00\x5f\x80\x01\x00", "a string longer than the block": b"\x00\x00\x27\x10x",
        "nothing": b"",
    }.items():  # fmt: skip
        yield Case("9204-2.2", what, ((0, encode_frame(HEADERS, raw), False),), "connection", broken)
    for what, raw in {
        "a table larger than was allowed": b"\x3f\xe1\x1f", "an entry into no table": b"\x41a\x01b",
        "a copy of no entry": b"\x00",
    }.items():  # fmt: skip
        said = stream(ENCODER, raw, stream_id=6)
        yield Case("9204-3.2", what, (said,), "connection", frozenset((ErrorCode.QPACK_ENCODER_STREAM_ERROR,)))
    for what, raw in {
        "an increment of 0": b"\x00", "an increment of what was not sent": b"\x01", "an acknowledgement": b"\x80"
    }.items():  # fmt: skip
        said = stream(DECODER, raw, stream_id=6)
        yield Case("9204-4.4", what, (said,), "connection", frozenset((ErrorCode.QPACK_DECODER_STREAM_ERROR,)))


def _requests() -> Iterator[Case]:
    unexpected = ErrorCode.H3_FRAME_UNEXPECTED
    for what, raw in {
        "DATA before HEADERS": X, "SETTINGS": settings(), "GOAWAY": encode_frame(GOAWAY, number(0)),
        "CANCEL_PUSH": encode_frame(CANCEL_PUSH, number(0)), "MAX_PUSH_ID": encode_frame(MAX_PUSH_ID, number(0)),
        "PUSH_PROMISE": encode_frame(PUSH_PROMISE, number(0) + block(pseudo())),
        "DATA behind trailers": POST + head([(b"x", b"a")]) + X,
        "HEADERS behind trailers": POST + head([(b"x", b"a")]) * 2,
    }.items():  # fmt: skip
        yield connection("4.1", f"{what} in a request", unexpected, (0, raw, False))
    for what, raw in {"a frame that is cut": POST + X[:-1], "half a frame's head": POST + b"\x00\x40"}.items():
        yield connection("7.1", what, ErrorCode.H3_FRAME_ERROR, (0, raw, True))
    yield Case("9114-4.1", "an unknown frame in a request", ((0, encode_frame(GREASE, b"x") + GET, True),), "nothing")
    for what, raw in {"no head": b"", "an unknown frame alone": encode_frame(GREASE, b"x")}.items():
        yield Case("9114-4.1", f"a request of {what}", ((0, raw, True),), "stream",
                   frozenset((ErrorCode.H3_REQUEST_INCOMPLETE, ErrorCode.H3_MESSAGE_ERROR)))  # fmt: skip
    good = pseudo()
    for what, fields in {
        "a capital letter": [*good, (b"X", b"a")], "a space in a name": [*good, (b"x y", b"a")],
        "LF in a value": [*good, (b"x", b"a\nb")], "NUL in a value": [*good, (b"x", b"a\0")],
        "a field of the connection": [*good, (b"connection", b"close")],
        "transfer-encoding": [*good, (b"transfer-encoding", b"chunked")],
        "te of more than trailers": [*good, (b"te", b"gzip")], "an unknown pseudo field": [*good, (b":x", b"a")],
        "a pseudo field of responses": [*good, (b":status", b"200")],
        "a pseudo field behind others": [(b"x", b"a"), *good],
        "a pseudo field twice": [*good, good[0]], "no :method": good[1:], "no :scheme": [good[0], *good[2:]],
        "no :path": good[:3], "no :authority": [*good[:2], good[3]], "an empty :path": [*good[:3], (b":path", b"")],
        "host that differs": [*good, (b"host", b"other")],
        "a length without a body": [*good, (b"content-length", b"1")],
    }.items():  # fmt: skip
        yield Case("9114-4.2", what, ((0, head(fields), True),), "stream", frozenset((ErrorCode.H3_MESSAGE_ERROR,)))
    long = head([*pseudo(b"POST"), (b"content-length", b"2")])
    for what, raw in {
        "a length greater than the body": long + X, "a length less than the body": long + X * 3,
        "a pseudo field in trailers": POST + X + head([(b":path", b"/")]),
    }.items():  # fmt: skip
        yield Case("9114-4.1.2", what, ((0, raw, True),), "stream", frozenset((ErrorCode.H3_MESSAGE_ERROR,)))
    single = tuple((0, GET[at : at + 1], False) for at in range(len(GET)))
    yield Case("9114-4.1", "a request in single bytes", single, "nothing")


CASES: tuple[Case, ...] = (*_streams(), *_settings(), *_compression(), *_requests())
