"""Responses of HTTP/1.1 that break a requirement of RFC 9112 or RFC 9110, by section, and what the gateway's client may
see of each: nothing but 502, a body that is seen to be cut, or an answer with nothing behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

REFUSED, CUT, TAKEN = "refused", "cut", "taken"
OK = b"HTTP/1.1 200 OK\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
"""An answer that nobody asked for, for the next client of the connection."""


@dataclass(frozen=True, slots=True)
class Case:
    """One response. `closes`: the connection ends behind it. `body` is what a client gets of it, where it is taken."""

    section: str
    what: str
    raw: bytes
    seen: str = REFUSED
    closes: bool = False
    body: bytes = b""
    method: str = "GET"

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


def field(raw: bytes) -> bytes:
    """A response with this field line."""
    return OK + raw + b"\r\nContent-Length: 2\r\n\r\nok"


def chunked(body: bytes) -> bytes:
    """A response with this body."""
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body


def _status_lines() -> Iterator[Case]:
    for line in (
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1 OK", b"HTTP/1.1", b"HTTP/2.0 200 OK",
        b"HTTP/1.10 200 OK", b"HTTP/11 200 OK", b"http/1.1 200 OK", b"ICY 200 OK", b"200 OK", b" HTTP/1.1 200 OK",
        b"HTTP/1.1 099 No", b"HTTP/1.1 000 No", b"HTTP/1.1 600 No", b"HTTP/1.1 999 No", b"HTTP/1.1 -20 No",
        b"HTTP/0.9 200 OK", b"\x00", b"HTTP/1.1 200 OK\rX: y", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK",
        b"GET / HTTP/1.1",
    ):  # fmt: skip
        yield Case("9112-4", f"{line!r}", line + b"\r\nContent-Length: 2\r\n\r\nok")
    yield Case("9112-4", "a status line that ends with LF", b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok")
    odd = b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok"
    yield Case("9112-4", "NUL in a reason, which does not go on", odd, TAKEN, body=b"ok")
    yield Case("9112-4", "no reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", TAKEN, body=b"ok")
    yield Case("9112-8", "nothing", b"", closes=True)
    yield Case("9112-8", "half a status line", b"HTTP/1.1 20", closes=True)
    yield Case("9112-8", "half a head", OK + b"X: y\r\n", closes=True)


def _fields() -> Iterator[Case]:
    for what, raw in {
        "no colon": b"X", "a space before the colon": b"X : y", "an empty name": b": y", "a folded line": b"X: y\r\n z",
        "a folded line at first": b" X: y", "NUL in a value": b"X: a\x00b", "CR in a value": b"X: a\rb",
        "a line that ends with LF": b"X: y\nZ: y", "a bell in a value": b"X: a\x07b", "a space in a name": b"X Y: z",
        "a bracket in a name": b"X(: y", "NUL in a name": b"X\x00: y", "0xFF in a name": b"X\xff: y",
        "DEL in a value": b"X: \x7f",
        "101 fields": b"\r\n".join(b"X-%d: y" % number for number in range(101)),
        "a head of 80 KiB": b"\r\n".join(b"X-%d: %b" % (number, b"y" * 8000) for number in range(10)),
    }.items():  # fmt: skip
        yield Case("9112-5", what, field(raw))
    yield Case("9112-5", "bytes beyond ASCII in a value", field(b"X: \xe4\xff"), TAKEN, body=b"ok")


def _framing() -> Iterator[Case]:
    for value in (
        b"2x", b"+2", b"-2", b"0x2", b"", b"2 2", b"2, 2", b"2,3", b"2;", b"2.0", b"1e1", b"\xb2", b"9" * 30,
        b"2\r\nContent-Length: 2", b"2\r\nContent-Length: 3",
    ):  # fmt: skip
        yield Case("9112-6.2", f"Content-Length: {value!r}", OK + b"Content-Length: " + value + b"\r\n\r\nok")
    for value in (
        b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked, identity", b"identity", b"xchunked", b"chunked;q=1",
        b"\"chunked\"", b"", b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nContent-Length: 2", b"\x0bchunked",
    ):  # fmt: skip
        yield Case(
            "9112-6.1",
            f"Transfer-Encoding: {value!r}",
            OK + b"Transfer-Encoding: " + value + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
    old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    yield Case("9112-6.1", "chunked in HTTP/1.0", old)
    yield Case(
        "9110-15.2", "101 that nobody asked for", b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    )
    endless = b"HTTP/1.1 100 Continue\r\n\r\n" * 17
    yield Case("9110-15.2", "17 informational answers", endless + field(b"X: y"))


def _bodies() -> Iterator[Case]:
    yield Case("9112-8", "less than it has promised", OK + b"Content-Length: 5\r\n\r\nok", CUT, closes=True)
    yield Case("9112-8", "chunks without their end", chunked(b"2\r\nok\r\n"), CUT, closes=True)
    yield Case("9112-8", "half a chunk", chunked(b"5\r\nok"), CUT, closes=True)
    yield Case("9112-8", "no end of the trailers", chunked(b"2\r\nok\r\n0\r\nX: y\r\n"), CUT, closes=True)
    for what, raw in {
        "a chunk's size that is none": b"z\r\n", "a sign before it": b"+2\r\nok\r\n", "a minus": b"-2\r\nok\r\n",
        "0x before it": b"0x2\r\nok\r\n", "a space before it": b" 2\r\nok\r\n", "nothing": b"\r\n",
        "17 digits": b"1" * 17 + b"\r\n",
        "a line that ends with LF": b"2\nok\r\n", "a chunk longer than its size": b"2\r\nokay\r\n",
        "a chunk that ends with LF": b"2\r\nok\n", "an extension with LF": b"2;a\nb\r\nok\r\n",
        "an underscore": b"1_0\r\nok\r\n",
    }.items():  # fmt: skip
        yield Case("9112-7.1", what, chunked(b"2\r\nok\r\n" + raw + b"0\r\n\r\n"), CUT)
    for what, raw in {
        "a trailer without a colon": b"X\r\n", "a folded trailer": b"X: y\r\n z\r\n",
        "NUL in a trailer": b"X: \x00\r\n",
        "101 trailers": b"".join(b"X-%d: y\r\n" % number for number in range(101)),
    }.items():  # fmt: skip
        yield Case("9112-7.1.2", what, chunked(b"2\r\nok\r\n0\r\n" + raw + b"\r\n"), CUT)


def _poison() -> Iterator[Case]:
    yield Case("9112-9.2", "two answers", OK + b"Content-Length: 2\r\n\r\nok" + POISON, TAKEN, body=b"ok")
    yield Case(
        "9112-9.2", "two answers, the first in chunks", chunked(b"2\r\nok\r\n0\r\n\r\n") + POISON, TAKEN, body=b"ok"
    )
    yield Case("9112-9.2", "bytes behind an answer", OK + b"Content-Length: 2\r\n\r\nok\0", TAKEN, body=b"ok")
    for status in (b"204 No Content", b"304 Not Modified"):
        raw = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(POISON)
        yield Case("9112-6.3", f"a body of {status.decode()}", raw + POISON, TAKEN)
    yield Case("9112-6.3", "a body of HEAD's answer", field(b"X: y") + POISON, TAKEN, method="HEAD")
    yield Case("9112-6.3", "no length, and an answer within", OK + b"\r\n" + POISON, TAKEN, closes=True, body=POISON)


CASES: tuple[Case, ...] = (*_status_lines(), *_fields(), *_framing(), *_bodies(), *_poison())
