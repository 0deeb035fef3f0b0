"""Requests that hold another one, for whoever reads their framing in another way: what the known suites try, by
HTTP/1.1 and by HTTP/2. None may ever reach a service as a request of its own.
"""

from collections.abc import Iterator

from tests.conformance.violations_http2 import DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, pseudo

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

_CODINGS = (
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:chunked",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: CHUNKED", b"tRANSFER-eNCODING: cHuNkEd", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: \xa0chunked", b"Transfer-Encoding: chunked\r",
    b" Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"X: y\r\n\rTransfer-Encoding: chunked", b"Transfer-Encoding\r\n : chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding\x00: chunked", b"Transfer_Encoding: chunked",
    b"Transfer Encoding: chunked", b"\x00Transfer-Encoding: chunked", b"Transfer-Encoding\xff: chunked",
    b"Transfer-Encoding;: chunked", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding:", b"Transfer-Encoding: \r\nX: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: close, Content-Length\r\nTransfer-Encoding: chunked", b"X: y\x0bTransfer-Encoding: chunked",
)  # fmt: skip

_LENGTHS = (
    b"+%d", b"-%d", b"0%d", b"0x%x", b"%d, %d", b"%d,%d", b"%d %d", b"%d;", b"%d.0", b"%de0", b"%d_0", b"'%d'",
    b"\x0b%d", b"%d\x00", b"%d\r\n %d", b"%d\r\nContent-Length: 0", b"0\r\nContent-Length: %d",
    b"\r\n %d", b"%d\nX: y", b"",
)  # fmt: skip


def _lengths(size: int) -> Iterator[bytes]:
    for value in _LENGTHS:
        yield value % ((size,) * value.count(b"%"))


def http1() -> Iterator[tuple[str, bytes]]:
    """Name and request; each is followed by a good one."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for coding in _CODINGS:
        chunks = b"0\r\n\r\n" + HIDDEN
        length = b"Content-Length: %d\r\n" % len(chunks)
        yield f"CL.TE {coding!r}", start + length + coding + b"\r\n\r\n" + chunks
        yield f"CL.TE, the other first {coding!r}", start + coding + b"\r\n" + length + b"\r\n" + chunks
        whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
        size = b"%x\r\n" % len(HIDDEN)
        yield f"TE.CL {coding!r}", start + b"Content-Length: %d\r\n" % len(size) + coding + b"\r\n\r\n" + whole
    for length in _lengths(len(HIDDEN)):
        for method in (b"GET", b"POST", b"OPTIONS", b"HEAD"):
            yield (
                f"CL.0 {method.decode()} {length!r}",
                method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n\r\n" + HIDDEN,
            )
    for expect in (b"100-continue", b" 100-continue", b"100-Continue, x", b"y 100-continue", b"100-continue\x0b"):
        yield (
            f"Expect {expect!r}",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: %b\r\n\r\n" % (len(HIDDEN), expect) + HIDDEN,
        )
    for name in (b"Content_Length", b"Content-Length\x00", b"Content\xadLength", b"content-length "):
        yield f"0.CL {name!r}", start + name + b": %d\r\n\r\n" % len(HIDDEN)
    for chunk in (
        b"5;\nx\r\nhello\r\n0\r\n\r\n", b"5\n\nhello\r\n0\r\n\r\n", b"5\rxhello\r\n0\r\n\r\n",
        b"05 \r\nhello\r\n0\r\n\r\n",
        b"0;a=\"\r\n\r\n" + HIDDEN, b"-0\r\n\r\n", b"0\n\n", b"100000000000000000\r\n", b"0x0\r\n\r\n",
    ):  # fmt: skip
        yield f"chunks {chunk[:20]!r}", start + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + HIDDEN
    for target in (b"/ HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN[:-9], b"http://a/ HTTP/1.1\nX:", b"/\x00", b"/ /x"):
        yield f"target {target[:20]!r}", b"GET " + target + b" HTTP/1.1\r\nHost: b\r\n\r\n" + HIDDEN
    yield (
        "h2c",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )
    yield (
        "WebSocket that is none",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )


def http2() -> Iterator[tuple[str, bytes]]:
    """Name and frames of stream 1."""
    good = pseudo(b"/", b"POST")
    ends = END_STREAM | END_HEADERS

    def with_body(*fields: tuple[bytes, bytes], body: bytes = HIDDEN, head: list[tuple[bytes, bytes]] = good) -> bytes:
        return frame(HEADERS, END_HEADERS, 1, block([*head, *fields])) + frame(DATA, END_STREAM, 1, body)

    chunks = b"0\r\n\r\n" + HIDDEN
    for value in (b"0", b"1", b"%d" % (len(HIDDEN) + 1), b"", b"0, %d" % len(HIDDEN), b"+0", b"0\r\nX: y", b" 0"):
        yield f"H2.CL {value!r}", with_body((b"content-length", value))
    for name in (
        b"transfer-encoding", b"Transfer-Encoding", b"transfer_encoding", b"transfer-encoding ", b"transfer-encoding\0",
        b"transfer-encoding:", b" transfer-encoding", b"x\r\ntransfer-encoding", b"x: y\r\ntransfer-encoding",
        b"transfer-encoding: chunked\r\nx",
    ):  # fmt: skip
        yield f"H2.TE {name!r}", with_body((name, b"chunked"), body=chunks)
    for value in (
        b"y\r\ntransfer-encoding: chunked", b"y\ntransfer-encoding: chunked", b"y\rtransfer-encoding: chunked",
        b"y\r\n\r\n" + HIDDEN, b"y\n\n" + HIDDEN, b"y\x00\r\n\r\n" + HIDDEN,
    ):  # fmt: skip
        yield f"a value {value[:24]!r}", with_body((b"x", value), body=chunks)
        yield f"a cookie {value[:24]!r}", with_body((b"cookie", value), body=chunks)
    for place in range(4):
        for more in (b" HTTP/1.1\r\n\r\n" + HIDDEN, b"\r\nx: y", b" /x HTTP/1.1", b"\x00", b"\n\n" + HIDDEN):
            changed = [
                (name, value + more) if number == place else (name, value) for number, (name, value) in enumerate(good)
            ]
            yield f"{good[place][0].decode()} {more[:20]!r}", frame(HEADERS, ends, 1, block(changed))
    for fields in (
        [(b"host", b"b")], [(b"connection", b"upgrade"), (b"upgrade", b"h2c")], [(b"upgrade", b"h2c")],
        [(b"http2-settings", b"AAMAAABk"), (b"connection", b"http2-settings")], [(b"keep-alive", b"1")],
        [(b"te", b"chunked")], [(b":path", b"/smuggled")], [(b"expect", b"100-continue"), (b"content-length", b"0")],
    ):  # fmt: skip
        yield f"fields {fields}", frame(HEADERS, ends, 1, block([*good, *fields]))
