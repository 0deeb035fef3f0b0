"""Requests of HTTP/1.1 that break a requirement of RFC 9112 or RFC 9110, one a requirement, by section; and some that
look broken and are not. `REFUSED` are answered with one of their statuses and the connection ends; `HARMLESS` reach the
service as one request, with nothing of what looked broken.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BAD = frozenset((400,))


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `statuses` are those that may answer it."""

    section: str
    what: str
    raw: bytes
    statuses: frozenset[int] = BAD


def line(start: bytes, host: bytes = b"Host: a\r\n") -> bytes:
    """A request with this line."""
    return start + b"\r\n" + host + b"\r\n"


def field(raw: bytes, method: bytes = b"GET") -> bytes:
    """A request with these field lines, as they are."""
    return method + b" / HTTP/1.1\r\nHost: a\r\n" + raw + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    """A request with this body."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def length(value: bytes, body: bytes = b"hello") -> bytes:
    """A request whose Content-Length says this."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:" + value + b"\r\n\r\n" + body


def coding(value: bytes) -> bytes:
    """A request whose Transfer-Encoding says this."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:" + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def shown(byte: int) -> str:
    """A byte, for a name."""
    return chr(byte) if 0x20 < byte < 0x7F else f"0x{byte:02x}"


def _parsing() -> Iterator[Case]:
    for what, raw in {
        "a line of the head ends with LF": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "the request line ends with LF": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        "the head ends with LF": b"GET / HTTP/1.1\r\nHost: a\r\n\nX\r\n\r\n",
        "all lines end with LF": b"GET / HTTP/1.1\nHost: a\n\nX\r\n\r\n",
        "the request line ends with CR": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        "CR within a value": field(b"X: a\rb"),
        "CR before CRLF": field(b"X: a\r"),
        "CR within a name": field(b"X\rY: a"),
        "CR within the request line": line(b"GET /\r HTTP/1.1"),
        "a space before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "a tab before the first field": b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n",
        "an empty line of LF before the request": b"\n" + line(b"GET / HTTP/1.1"),
        "two empty lines before the request": b"\r\n\r\n" + line(b"GET / HTTP/1.1"),
        "a space before the request": b" " + line(b"GET / HTTP/1.1"),
        "a byte order mark before the request": b"\xef\xbb\xbf" + line(b"GET / HTTP/1.1"),
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a TLS handshake": bytes.fromhex("160301006a010000660303") + bytes(range(96)) + b"\r\n\r\n",
        "nothing of HTTP": b"\x00" * 64 + b"\r\n\r\n",
    }.items():
        yield Case("9112-2.2", what, raw)


def _request_line() -> Iterator[Case]:
    for version in (
        b"http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01", b"HTTP/2.0",
        b"HTTP/1.2", b"HTTP/0.9", b"HTTP/3", b"HTTPS/1.1", b"HTTP/1,1", b"HTTP 1.1", b"XTTP/1.1", b"HTTP/-1.1",
        b"HTTP/1.1x", b"HTTP/a.b", b"HTTP/1.1\x00", b"ICE/1.0", b"RTSP/1.0",
    ):  # fmt: skip
        yield Case("9112-2.3", f"version {version!r}", line(b"GET / " + version), frozenset((400, 505)))
    for what, start in {
        "no target and no version": b"GET",
        "no version": b"GET /",
        "no target": b"GET HTTP/1.1",
        "an empty target": b"GET  HTTP/1.1",
        "no method": b" / HTTP/1.1",
        "two spaces after the method": b"GET  / HTTP/1.1",
        "two spaces before the version": b"GET /  HTTP/1.1",
        "a space after the version": b"GET / HTTP/1.1 ",
        "a tab after the version": b"GET / HTTP/1.1\t",
        "a tab after the method": b"GET\t/ HTTP/1.1",
        "a tab before the version": b"GET /\tHTTP/1.1",
        "a form feed after the method": b"GET\x0c/ HTTP/1.1",
        "a vertical tab before the version": b"GET /\x0bHTTP/1.1",
        "four words": b"GET / a HTTP/1.1",
    }.items():
        yield Case("9112-3", what, line(start))
    for byte in b'"(),/:;<=>?@[\\]{}\x00\x7f\x80\xff':
        yield Case(
            "9112-3.1",
            f"{shown(byte)} in a method",
            line(b"G" + bytes((byte,)) + b"T / HTTP/1.1"),
            frozenset((400, 501)),
        )


def _targets() -> Iterator[Case]:
    for section, what, start in (
        ("9112-3.2", "a path that begins with no slash", b"GET a HTTP/1.1"),
        ("9112-3.2", "a query alone", b"GET ?a HTTP/1.1"),
        ("9112-3.2", "a space within it", b"GET /a b HTTP/1.1"),
        ("9112-3.2", "a tab within it", b"GET /a\tb HTTP/1.1"),
        ("9112-3.2", "NUL within it", b"GET /a\x00b HTTP/1.1"),
        ("9112-3.2", "a control byte within it", b"GET /a\x01b HTTP/1.1"),
        ("9112-3.2", "DEL within it", b"GET /a\x7fb HTTP/1.1"),
        ("9112-3.2", "a backslash at its beginning", b"GET \\a HTTP/1.1"),
        ("9112-3.2.1", "a fragment in origin form", b"GET /a#b HTTP/1.1"),
        ("9112-3.2.1", "a fragment in its query", b"GET /a?b#c HTTP/1.1"),
        ("9112-3.2.2", "no host in absolute form", b"GET http:///a HTTP/1.1"),
        ("9112-3.2.2", "nothing behind the scheme", b"GET http:// HTTP/1.1"),
        ("9112-3.2.2", "one slash behind the scheme", b"GET http:/a HTTP/1.1"),
        ("9112-3.2.2", "userinfo", b"GET http://u:p@a/ HTTP/1.1"),
        ("9112-3.2.2", "another scheme", b"GET ftp://a/ HTTP/1.1"),
        ("9112-3.2.2", "another host than Host", b"GET http://b/ HTTP/1.1"),
        ("9112-3.2.2", "another port than Host", b"GET http://a:81/ HTTP/1.1"),
        ("9112-3.2.2", "a port that is no number", b"GET http://a:b/ HTTP/1.1"),
        ("9112-3.2.2", "a fragment in absolute form", b"GET http://a/#b HTTP/1.1"),
        ("9112-3.2.3", "authority form without CONNECT", b"GET a:80 HTTP/1.1"),
        ("9112-3.2.4", "asterisk form without OPTIONS", b"GET * HTTP/1.1"),
        ("9112-3.2.4", "two asterisks", b"OPTIONS ** HTTP/1.1"),
        ("9112-3.2.4", "a path behind the asterisk", b"OPTIONS */a HTTP/1.1"),
    ):
        yield Case(section, what, line(start))
    for what, start in (
        ("CONNECT", b"CONNECT a:443 HTTP/1.1"),
        ("CONNECT without a port", b"CONNECT a HTTP/1.1"),
        ("CONNECT to a path", b"CONNECT /a HTTP/1.1"),
        ("CONNECT to a URI", b"CONNECT http://a/ HTTP/1.1"),
    ):
        yield Case("9112-3.2.3", what, line(start), frozenset((400, 501)))
    yield Case("9112-3", "a target of 17 KiB", line(b"GET /" + b"a" * 17_000 + b" HTTP/1.1"), frozenset((414,)))


def _hosts() -> Iterator[Case]:
    yield Case("9112-3.2", "no Host", line(b"GET / HTTP/1.1", b""))
    yield Case("9112-3.2", "no Host with absolute form", line(b"GET http://a/ HTTP/1.1", b""))
    yield Case("9112-3.2", "two Hosts", line(b"GET / HTTP/1.1", b"Host: a\r\nHost: b\r\n"))
    yield Case("9112-3.2", "the same Host twice", line(b"GET / HTTP/1.1", b"Host: a\r\nHost: a\r\n"))
    for host in (
        b"a b", b"a/b", b"a?b", b"a#b", b"u@a", b"a\\b", b'"a"', b"<a>", b"a:b", b"a:80:80", b"a:-1", b"a:999999",
        b"::1", b"[::1", b"::1]", b"[g::1]", b"[::1]a", b"a\tb", b"a\x80", b"a^b", b"{a}", b"a|b", b"http://a",
        b"a:80/",
    ):  # fmt: skip
        yield Case("9110-7.2", f"Host: {host!r}", line(b"GET / HTTP/1.1", b"Host: " + host + b"\r\n"))


def _fields() -> Iterator[Case]:
    for what, raw in {
        "a space before the colon": b"X : a",
        "a tab before the colon": b"X\t: a",
        "a space before the colon of Content-Length": b"Content-Length : 5",
        "a space before the colon of Transfer-Encoding": b"Transfer-Encoding : chunked",
        "no colon": b"X",
        "no name": b": a",
        "a line of spaces": b"X: a\r\n  ",
        "two names": b"X Y: a",
    }.items():
        yield Case("9112-5.1", what, field(raw))
    for byte in b'"(),/;<=>?@[\\]{}\x00\x01\x1f\x7f\x80\xff':
        yield Case("9110-5.6.2", f"{shown(byte)} in a name", field(b"X" + bytes((byte,)) + b"Y: a"))
    for byte in (*range(1, 9), 11, 12, *range(14, 32), 127):
        yield Case("9110-5.5", f"{shown(byte)} in a value", field(b"X: a" + bytes((byte,)) + b"b"))
    yield Case("9110-5.5", "NUL in a value", field(b"X: a\x00b"))
    yield Case("9110-5.5", "LF in a value", field(b"X: a\nb"))
    for what, raw in {
        "folded by a space": b"X: a\r\n b",
        "folded by a tab": b"X: a\r\n\tb",
        "a folded Content-Length": b"Content-Length:\r\n 5",
        "a folded Transfer-Encoding": b"Transfer-Encoding:\r\n chunked",
        "a folded second coding": b"Transfer-Encoding: chunked\r\n , identity",
    }.items():
        yield Case("9112-5.2", what, field(raw))
    yield Case("9112-5.2", "a folded Host", line(b"GET / HTTP/1.1", b"Host:\r\n a\r\n"))
    yield Case("9110-5.4", "101 fields", field(b"\r\n".join([b"X: a"] * 101)), frozenset((431,)))
    yield Case("9110-5.4", "a field of 65 KiB", field(b"X: " + b"a" * 66_000), frozenset((431,)))


def _framing() -> Iterator[Case]:
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked"
    body = b"5\r\nhello\r\n0\r\n\r\n"
    yield Case("9112-6.1", "Content-Length before Transfer-Encoding", field(both, b"POST") + body)
    yield Case(
        "9112-6.1",
        "Transfer-Encoding before Content-Length",
        field(b"\r\n".join(both.split(b"\r\n")[::-1]), b"POST") + body,
    )
    yield Case(
        "9112-6.1", "Transfer-Encoding twice", field(b"Transfer-Encoding: chunked\r\n" * 2 + b"X: a", b"POST") + body
    )
    yield Case(
        "9112-6.1",
        "Transfer-Encoding in HTTP/1.0",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
    )
    for value in (
        b" chunked, chunked", b" gzip, chunked", b" chunked, gzip", b" identity", b" gzip", b" xchunked", b" chunkedx",
        b"", b" chunked,", b" ,chunked", b" chunked, identity", b' "chunked"', b" chunked;a=b", b" cow",
        b" chunked chunked", b" chunked;", b" deflate, chunked", b" c\xc4\x9bunked",
    ):  # fmt: skip
        yield Case("9112-6.1", f"Transfer-Encoding:{value!r}", coding(value), frozenset((400, 501)))
    for byte in (0x0B, 0x0C, 0x00, 0x0D):
        yield Case(
            "9112-6.1",
            f"{shown(byte)} before chunked",
            coding(b" " + bytes((byte,)) + b"chunked"),
            frozenset((400, 501)),
        )
    for value in (
        b" +5", b" -5", b" 5,5", b" 5, 5", b" 5, 6", b" 5 5", b" 0x5", b" 5.0", b" 1e1", b"", b" five", b" 5;",
        b" \xd9\xa5",
        b' "5"', b" 5,", b" ,5", b" 5\x0b", b" 5_0", b" 18446744073709551616", b" 99999999999999999999", b" -0", b" 5L",
    ):  # fmt: skip
        yield Case("9112-6.2", f"Content-Length:{value!r}", length(value))
    yield Case("9112-6.3", "two lengths", field(b"Content-Length: 5\r\nContent-Length: 6", b"POST") + b"hello")
    yield Case(
        "9112-6.3", "the same length twice", field(b"Content-Length: 5\r\nContent-Length: 5", b"POST") + b"hello"
    )
    yield Case("9112-6.3", "two lengths of GET", field(b"Content-Length: 0\r\nContent-Length: 44"))


def _chunks() -> Iterator[Case]:
    for what, body in {
        "a size that is no number": b"g\r\nhello\r\n0\r\n\r\n",
        "0x before a size": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
        "a sign before a size": b"+5\r\nhello\r\n0\r\n\r\n",
        "a space before a size": b" 5\r\nhello\r\n0\r\n\r\n",
        "a space behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
        "a tab behind a size": b"5\t\r\nhello\r\n0\r\n\r\n",
        "an underscore in a size": b"0_5\r\nhello\r\n0\r\n\r\n",
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "an extension without a size": b";a=b\r\nhello\r\n0\r\n\r\n",
        "a size of 17 digits": b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n",
        "a size that overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "a size line that ends with LF": b"5\nhello\r\n0\r\n\r\n",
        "a size line that ends with CR": b"5\rhello\r\n0\r\n\r\n",
        "a size line that ends with CR CR LF": b"5\r\r\nhello\r\n0\r\n\r\n",
        "NUL behind a size": b"5\x00\r\nhello\r\n0\r\n\r\n",
    }.items():
        yield Case("9112-7.1", what, chunked(body))
    for what, body in {
        "data longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
        "data shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
        "no CRLF behind data": b"5\r\nhello0\r\n\r\n",
        "LF behind data": b"5\r\nhello\n0\r\n\r\n",
        "CR behind data": b"5\r\nhello\r0\r\n\r\n",
        "a last chunk that ends with LF": b"5\r\nhello\r\n0\n\r\n",
    }.items():
        yield Case("9112-7.1", what, chunked(body))
    for what, extension in {
        "a control byte in an extension": b"5;a=\x01",
        "NUL in an extension": b"5;a=\x00",
        "CR in an extension": b"5;a=\rb",
        "LF in an extension": b"5;a=\nb",
        "an extension of 300 bytes": b"5;" + b"a" * 300,
    }.items():
        yield Case("9112-7.1.1", what, chunked(extension + b"\r\nhello\r\n0\r\n\r\n"))
    for what, trailer in {
        "no colon": b"X",
        "a space before the colon": b"X : a",
        "folded": b"X: a\r\n b",
        "NUL in a value": b"X: a\x00",
        "CR in a value": b"X: a\rb",
        "a control byte in a value": b"X: a\x01b",
        "no name": b": a",
        "a name that is no token": b"X(: a",
        "a line that ends with LF": b"X: a\nY: b",
        "101 of them": b"\r\n".join([b"X: a"] * 101),
        "more than 64 KiB": b"X: " + b"a" * 66_000,
    }.items():
        yield Case("9112-7.1.2", f"trailers: {what}", chunked(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"))


REFUSED: tuple[Case, ...] = tuple(
    case for part in (_parsing, _request_line, _targets, _hosts, _fields, _framing, _chunks) for case in part()
)

HARMLESS: tuple[Case, ...] = tuple(
    Case(section, what, raw, frozenset((200,)))
    for section, what, raw in (
        ("9112-2.2", "one empty line before the request is skipped", b"\r\n" + line(b"GET / HTTP/1.1")),
        ("9112-3.2.1", "two slashes at the beginning", line(b"GET //a HTTP/1.1")),
        ("9112-3.2.2", "absolute form with the same host", line(b"GET HTTP://A/b HTTP/1.1")),
        ("9112-3.2.4", "asterisk form of OPTIONS", line(b"OPTIONS * HTTP/1.1")),
        ("9110-4.2.3", "a host in capitals", line(b"GET / HTTP/1.1", b"HOST: A:80\r\n")),
        ("9110-7.2", "an IPv6 address with a port", line(b"GET / HTTP/1.1", b"Host: [::1]:80\r\n")),
        ("9112-5.1", "no space behind the colon", field(b"X:a")),
        ("9112-5.1", "tabs around a value", field(b"X:\t a \t")),
        ("9110-5.5", "an empty value", field(b"X:")),
        ("9110-5.5", "bytes beyond ASCII in a value", field(b"X: \xc3\xa4\xff")),
        ("9110-5.3", "the same field twice", field(b"X: a\r\nX: b")),
        ("9110-7.6.1", "fields that Connection names do not go on", field(b"Connection: X-Broken\r\nX-Broken: 1")),
        ("9110-7.6.1", "Keep-Alive does not go on", field(b"Keep-Alive: broken")),
        ("9110-7.6.1", "Proxy-Connection does not go on", field(b"Proxy-Connection: broken")),
        ("9110-7.8", "Upgrade to what is not served does not go on", field(b"Connection: upgrade\r\nUpgrade: broken")),
        ("9110-10.1.1", "an expectation that nobody knows does not go on", field(b"Expect: broken")),
        ("9112-6.1", "a coding in capitals", coding(b" CHUNKED")),
        ("9112-6.2", "a length with zeros before it", length(b" 0005")),
        ("9112-6.2", "spaces around a length", length(b"\t 5 \t")),
        ("9112-6.3", "a length of GET", length(b" 5").replace(b"POST", b"GET")),
        ("9112-7.1", "zeros before a size", chunked(b"0005\r\nhello\r\n000\r\n\r\n")),
        ("9112-7.1", "a size in capitals", chunked(b"A\r\nhellohello\r\n0\r\n\r\n")),
        ("9112-7.1.1", "extensions do not go on", chunked(b'5;broken="x"\r\nhello\r\n0;broken\r\n\r\n')),
        ("9112-7.1.2", "trailers that frame do not go on", chunked(b"5\r\nhello\r\n0\r\nHost: broken\r\n\r\n")),
        ("9112-9.3", "HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n"),
    )
)  # fmt: skip
