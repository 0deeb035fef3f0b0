"""What a client of HTTP/2 may do (RFC 9113, RFC 7541), and what it hears: what public suites such as h2spec try besides
the violations, which are in violations_http2. Each is a talk of one connection, said frame by frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.violations_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WAIT,
    WINDOW_UPDATE,
    block,
    frame,
    get,
    head,
    post,
    pseudo,
)


@dataclass(frozen=True, slots=True)
class Hears:
    """A frame of this kind that comes, whatever comes before it but GOAWAY and RST_STREAM. `size` and `payload` are
    what the first of its kind has to be."""

    kind: int
    flags: int = 0
    stream_id: int = 0
    size: int | None = None
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is said and heard after preface and SETTINGS, in turns. `may_end`: GOAWAY and the end will do as well."""

    section: str
    what: str
    turns: tuple[bytes | Hears, ...]
    may_end: bool = False

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


ASK = frame(PING, 0, 0, b"question")
ANSWER = Hears(PING, ACK, payload=b"question")
HEAD = Hears(HEADERS, stream_id=1)
END = Hears(DATA, END_STREAM, 1)
ACKNOWLEDGED = Hears(SETTINGS, ACK, size=0)


def setting(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(b"%b%b" % (n.to_bytes(2, "big"), v.to_bytes(4, "big")) for n, v in pairs))


def window(size: int) -> bytes:
    """SETTINGS_INITIAL_WINDOW_SIZE."""
    return setting((4, size))


def update(by: int, stream_id: int = 1) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


def priority(weight: int = 255, on: int = 0, stream_id: int = 1) -> bytes:
    """PRIORITY; `on` is the stream that it depends on, with the bit that says: exclusively."""
    return frame(PRIORITY, 0, stream_id, on.to_bytes(4, "big") + bytes((weight,)))


def indexed(*pieces: bytes) -> bytes:
    """A request whose block is that of a good one and this, in HPACK by hand."""
    return frame(HEADERS, END_STREAM | END_HEADERS, 1, block(pseudo()) + b"".join(pieces))


def _frames() -> Iterator[Dialogue]:
    for what, raw in {
        "DATA": post() + frame(DATA, END_STREAM, 1, b"test"),
        "DATA twice": post() + frame(DATA, 0, 1, b"test") + frame(DATA, END_STREAM, 1, b"test"),
        "DATA with padding": post() + frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6)),
        "DATA that is all padding": post() + frame(DATA, PADDED, 1, b"\x06" + bytes(6)) + frame(DATA, END_STREAM, 1),
        "DATA of the largest size": post() + frame(DATA, END_STREAM, 1, b"x" * 16384),
        "empty DATA": post() + frame(DATA, 0, 1) + frame(DATA, END_STREAM, 1),
    }.items():
        yield Dialogue("9113-6.1", what, (raw, HEAD, END))
    fields = block(pseudo())
    for what, raw in {
        "HEADERS": get(),
        "HEADERS with padding": frame(HEADERS, PADDED | 5, 1, b"\x08" + fields + bytes(8)),
        "HEADERS with priority": frame(HEADERS, PRIORITIZED | 5, 1, bytes(4) + b"\xff" + fields),
        "HEADERS with both": frame(HEADERS, PADDED | PRIORITIZED | 5, 1, b"\x03\x80\0\0\0\x0f" + fields + bytes(3)),
    }.items():
        yield Dialogue("9113-6.2", what, (raw, HEAD, END))
    for what, raw in {
        "of weight 1": priority(0),
        "of weight 256": priority(255),
        "that depends on another": priority(0, on=1, stream_id=3),
        "that is exclusive": priority(0, on=1 << 31),
        "of a stream that comes later": priority(stream_id=3),
    }.items():
        yield Dialogue("9113-6.3", f"PRIORITY {what}, and then a request", (raw + get(), HEAD, END))
    for code in (0, 8, 0xFF, 2**32 - 1):
        raw = post() + frame(RST_STREAM, 0, 1, code.to_bytes(4, "big")) + ASK
        yield Dialogue("9113-6.4", f"RST_STREAM by code {code}", (raw, ANSWER))
    every = setting((1, 4096), (2, 1), (3, 100), (4, 65535), (5, 16384), (6, 100), (8, 0), (9, 1))
    for what, raw in {
        "all of them": every,
        "none": setting(),
        "no push": setting((2, 0)),
        "an unknown one": setting((0xFF, 1)),
        "no table": setting((1, 0)),
        "the largest table": setting((1, 2**32 - 1)),
        "the largest frames": setting((5, 2**24 - 1)),
        "the largest window": window(2**31 - 1),
        "no streams": setting((3, 0)),
    }.items():
        yield Dialogue("9113-6.5", f"SETTINGS: {what}", (raw, ACKNOWLEDGED, get(), HEAD))
    yield Dialogue("9113-6.7", "PING", (ASK, ANSWER))
    yield Dialogue(
        "9113-6.7", "PING that answers what was not asked", (frame(PING, ACK, 0, b"invalid\0") + ASK, ANSWER)
    )
    for code in (0, 0xFF):
        raw = frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big") + b"why") + ASK
        yield Dialogue("9113-6.8", f"GOAWAY by code {code}", (raw, ANSWER), may_end=True)
    goes = get() + frame(GOAWAY, 0, 0, bytes(8))
    yield Dialogue("9113-6.8", "GOAWAY behind a request", (goes, HEAD, END))
    yield Dialogue("9113-6.9", "WINDOW_UPDATE of the connection", (update(1, 0) + ASK, ANSWER))
    yield Dialogue("9113-6.9", "WINDOW_UPDATE of a stream", (get() + update(1), HEAD, END))
    cut = [frame(CONTINUATION, 0, 1, piece) for piece in (fields[5:10], fields[10:])]
    last = frame(CONTINUATION, END_HEADERS, 1, fields[5:])
    for what, raw in {
        "CONTINUATION": last,
        "CONTINUATION three times": b"".join(cut) + frame(CONTINUATION, END_HEADERS, 1),
        "CONTINUATION of 8000 bytes": b"".join(cut)
        + frame(CONTINUATION, 0, 1, block([(b"x-dummy", b"x" * 4000)]))
        + frame(CONTINUATION, END_HEADERS, 1, block([(b"x-dummy", b"x" * 4000)])),
    }.items():
        yield Dialogue("9113-6.10", what, (frame(HEADERS, END_STREAM, 1, fields[:5]) + raw, HEAD))


def _streams() -> Iterator[Dialogue]:
    stopped = window(0) + get()
    yield Dialogue("9113-5.1", "idle: PRIORITY", (priority() + ASK, ANSWER))
    yield Dialogue("9113-5.1", "half closed: WINDOW_UPDATE", (stopped + update(1), Hears(DATA, 0, 1, size=1)))
    yield Dialogue("9113-5.1", "half closed: PRIORITY", (stopped + priority() + update(1), Hears(DATA, 0, 1, size=1)))
    reset = frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    yield Dialogue("9113-5.1", "half closed: RST_STREAM", (get() + reset + ASK, ANSWER))
    for what, raw in {"PRIORITY": priority(), "WINDOW_UPDATE": update(1), "RST_STREAM": reset}.items():
        yield Dialogue("9113-5.1", f"closed: {what}", (get(), END, raw + ASK, ANSWER))
    yield Dialogue("9113-5.1.1", "ids may be left out", (get(stream_id=7), Hears(DATA, END_STREAM, 7)))
    yield Dialogue("9113-5.5", "an unknown frame", (frame(0x16, 0, 0, bytes(8)) + ASK, ANSWER))
    yield Dialogue("9113-5.5", "an unknown frame of a stream", (WAIT + frame(0x16, 0, 1, bytes(8)) + ASK, ANSWER))
    yield Dialogue("9113-4.1", "flags without a meaning", (frame(PING, 0x16, 0, b"question"), ANSWER))
    yield Dialogue("9113-4.1", "the reserved bit", (frame(PING, 0x16, 1 << 31, b"question"), ANSWER))
    yield Dialogue("9113-6.5.3", "of two values the last counts",
                   (setting((4, 100), (4, 1)), ACKNOWLEDGED, get(), Hears(DATA, 0, 1, size=1)))  # fmt: skip
    yield Dialogue("9113-6.9.1", "no more than the window of a stream",
                   (window(1), ACKNOWLEDGED, get(), Hears(DATA, 0, 1, size=1)))  # fmt: skip
    yield Dialogue("9113-6.9.2", "a window that opens later",
                   (window(0), ACKNOWLEDGED, get() + window(1), ACKNOWLEDGED, Hears(DATA, 0, 1, size=1)))  # fmt: skip
    yield Dialogue("9113-6.9.2", "a window below zero",
                   (window(3), ACKNOWLEDGED, get(), Hears(DATA, 0, 1, size=3), window(2), ACKNOWLEDGED, update(2),
                    Hears(DATA, 0, 1, size=1)))  # fmt: skip


def _messages() -> Iterator[Dialogue]:
    trailers = head([(b"x-test", b"ok")])
    for what, raw in {
        "GET": get(),
        "HEAD": head(pseudo(method=b"HEAD")),
        "POST": post() + frame(DATA, END_STREAM, 1, b"test"),
        "POST with trailers": post((b"trailer", b"x-test")) + frame(DATA, 0, 1, b"test") + trailers,
        "POST of trailers alone": post() + trailers,
        "a length that is right": post((b"content-length", b"4")) + frame(DATA, END_STREAM, 1, b"test"),
    }.items():
        yield Dialogue("9113-8.1", what, (raw, HEAD))


def _compression() -> Iterator[Dialogue]:
    agent, test = b"\x0auser-agent\x06h2spec", b"\x06x-test\x06h2spec"
    huffman = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4"  # of `agent`
    huffman_test = b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"  # of `test`
    for section, what, prefix in (
        ("6.2.1", "with indexing", b"\x40"), ("6.2.2", "without indexing", b"\x00"), ("6.2.3", "never indexed", b"\x10")
    ):  # fmt: skip
        for name, field in {
            "a known name": agent, "a known name in Huffman code": huffman,
            "a new name": test, "a new name in Huffman code": huffman_test,
        }.items():  # fmt: skip
            yield Dialogue(f"7541-{section}", f"a literal {what}: {name}", (indexed(prefix, field), HEAD))
    for section, what, raw in (
        ("6.1", "an index of the static table", indexed(b"\xba")),
        ("6.1", "an index of the dynamic table", indexed(b"\x40", test, b"\xbe")),
        ("6.2.1", "the name by its index", indexed(b"\x7a\x06h2spec")),
        ("6.2.2", "the name by its index", indexed(b"\x0f\x2b\x06h2spec")),
        ("6.2.3", "the name by its index", indexed(b"\x1f\x2b\x06h2spec")),
        ("6.3", "a table's size", frame(HEADERS, 5, 1, b"\x20" + block(pseudo()))),
        ("4.2", "a table's size twice", frame(HEADERS, 5, 1, b"\x20\x3f\xe1\x1f" + block(pseudo()))),
    ):
        yield Dialogue(f"7541-{section}", what, (raw, HEAD))
    kept = frame(HEADERS, END_STREAM | END_HEADERS, 3, block(pseudo()) + b"\xbe")
    yield Dialogue("7541-2.3.2", "what was indexed in another stream",
                   (indexed(b"\x40", test), END, kept, Hears(DATA, END_STREAM, 3)))  # fmt: skip


DIALOGUES: tuple[Dialogue, ...] = (*_frames(), *_streams(), *_messages(), *_compression())
