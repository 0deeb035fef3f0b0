"""What a client of WebSocket says, right and wrong, and what it then hears of a service that says back what it is told
(RFC 6455, RFC 7692): what Autobahn's suite tries of a server, as a table by section.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CONTINUES, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING, PROTOCOL, NOT_TEXT, TOO_BIG = 1000, 1001, 1002, 1007, 1009

SIZE_MAX = 2**26
"""Of a message that the service takes."""

MASK = b"\x37\xfa\x21\x3d"


def frame(kind: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, mask: bytes | None = MASK,
          wide: int = 0) -> bytes:  # fmt: skip
    """A frame (section 5.2). `wide`: bytes of the extended length, if it is to have more than it needs."""
    size = len(payload)
    wide = wide or (0 if size < 126 else 2 if size < 2**16 else 8)
    said = size if not wide else 126 if wide == 2 else 127
    head = bytes((fin << 7 | reserved << 4 | kind, (mask is not None) << 7 | said)) + (
        size.to_bytes(wide, "big") if wide else b""
    )
    if mask is None:
        return head + payload
    whole = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def closing(code: int | None = NORMAL, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, (code.to_bytes(2, "big") if code is not None else b"") + reason)


@dataclass(frozen=True, slots=True)
class Talk:
    """`said` goes out piece by piece, the last one once all messages are back. Heard are the messages, the answers to
    pings, and the code in the close frame with which the service ends it. `extensions` are offered."""

    section: str
    what: str
    said: tuple[bytes, ...]
    messages: tuple[tuple[int, bytes], ...] = ()
    pongs: tuple[bytes, ...] = ()
    closed: bytes | int = NORMAL
    extensions: str = ""

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


def text(said: str | bytes) -> tuple[int, bytes]:
    """A message."""
    return TEXT, said.encode() if isinstance(said, str) else said


def chopped(raw: bytes, size: int) -> tuple[bytes, ...]:
    """In pieces of that size."""
    return tuple(raw[at : at + size] for at in range(0, len(raw), size))


def fragments(kind: int, *pieces: bytes) -> list[bytes]:
    """The frames of one message."""
    last = len(pieces) - 1
    return [frame(kind if not at else CONTINUES, piece, fin=at == last) for at, piece in enumerate(pieces)]


def _messages() -> Iterator[Talk]:
    for kind, name in ((TEXT, "text"), (BINARY, "binary")):
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
            payload = (b"*" if kind == TEXT else b"\xfe") * size
            yield Talk("5.6", f"{name} of {size} bytes", (frame(kind, payload), closing()), ((kind, payload),))
        payload = (b"*" if kind == TEXT else b"\xfe") * 65536
        pieces = (*chopped(frame(kind, payload), 997), closing())
        yield Talk("5.6", f"{name} of 65536 bytes, in pieces of 997", pieces, ((kind, payload),))
    hello = frame(TEXT, b"Hello")
    yield Talk("5.7", "one byte at a time", chopped(hello + closing(), 1), (text("Hello"),))
    yield Talk("5.7", "all in one piece", (hello * 3, closing()), (text("Hello"),) * 3)
    for what, mask in {"zeros": bytes(4), "ones": b"\xff" * 4}.items():
        yield Talk("5.3", f"a mask of {what}", (frame(TEXT, b"Hello", mask=mask), closing()), (text("Hello"),))
    yield Talk("5.1", "a frame without a mask", (frame(TEXT, b"Hello", mask=None),), closed=PROTOCOL)
    yield Talk("5.1", "a close frame without a mask", (frame(CLOSE, b"\x03\xe8", mask=None),), closed=PROTOCOL)
    most = SIZE_MAX + 1
    for what, raw in {
        "a message that is too large": bytes((0x82, 0xFF)) + most.to_bytes(8, "big") + MASK,
        "the largest length": bytes((0x82, 0xFF)) + (2**63 - 1).to_bytes(8, "big") + MASK,
    }.items():
        yield Talk("10.4", what, (raw,), closed=TOO_BIG)


def _pings() -> Iterator[Talk]:
    for what, payload in {
        "empty": b"", "with text": b"Hello, world!", "with bytes": b"\x00\xff\xfe\xfd\xfc", "of 125": b"\xfe" * 125
    }.items():  # fmt: skip
        yield Talk("5.5.2", f"a ping, {what}", (frame(PING, payload), closing()), pongs=(payload,))
    raw = frame(PING, b"\xfe" * 125)
    yield Talk("5.5.2", "a ping, byte by byte", (*chopped(raw, 1), closing()), pongs=(b"\xfe" * 125,))
    ten = tuple(b"payload-%d" % number for number in range(10))
    pings = tuple(frame(PING, payload) for payload in ten)
    yield Talk("5.5.2", "ten pings", (*pings, closing()), pongs=ten)
    yield Talk("5.5.2", "ten pings, byte by byte", (*chopped(b"".join(pings), 1), closing()), pongs=ten)
    yield Talk("5.5", "a ping of 126", (frame(PING, bytes(126)),), closed=PROTOCOL)
    yield Talk("5.5.3", "a pong without a ping", (frame(PONG), closing()))
    yield Talk("5.5.3", "a pong with a payload", (frame(PONG, b"unsolicited"), closing()))
    mixed = (frame(PONG, b"unsolicited"), frame(PING, b"ours"), closing())
    yield Talk("5.5.3", "a pong without a ping, and then a ping", mixed, pongs=(b"ours",))
    for kind, name in ((PING, "ping"), (PONG, "pong")):
        cut = (frame(kind, b"a", fin=False), frame(CONTINUES, b"b"))
        yield Talk("5.5", f"a {name} in two fragments", cut, closed=PROTOCOL)


def _reserved() -> Iterator[Talk]:
    hello = frame(TEXT, b"Hello")
    for bits in range(1, 8):
        for kind, name in ((TEXT, "text"), (BINARY, "binary"), (PING, "a ping"), (CLOSE, "a close frame")):
            payload = b"\x03\xe8" if kind == CLOSE else b"Hello"
            yield Talk(
                "5.2", f"reserved bits {bits} of {name}", (frame(kind, payload, reserved=bits),), closed=PROTOCOL
            )
        raws = (hello, frame(TEXT, b"x", reserved=bits))
        yield Talk("5.2", f"reserved bits {bits} behind a message", raws, (text("Hello"),), closed=PROTOCOL)
    for kind in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Talk("5.2", f"opcode {kind}", (frame(kind),), closed=PROTOCOL)
        yield Talk("5.2", f"opcode {kind} with a payload", (frame(kind, b"payload"),), closed=PROTOCOL)
        raws = (hello, frame(kind, b"x") + frame(PING))
        yield Talk("5.2", f"opcode {kind} behind a message", raws, (text("Hello"),), closed=PROTOCOL)


def _fragments() -> Iterator[Talk]:
    two = fragments(TEXT, b"fragment1", b"fragment2")
    whole = (text("fragment1fragment2"),)
    ping = frame(PING, b"in between")
    for what, raws, pongs in (
        ("two", two, ()),
        ("two and a ping between", [two[0], ping, two[1]], (b"in between",)),
        ("two and a pong between", [two[0], frame(PONG, b"x"), two[1]], ()),
    ):
        joined = b"".join(raws)
        for how, said in {
            "at once": (joined, closing()),
            "frame by frame": (*raws, closing()),
            "byte by byte": (*chopped(joined, 1), closing()),
        }.items():  # fmt: skip
            yield Talk("5.4", f"fragments: {what}, {how}", said, whole, pongs)
    five = fragments(TEXT, b"1", b"2", b"3", b"4", b"5")
    said = (five[0], five[1], ping, five[2], five[3], ping, five[4], closing())
    yield Talk("5.4", "five fragments and two pings", said, (text("12345"),), (b"in between",) * 2)
    empty = fragments(TEXT, b"", b"", b"")
    yield Talk("5.4", "three empty fragments", (*empty, closing()), (text(""),))
    middle = fragments(TEXT, b"", b"middle", b"")
    yield Talk("5.4", "empty fragments around one", (*middle, closing()), (text("middle"),))
    many = fragments(BINARY, *[b"x" * 64] * 1000)
    yield Talk("5.4", "a thousand fragments", (b"".join(many), closing()), ((BINARY, b"x" * 64_000),))
    for fin in (True, False):
        nothing = frame(CONTINUES, b"non-continuation payload", fin=fin)
        for how, said in {
            "at once": (nothing + frame(TEXT, b"Hello"),), "frame by frame": (nothing, frame(TEXT, b"Hello")),
            "byte by byte": chopped(nothing + frame(TEXT, b"Hello"), 1),
        }.items():  # fmt: skip
            what = f"a continuation of nothing, {'the last' if fin else 'not the last'}, {how}"
            yield Talk("5.4", what, said, closed=PROTOCOL)
        said = (*two, nothing)
        yield Talk("5.4", f"a continuation behind the last, fin {fin}", said, whole, closed=PROTOCOL)
    begun = frame(TEXT, b"fragment1", fin=False)
    yield Talk("5.4", "a message within another", (begun, frame(TEXT, b"fragment2")), closed=PROTOCOL)
    yield Talk("5.4", "a message begun twice", (begun, frame(TEXT, b"x", fin=False)), closed=PROTOCOL)
    yield Talk("5.4", "a binary frame within text", (begun, frame(BINARY, b"x")), closed=PROTOCOL)


GOOD_TEXT = (
    "κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\u0000", "\u0080", "\u0800", "\U00010000", "\u007f", "\u07ff", "\uffff",
    "\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\ufffe", "\U0001fffe",
)  # fmt: skip
BAD_TEXT = (
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\x80", b"\xbf", b"\x80\xbf", b"\xc0 ",
    b"\xe0 ", b"\xf0 ", b"\xf8 ", b"\xfc ", b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xdf", b"\xef\xbf",
    b"\xf7\xbf\xbf", b"\xfe", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
    b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xed\xa0\x80", b"\xed\xaf\xbf",
    b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
)  # fmt: skip


def _texts() -> Iterator[Talk]:
    for good in GOOD_TEXT:
        raw = good.encode()
        yield Talk("8.1", f"{good!a}", (frame(TEXT, raw), closing()), (text(good),))
        pieces = fragments(TEXT, *(raw[at : at + 1] for at in range(len(raw))))
        yield Talk("8.1", f"{good!a} in fragments of a byte", (*pieces, closing()), (text(good),))
    for bad in BAD_TEXT:
        yield Talk("8.1", f"{bad!r}", (frame(TEXT, bad),), closed=NOT_TEXT)
        pieces = fragments(TEXT, *(bad[at : at + 1] for at in range(len(bad))), b"")
        yield Talk("8.1", f"{bad!r} in fragments of a byte", tuple(pieces), closed=NOT_TEXT)
        yield Talk("8.1", f"{bad!r} is binary", (frame(BINARY, bad), closing()), ((BINARY, bad),))


CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
NO_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def _closes() -> Iterator[Talk]:
    for code in CODES:
        yield Talk("7.4", f"closed by {code}", (closing(code),), closed=code)
        yield Talk("7.4", f"closed by {code} and why", (closing(code, b"why"),), closed=code)
    for code in NO_CODES:
        yield Talk("7.4", f"closed by {code}, which is none", (closing(code),), closed=PROTOCOL)
        yield Talk("7.4", f"closed by {code}, which is none, and why", (closing(code, b"why"),), closed=PROTOCOL)
    yield Talk("5.5.1", "closed without a code", (closing(None),), closed=b"")
    yield Talk("5.5.1", "closed by half a code", (frame(CLOSE, b"\x03"),), closed=PROTOCOL)
    yield Talk("5.5.1", "why in 123 bytes", (closing(NORMAL, b"*" * 123),), closed=NORMAL)
    yield Talk("5.5.1", "why in 124 bytes", (closing(NORMAL, b"*" * 124),), closed=PROTOCOL)
    yield Talk("5.5.1", "why, in bad UTF-8", (closing(NORMAL, BAD_TEXT[0]),), closed=NOT_TEXT)
    yield Talk("5.5.1", "a message and then", (frame(TEXT, b"Hello"), closing()), (text("Hello"),))
    for what, raw in {
        "twice": closing(), "and then a ping": frame(PING, b"late"), "and then a message": frame(TEXT, b"late"),
        "and then what is no frame": b"\xff" * 100,
    }.items():  # fmt: skip
        yield Talk("5.5.1", f"closed {what}", (closing(), raw))
        yield Talk("5.5.1", f"closed {what}, at once", (closing() + raw,))
    begun = frame(TEXT, b"fragment1", fin=False)
    said = (begun, closing(), frame(CONTINUES, b"fragment2"))
    yield Talk("5.5.1", "closed within a message", said, closed=PROTOCOL)  # it may take this or NORMAL
    large = b"*" * 262_144
    yield Talk("5.5.1", "256 KiB, closed, and a ping", (frame(TEXT, large), closing() + frame(PING)), (text(large),))


def deflated(payload: bytes, bits: int = 15) -> bytes:
    """By RFC 7692 section 7.2.1."""
    maker = zlib.compressobj(wbits=-bits)
    return (maker.compress(payload) + maker.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _compression() -> Iterator[Talk]:
    offers = (
        "permessage-deflate", "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover", "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9", "permessage-deflate; client_max_window_bits=12",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=99, permessage-deflate",
    )  # fmt: skip
    for offer in offers:
        for size in (0, 16, 1024, 65536):
            payload = (b"Meridian, " * (size // 10 + 1))[:size]
            once = frame(TEXT, deflated(payload, 9), reserved=4)
            yield Talk("7692-7", f"{offer}: {size} bytes", (once, closing()), (text(payload),), extensions=offer)
    offer, payload = offers[0], b"Meridian, " * 500
    packed = deflated(payload)
    first = frame(TEXT, packed[:20], fin=False, reserved=4)
    said = (first, frame(CONTINUES, packed[20:]), closing())
    yield Talk("7692-6.1", "in fragments", said, (text(payload),), extensions=offer)
    parted = (first, frame(PING, b"in between"), frame(CONTINUES, packed[20:]), closing())
    yield Talk("7692-6.1", "a ping between", parted, (text(payload),), (b"in between",), extensions=offer)
    plain = frame(TEXT, b"Hello")
    yield Talk("7692-6", "a message that is not", (plain, closing()), (text("Hello"),), extensions=offer)
    for what, raw in {
        "a continuation that says so too": first + frame(CONTINUES, packed[20:], reserved=4),
        "a ping that says so": frame(PING, b"x", reserved=4),
        "other reserved bits": frame(TEXT, packed, reserved=6),
    }.items():
        yield Talk("7692-6.1", what, (raw,), closed=PROTOCOL, extensions=offer)
    yield Talk("7692-7.2", "not agreed upon", (frame(TEXT, packed, reserved=4),), closed=PROTOCOL)


TALKS: tuple[Talk, ...] = (
    *_messages(), *_pings(), *_reserved(), *_fragments(), *_texts(), *_closes(), *_compression()
)  # fmt: skip


def inflated(payloads: Iterable[tuple[int, int, bytes]], extensions: str) -> Iterator[tuple[int, bytes]]:
    """Opcode and what was said of each message: opcode, reserved bits, payload."""
    bits = 15
    for word in extensions.split(";"):
        if word.strip().startswith("server_max_window_bits="):
            bits = int(word.partition("=")[2])
    maker = zlib.decompressobj(wbits=-bits)
    for kind, reserved, payload in payloads:
        if "server_no_context_takeover" in extensions:
            maker = zlib.decompressobj(wbits=-bits)
        yield kind, maker.decompress(payload + b"\0\0\xff\xff") if reserved & 4 else payload
