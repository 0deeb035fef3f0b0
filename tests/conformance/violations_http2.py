"""What a client of HTTP/2 may not do (RFC 9113, RFC 7541, RFC 8441), one a requirement, by section: whether that costs
it the connection, the stream, or an answer, and by which codes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32
PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, REFUSED, COMPRESSION = 1, 3, 5, 6, 7, 9
SILENT = -1
"""GOAWAY may be left out where the peer does not seem to speak HTTP/2 (section 3.4)."""


@dataclass(frozen=True, slots=True)
class Costs:
    """`scope`: connection, stream (of `stream_id`), answer (`codes` are statuses), or nothing. A stream error may be
    treated as one of the connection (section 5.4.2), but that harms the other streams, so we do not."""

    scope: str
    codes: frozenset[int] = frozenset()
    stream_id: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """`raw` is said after preface and SETTINGS, unless `bare`. `then` once the response to stream 1 is there.
    `seen_by_its_end`: only the end shows what is wrong, and where the response is out it closes the stream, so that
    nothing is left to be reset."""

    section: str
    what: str
    raw: bytes
    costs: Costs
    bare: bool = False
    then: bytes = b""
    seen_by_its_end: bool = False

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


def connection(*codes: int) -> Costs:
    """GOAWAY by one of them."""
    return Costs("connection", frozenset(codes))


def stream(*codes: int, stream_id: int = 1) -> Costs:
    """RST_STREAM by one of them, and the connection goes on."""
    return Costs("stream", frozenset(codes), stream_id)


def answer(*statuses: int) -> Costs:
    """Answered, and the connection goes on."""
    return Costs("answer", frozenset(statuses))


NOTHING = Costs("nothing")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", size: int | None = None) -> bytes:
    """A frame; `size` is what it says of its length."""
    said = len(payload) if size is None else size
    return said.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def integer(value: int, bits: int = 7) -> bytes:
    """RFC 7541 section 5.1, the flags 0."""
    if value < (1 << bits) - 1:
        return bytes((value,))
    out, value = bytearray(((1 << bits) - 1,)), value - (1 << bits) + 1
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Literals without indexing."""
    return b"".join(
        b"\x00" + integer(len(name)) + name + integer(len(value)) + value for name, value in fields
    )  # fmt: skip


Fields = list[tuple[bytes, bytes]]


def pseudo(path: bytes = b"/", method: bytes = b"GET") -> Fields:
    """Of a good request."""
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]


def head(fields: Fields, stream_id: int = 1, flags: int = END_STREAM | END_HEADERS) -> bytes:
    """HEADERS."""
    return frame(HEADERS, flags, stream_id, block(fields))


def get(*more: tuple[bytes, bytes], path: bytes = b"/", stream_id: int = 1) -> bytes:
    """A whole request."""
    return head([*pseudo(path), *more], stream_id)


def post(*more: tuple[bytes, bytes], path: bytes = b"/", stream_id: int = 1) -> bytes:
    """The head of a request whose body follows."""
    return head([*pseudo(path, b"POST"), *more], stream_id, END_HEADERS)


WAIT = get(path=b"/wait")
"""A request that is not answered."""


def shown(byte: int) -> str:
    """A byte, for a name."""
    return chr(byte) if 0x20 < byte < 0x7F else f"0x{byte:02x}"


def _preface() -> Iterator[Case]:
    settings = frame(SETTINGS, 0, 0)
    for what, raw in {
        "a preface that is none": PREFACE.replace(b"SM", b"XX") + settings,
        "a request of HTTP/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "nothing of HTTP": bytes(64),
        "half a preface and then something else": PREFACE[:12] + b"GET / HTTP/1.1\r\n\r\n",
        "PING before SETTINGS": PREFACE + frame(PING, 0, 0, bytes(8)),
        "a request before SETTINGS": PREFACE + get(),
        "WINDOW_UPDATE before SETTINGS": PREFACE + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        "an acknowledgement before SETTINGS": PREFACE + frame(SETTINGS, ACK, 0),
    }.items():
        codes = (PROTOCOL, SILENT) if not raw.startswith(PREFACE) else (PROTOCOL,)
        yield Case("9113-3.4", what, raw, connection(*codes), bare=True)


def _frames() -> Iterator[Case]:
    yield Case("9113-4.1", "a frame of an unknown type", frame(0xFE, 0xFF, 0, b"x" * 10), NOTHING)
    yield Case("9113-4.1", "unknown flags", frame(PING, 0xFE, 0, bytes(8)), NOTHING)
    yield Case("9113-4.1", "the reserved bit of a stream id", frame(PING, 0, 1 << 31, bytes(8)), NOTHING)
    large = bytes(16385)
    for what, raw in {
        "DATA": post() + frame(DATA, 0, 1, large),
        "HEADERS": frame(HEADERS, END_HEADERS, 1, large),
        "SETTINGS": frame(SETTINGS, 0, 0, bytes(16386)),
        "PING": frame(PING, 0, 0, large),
        "an unknown frame": frame(0xFE, 0, 0, large),
        "a frame whose payload does not come": frame(DATA, 0, 1, b"", size=2**24 - 1),
    }.items():
        yield Case("9113-4.2", f"more than the largest frame: {what}", raw, connection(FRAME_SIZE))
    for section, what, raw in (
        ("6.5", "SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, bytes(5))),
        ("6.5", "SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, bytes(7))),
        ("6.5", "SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, bytes(3))),
        ("6.5", "an acknowledgement with a payload", frame(SETTINGS, ACK, 0, bytes(6))),
        ("6.5", "an acknowledgement of 1 byte", frame(SETTINGS, ACK, 0, bytes(1))),
        ("6.7", "PING of 7 bytes", frame(PING, 0, 0, bytes(7))),
        ("6.7", "PING of 9 bytes", frame(PING, 0, 0, bytes(9))),
        ("6.7", "PING of nothing", frame(PING, 0, 0)),
        ("6.4", "RST_STREAM of 3 bytes", WAIT + frame(RST_STREAM, 0, 1, bytes(3))),
        ("6.4", "RST_STREAM of 5 bytes", WAIT + frame(RST_STREAM, 0, 1, bytes(5))),
        ("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3))),
        ("6.9", "WINDOW_UPDATE of 5 bytes", frame(WINDOW_UPDATE, 0, 0, bytes(5))),
        ("6.8", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, bytes(7))),
    ):
        yield Case(f"9113-{section}", what, raw, connection(FRAME_SIZE))
    for size in (0, 4, 6):
        yield Case(
            "9113-6.3", f"PRIORITY of {size} bytes", WAIT + frame(PRIORITY, 0, 1, bytes(size)), stream(FRAME_SIZE)
        )


def _compression() -> Iterator[Case]:
    for section, what, raw in (
        ("7541-6.1", "index 0", b"\x80"),
        ("7541-2.3.3", "an index beyond both tables", b"\xff\x80\x01"),
        ("7541-2.3.3", "a name's index beyond both tables", b"\x0f\xff\x00\x01x"),
        ("7541-5.1", "an integer without end", b"\xff" + b"\xff" * 40),
        ("7541-5.2", "a name longer than the block", b"\x00\x7f\x10x"),
        ("7541-5.2", "a value longer than the block", b"\x00\x01x\x7f\x10x"),
        ("7541-5.2", "a literal without a value", b"\x00\x01x"),
        ("7541-5.2", "Huffman code padded by more than 7 bits", b"\x00\x01x\x83\x1f\xff\xff"),
        ("7541-5.2", "Huffman code padded by zeros", b"\x00\x01x\x81\x18"),
        ("7541-5.2", "the end of string within Huffman code", b"\x00\x01x\x84\xff\xff\xff\xff"),
        ("7541-6.3", "a table larger than allowed", b"\x3f\xe2\x1f"),
        ("7541-4.2", "a table's size in the middle of a block", block(pseudo()) + b"\x20"),
    ):
        yield Case(section, what, frame(HEADERS, END_STREAM | END_HEADERS, 1, raw), connection(COMPRESSION))
    for section, what, raw in (
        ("7541-6.1", "index 0", b"\x80"),
        ("7541-2.3.3", "an index beyond the static table", b"\xc6"),
        ("7541-2.3.3", "a name's index beyond the static table", b"\x7f\x07\x00"),
        ("7541-2.3.3", "the first index of an empty table", b"\xbe"),
        ("7541-4.2", "a table's size", b"\x21"),
        ("7541-5.2", "Huffman code padded by more than 7 bits", b"\x00\x01x\x84\x49\x50\x9f\xff"),
        ("7541-5.2", "Huffman code padded by zeros", b"\x00\x01x\x83\x49\x50\x90"),
        ("7541-5.2", "the end of string within Huffman code", b"\x00\x01x\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        ("7541-5.2", "a literal that only begins", b"\x40"),
    ):
        yield Case(section, f"{what}, behind a good block", frame(HEADERS, 5, 1, block(pseudo()) + raw),
                   connection(COMPRESSION))  # fmt: skip
    begun = frame(HEADERS, END_STREAM, 1, block(pseudo()))
    for what, raw in {
        "DATA": frame(DATA, 0, 1, b"x"),
        "HEADERS of the same stream": get(),
        "HEADERS of another stream": get(stream_id=3),
        "CONTINUATION of another stream": frame(CONTINUATION, END_HEADERS, 3),
        "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
        "RST_STREAM": frame(RST_STREAM, 0, 1, bytes(4)),
        "SETTINGS": frame(SETTINGS, 0, 0),
        "PING": frame(PING, 0, 0, bytes(8)),
        "GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
        "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        "an unknown frame": frame(0xFE, 0, 1, b"x"),
    }.items():
        yield Case("9113-4.3", f"within a header block: {what}", begun + raw, connection(PROTOCOL))
        more = frame(CONTINUATION, 0, 1, block([(b"x", b"a")]))
        yield Case("9113-6.10", f"behind CONTINUATION: {what}", begun + more + raw, connection(PROTOCOL))
    over = begun + frame(CONTINUATION, END_HEADERS, 1, block([(b"x", b"a")]))
    yield Case("9113-6.10", "CONTINUATION behind the last one", over + frame(CONTINUATION, 4, 1), connection(PROTOCOL))


def _streams() -> Iterator[Case]:
    for what, raw in {
        "DATA": frame(DATA, END_STREAM, 1, b"x"),
        "RST_STREAM": frame(RST_STREAM, 0, 1, bytes(4)),
        "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        "CONTINUATION": frame(CONTINUATION, END_HEADERS, 1),
    }.items():
        yield Case("9113-5.1", f"idle: {what}", raw, connection(PROTOCOL))
    yield Case("9113-5.1", "idle: PRIORITY", frame(PRIORITY, 0, 5, bytes(5)), NOTHING)
    for what, raw in {"DATA": frame(DATA, END_STREAM, 1, b"x"), "HEADERS": get(path=b"/wait")}.items():
        yield Case("9113-5.1", f"half closed: {what}", WAIT + raw, stream(STREAM_CLOSED))
    cancelled = WAIT + frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    for what, raw in {"DATA": frame(DATA, END_STREAM, 1, b"x"), "HEADERS": get()}.items():
        yield Case("9113-5.1", f"closed by its RST_STREAM: {what}", cancelled + raw, stream(STREAM_CLOSED))
    for what, raw, costs in (
        ("DATA", frame(DATA, END_STREAM, 1, b"x"), stream(STREAM_CLOSED)),
        ("HEADERS", get(), connection(STREAM_CLOSED)),
    ):
        yield Case("9113-5.1", f"closed by its end: {what}", get(), costs, then=raw)
    for what, first, behind in (
        ("closed by its RST_STREAM", cancelled + frame(CONTINUATION, END_HEADERS, 1, block([(b"x", b"a")])), b""),
        ("closed by its end", get(), frame(CONTINUATION, END_HEADERS, 1, block([(b"x", b"a")]))),
    ):
        yield Case("9113-5.1", f"{what}: CONTINUATION", first, connection(PROTOCOL, STREAM_CLOSED), then=behind)
    for what, raw in {
        "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        "RST_STREAM": frame(RST_STREAM, 0, 1, bytes(4)),
        "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    }.items():
        yield Case("9113-5.1", f"closed by its end: {what}", get(), NOTHING, then=raw)
    yield Case("9113-5.1.1", "a stream with an even id", get(stream_id=2), connection(PROTOCOL))
    yield Case(
        "9113-5.1.1",
        "a stream with a lower id than one before",
        get(stream_id=5) + get(stream_id=3),
        connection(PROTOCOL, STREAM_CLOSED),
    )
    many = b"".join(get(path=b"/wait", stream_id=1 + 2 * number) for number in range(129)) + frame(
        RST_STREAM, 0, 1, bytes(4)
    )
    yield Case("9113-5.1.2", "more streams than are allowed", many, stream(PROTOCOL, REFUSED, stream_id=257))
    itself = (1).to_bytes(4, "big") + b"\xff"
    yield Case("7540-5.3.1", "HEADERS that depends on itself", frame(HEADERS, 0x25, 1, itself + block(pseudo())),
               stream(PROTOCOL))  # fmt: skip
    for what, first in {"idle": b"", "open": WAIT}.items():
        yield Case("7540-5.3.1", f"PRIORITY that depends on itself, {what}", first + frame(PRIORITY, 0, 1, itself),
                   connection(PROTOCOL) if what == "idle" else stream(PROTOCOL))  # fmt: skip
    yield Case("9113-5.3.2", "HEADERS with a priority", frame(HEADERS, 0x25, 1, bytes(5) + block(pseudo())), NOTHING)


def _kinds() -> Iterator[Case]:
    for section, what, raw in (
        ("6.1", "DATA of stream 0", frame(DATA, 0, 0, b"x")),
        ("6.2", "HEADERS of stream 0", get(stream_id=0)),
        ("6.3", "PRIORITY of stream 0", frame(PRIORITY, 0, 0, bytes(5))),
        ("6.4", "RST_STREAM of stream 0", frame(RST_STREAM, 0, 0, bytes(4))),
        ("6.5", "SETTINGS of a stream", WAIT + frame(SETTINGS, 0, 1)),
        ("6.6", "PUSH_PROMISE", WAIT + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(pseudo()))),
        ("6.6", "PUSH_PROMISE of stream 0", frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\2" + block(pseudo()))),
        ("6.7", "PING of a stream", WAIT + frame(PING, 0, 1, bytes(8))),
        ("6.8", "GOAWAY of a stream", WAIT + frame(GOAWAY, 0, 1, bytes(8))),
        ("6.10", "CONTINUATION of stream 0", frame(HEADERS, 0, 1, block(pseudo())) + frame(CONTINUATION, 4, 0)),
        ("6.10", "CONTINUATION after the end of a block", WAIT + frame(CONTINUATION, END_HEADERS, 1)),
        ("6.10", "CONTINUATION after DATA", post(path=b"/wait") + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, 4, 1)),
        ("6.1", "DATA with more padding than payload", post() + frame(DATA, PADDED, 1, b"\x05abc")),
        ("6.1", "DATA whose padding is its payload", post() + frame(DATA, PADDED, 1, b"\x04abc")),
        ("6.2", "HEADERS with more padding than payload", frame(HEADERS, PADDED | 5, 1, b"\xff" + block(pseudo()))),
    ):
        yield Case(f"9113-{section}", what, raw, connection(PROTOCOL))
    for section, what, raw in (
        ("6.1", "DATA that is padded and empty", post() + frame(DATA, PADDED, 1)),
        ("6.2", "HEADERS that is padded and empty", frame(HEADERS, PADDED | 5, 1)),
        ("6.2", "HEADERS too short for its priority", frame(HEADERS, PRIORITIZED | 5, 1, bytes(4))),
    ):
        yield Case(f"9113-{section}", what, raw, connection(PROTOCOL, FRAME_SIZE))
    for what, number, value, codes in (
        ("ENABLE_PUSH is neither 0 nor 1", 2, 2, (PROTOCOL,)),
        ("INITIAL_WINDOW_SIZE is too large", 4, 2**31, (FLOW_CONTROL,)),
        ("INITIAL_WINDOW_SIZE is the largest number", 4, 2**32 - 1, (FLOW_CONTROL,)),
        ("MAX_FRAME_SIZE is too small", 5, 16383, (PROTOCOL,)),
        ("MAX_FRAME_SIZE is 0", 5, 0, (PROTOCOL,)),
        ("MAX_FRAME_SIZE is too large", 5, 2**24, (PROTOCOL,)),
        ("ENABLE_CONNECT_PROTOCOL is neither 0 nor 1", 8, 2, (PROTOCOL,)),
    ):
        section = "8441-3" if number == 8 else "9113-6.5.2"
        said = number.to_bytes(2, "big") + value.to_bytes(4, "big")
        yield Case(section, what, frame(SETTINGS, 0, 0, said), connection(*codes))
    yield Case("9113-6.5.2", "an unknown setting", frame(SETTINGS, 0, 0, b"\xff\xff\0\0\0\1"), NOTHING)
    yield Case(
        "9113-6.9", "an increment of 0 for the connection", frame(WINDOW_UPDATE, 0, 0, bytes(4)), connection(PROTOCOL)
    )
    yield Case(
        "9113-6.9", "an increment of 0 for a stream", WAIT + frame(WINDOW_UPDATE, 0, 1, bytes(4)), stream(PROTOCOL)
    )
    most = (2**31 - 1).to_bytes(4, "big")
    yield Case(
        "9113-6.9.1",
        "a window of the connection that overflows",
        frame(WINDOW_UPDATE, 0, 0, most),
        connection(FLOW_CONTROL),
    )
    yield Case(
        "9113-6.9.1",
        "a window of a stream that overflows",
        WAIT + frame(WINDOW_UPDATE, 0, 1, most),
        stream(FLOW_CONTROL),
    )
    grown = WAIT + frame(WINDOW_UPDATE, 0, 1, (2**30).to_bytes(4, "big"))
    settings = frame(SETTINGS, 0, 0, b"\0\4" + (2**31 - 1).to_bytes(4, "big"))
    yield Case("9113-6.9.2", "a window that SETTINGS make overflow", grown + settings, connection(FLOW_CONTROL))


def _fields() -> Iterator[Case]:
    broken = stream(PROTOCOL)
    for byte in b'"(),/;<=>?@[\\]{} \x00\t\r\n\x7f\x80\xff':
        yield Case("9113-8.2.1", f"{shown(byte)} in a name", get((b"x" + bytes((byte,)) + b"y", b"a")), broken)
    yield Case("9113-8.2.1", "a capital letter in a name", get((b"X-own", b"a")), broken)
    yield Case("9113-8.2.1", "a colon in a name", get((b"x:y", b"a")), broken)
    yield Case("9113-8.2.1", "an empty name", get((b"", b"a")), broken)
    for byte in (*range(9), *range(10, 32), 127):
        yield Case("9113-8.2.1", f"{shown(byte)} in a value", get((b"x", b"a" + bytes((byte,)) + b"b")), broken)
    for what, value in {
        "a space before": b" a", "a space behind": b"a ", "a tab before": b"\ta", "a tab behind": b"a\t"
    }.items():  # fmt: skip
        yield Case("9113-8.2.1", f"{what} a value", get((b"x", value)), broken)
    for name in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"):
        yield Case("9113-8.2.2", name.decode(), get((name, b"a")), broken)
    yield Case("9113-8.2.2", "te other than trailers", get((b"te", b"gzip")), broken)
    yield Case("9113-8.2.2", "te of more than trailers", get((b"te", b"trailers, deflate")), broken)
    yield Case("9113-8.2.2", "te: trailers", get((b"te", b"trailers")), NOTHING)
    yield Case("9113-8.2.3", "cookies in crumbs", get((b"cookie", b"a"), (b"cookie", b"b")), NOTHING)
    yield Case("9110-5.4", "101 fields", get(*[(b"x", b"a")] * 101), answer(431))


def _pseudo() -> Iterator[Case]:
    broken, good = stream(PROTOCOL), pseudo()
    for field in ((b":x", b"a"), (b":status", b"200"), (b":", b"a")):
        yield Case("9113-8.3", f"{field[0].decode()} in a request", head([*good, field]), broken)
    for place, field in enumerate(good):
        name = field[0].decode()
        yield Case("9113-8.3", f"{name} twice", head([*good, field]), broken)
        yield Case(
            "9113-8.3", f"{name} behind a field", head([*good[:place], *good[place + 1 :], (b"x", b"a"), field]), broken
        )
        if name != ":authority":
            yield Case("9113-8.3.1", f"no {name}", head([*good[:place], *good[place + 1 :]]), broken)
        yield Case("9113-8.3.1", f"an empty {name}", head([*good[:place], (field[0], b""), *good[place + 1 :]]), broken)
    yield Case("9113-8.3.1", "neither :method nor :scheme", head([good[2], good[3]]), broken)
    for path in (b"a", b"*", b"/a b", b"/a#b", b"/a\x00", b"/a\r\n", b"/a\x7f", b"/\x80", b"http://localhost/"):
        yield Case("9113-8.3.1", f":path {path!r}", get(path=path), broken)
    for method in (b"G T", b"G\x00T", b"GET\r\n", b"G(T", b"G:T", b"G\x80"):
        yield Case("9113-8.3.1", f":method {method!r}", head(pseudo(method=method)), broken)
    for authority in (b"u@localhost", b"a b", b"a/b", b"a\r\nb", b"a\x00", b"a,b "):
        fields = [field if field[0] != b":authority" else (field[0], authority) for field in good]
        yield Case("9113-8.3.1", f":authority {authority!r}", head(fields), broken)
    yield Case(
        "9113-8.3.1",
        ":scheme ftp",
        head([(name, b"ftp" if name == b":scheme" else value) for name, value in good]),
        broken,
    )
    yield Case("9113-8.3.1", "host and :authority differ", get((b"host", b"other")), broken)
    yield Case("9113-8.3.1", "host twice", head([*good[:2], good[3], (b"host", b"a"), (b"host", b"a")]), broken)
    yield Case("9113-8.3.1", "host instead of :authority", head([*good[:2], good[3], (b"host", b"localhost")]), NOTHING)
    yield Case("9113-8.3.1", "neither host nor :authority", head([*good[:2], good[3]]), broken)
    yield Case(
        "9113-8.5",
        "CONNECT",
        head([(b":method", b"CONNECT"), (b":authority", b"a:443")], flags=END_HEADERS),
        answer(501),
    )
    extended = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *good[1:]]
    yield Case("8441-4", ":protocol without CONNECT", head([*good, (b":protocol", b"websocket")]), broken)
    yield Case("8441-4", "extended CONNECT without :path", head(extended[:-1], flags=END_HEADERS), broken)
    yield Case(
        "8441-4", "extended CONNECT without :scheme", head([*extended[:2], *extended[3:]], flags=END_HEADERS), broken
    )
    yield Case(
        "8441-4",
        "a protocol that nobody knows",
        head([extended[0], (b":protocol", b"x"), *good[1:]], flags=END_HEADERS),
        answer(501),
    )


def _messages() -> Iterator[Case]:
    broken = stream(PROTOCOL)
    x = frame(DATA, END_STREAM, 1, b"x")
    for what, raw in {
        "a length greater than the body": post((b"content-length", b"2")) + x,
        "a length less than the body": post((b"content-length", b"0")) + x,
        "a length less than two pieces of a body": post((b"content-length", b"1")) + frame(DATA, 0, 1, b"x") + x,
        "a length of a request without a body": get((b"content-length", b"1")),
        "a length that is no number": post((b"content-length", b"one")) + x,
        "a negative length": post((b"content-length", b"-1")) + x,
        "a sign before a length": post((b"content-length", b"+1")) + x,
        "two lengths": post((b"content-length", b"1"), (b"content-length", b"2")) + x,
        "the same length twice": post((b"content-length", b"1"), (b"content-length", b"1")) + x,
        "a list of lengths": post((b"content-length", b"1, 1")) + x,
        "a length greater than what comes before trailers": post((b"content-length", b"2"))
        + frame(DATA, 0, 1, b"x") + head([(b"x", b"a")]),
    }.items():  # fmt: skip
        yield Case("9113-8.1.1", what, raw, broken, seen_by_its_end="before trailers" in what)
    begun = post(path=b"/wait") + frame(DATA, 0, 1, b"x")
    for section, what, raw in (
        ("8.1", "trailers that do not end the request", head([(b"x", b"a")], flags=END_HEADERS)),
        ("8.1", "a pseudo field in trailers", head([(b":path", b"/")])),
        ("8.1", "a pseudo field in trailers that do not end it", head([(b":method", b"POST")], flags=END_HEADERS)),
        ("8.2.1", "a capital letter in trailers", head([(b"X", b"a")])),
        ("8.2.1", "NUL in trailers", head([(b"x", b"\x00")])),
        ("8.2.2", "a field of the connection in trailers", head([(b"connection", b"a")])),
        ("8.1", "a length in trailers", head([(b"content-length", b"1")])),
        ("8.1", "101 trailers", head([(b"x", b"a")] * 101)),
    ):
        yield Case(f"9113-{section}", what, begun + raw, broken)


CASES: tuple[Case, ...] = tuple(
    case for part in (_preface, _frames, _compression, _streams, _kinds, _fields, _pseudo, _messages) for case in part()
)
