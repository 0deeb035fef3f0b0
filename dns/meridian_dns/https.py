"""DNS over HTTPS (RFC 8484) behind a proxy that ends TLS and HTTP for us: HTTP/1.1, one request after the other.

Invariant: the answer is for the address that the proxy says in X-Real-IP, so only a proxy of ours may connect: give it
a Unix socket that nobody else may open. What its clients send is bounded by the longest message; a request that cannot
be a query is told so by its status (section 4.2.1) and not answered by DNS.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

import httptools

from meridian_dns.message import STREAM_BYTES_MAX, freshness_seconds

MEDIA_TYPE = b"application/dns-message"
CONNECTIONS_MAX = 4096  # more than all workers of a node keep to one endpoint; about 5 KB each

Responder = Callable[[bytes, str], tuple[bytes | None, bool]]
"""Gives the response to a message from an address, and whether it is for this client alone."""

_STATUS = {
    200: b"200 OK",
    400: b"400 Bad Request",
    405: b"405 Method Not Allowed\r\nallow: GET, HEAD, POST",
    413: b"413 Content Too Large",
    415: b"415 Unsupported Media Type",
}


class HttpsDoor:
    """Where a proxy's connections come in; `connections` are those that are open."""

    def __init__(self, respond: Responder) -> None:
        self.respond = respond
        self.connections: set[HttpsConnection] = set()

    def welcome(self) -> "HttpsConnection":
        """The protocol of one more connection."""
        return HttpsConnection(self)

    def close(self) -> None:
        """Ends all connections; answers that were written are still sent."""
        for connection in tuple(self.connections):
            connection.close()


class HttpsConnection(asyncio.Protocol):
    """One connection of the proxy's. Its parser calls the methods that begin with `on_`."""

    def __init__(self, door: HttpsDoor) -> None:
        self._door = door
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if len(self._door.connections) >= CONNECTIONS_MAX:
            self._transport.abort()
            return
        self._door.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._say(400, is_last=True)

    def close(self) -> None:
        """Ends it when what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    # The parser's calls

    def on_message_begin(self) -> None:
        self._target, self._type, self._source, self._expects = b"", b"", "", False
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self._type = value.partition(b";")[0].strip().lower()
            case b"x-real-ip":
                self._source = value.decode("latin-1")
            case b"expect":
                self._expects = True

    def on_headers_complete(self) -> None:
        if self._expects and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._body) <= STREAM_BYTES_MAX:  # what is more is not kept, and only told apart
            self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method()
        if method == b"POST":
            self._take_posted()
        elif method in (b"GET", b"HEAD"):
            message = message_in(self._target)
            if message is None:
                self._say(400)
            else:
                self._answer(message, has_body=method == b"GET")
        else:
            self._say(405)

    def _take_posted(self) -> None:
        if self._type != MEDIA_TYPE:
            self._say(415)
        elif len(self._body) > STREAM_BYTES_MAX:
            self._say(413)
        else:
            self._answer(bytes(self._body))

    def _answer(self, message: bytes, *, has_body: bool = True) -> None:
        try:
            source = str(ip_address(self._source))
        except ValueError:  # not by our proxy
            self._say(400)
            return
        reply, is_private = self._door.respond(message, source)
        if reply is None:  # no query at all
            self._say(400)
            return
        shared = b"private, " if is_private else b""
        head = b"content-type: %b\r\ncache-control: %bmax-age=%d" % (MEDIA_TYPE, shared, freshness_seconds(reply))
        self._say(200, head, reply, has_body=has_body)

    def _say(
        self, status: int, head: bytes = b"", body: bytes = b"", *, has_body: bool = True, is_last: bool = False
    ) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [b"HTTP/1.1 " + _STATUS[status], head or b"cache-control: no-store", b"content-length: %d" % len(body)]
        lines += [b"connection: close"] if is_last else []
        self._transport.write(b"\r\n".join((*lines, b"", body if has_body else b"")))
        if is_last:
            self._transport.close()


def message_in(target: bytes) -> bytes | None:
    """The message in the variable `dns` of a request's target (section 4.1); None if it is not there, or no base64url
    without padding."""
    for pair in target.partition(b"?")[2].split(b"&"):
        name, equals, value = pair.partition(b"=")
        if name == b"dns" and equals:
            if b"=" in value:
                return None
            try:
                return base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
            except binascii.Error:
                return None
    return None
