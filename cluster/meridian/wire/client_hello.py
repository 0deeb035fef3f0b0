"""The server name that a TLS client asks for, read from the first bytes that it sends. Sans-I/O.

What is read is the ClientHello of RFC 8446 section 4.1.2 (the same in TLS 1.0 to 1.3) with the extension of RFC 6066
section 3. Where the name is encrypted (ECH), this is the outer one, which is the one to route by.
"""

HELLO_BYTES_MAX = 16 * 1024
"""Of the message; with post-quantum key shares and resumption a browser's has some 2 KiB."""

_HANDSHAKE = 22  # content type
_CLIENT_HELLO = 1
_RECORD_BYTES_MAX = 16 * 1024  # RFC 8446 section 5.1
_SERVER_NAME = 0
_HOST_NAME = 0


class IncompleteError(Exception):
    """More bytes are needed."""


class NotTlsError(Exception):
    """These bytes do not begin a TLS connection."""


def server_name_of(data: bytes) -> str:
    """The server name in lower case without a last dot; empty if the client names none.

    `data` is all that the client has sent so far, at least a part of its first message. Raises IncompleteError and
    NotTlsError, the latter as soon as it can be known.
    """
    hello = _Reader(_message_of(data))
    hello.take(2 + 32)  # version, random
    hello.take(hello.number(1))  # session id
    hello.take(hello.number(2))  # cipher suites
    hello.take(hello.number(1))  # compression methods
    if not hello.left:
        return ""
    extensions = _Reader(hello.take(hello.number(2)))
    while extensions.left:
        kind = extensions.number(2)
        body = extensions.take(extensions.number(2))
        if kind == _SERVER_NAME:
            return _host_name_of(body)
    return ""


def _message_of(data: bytes) -> bytes:
    """The body of the first handshake message, joined from the records that carry it."""
    message = b""
    at = 0
    while True:
        head = data[at : at + 5]
        if head and (head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != 3)):
            raise NotTlsError("the client does not begin with a TLS handshake")
        if len(head) < 5:
            raise IncompleteError
        size = int.from_bytes(head[3:], "big")
        if not 0 < size <= _RECORD_BYTES_MAX:
            raise NotTlsError("a record of an impossible length")
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message and message[0] != _CLIENT_HELLO:
            raise NotTlsError("the first message is no ClientHello")
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if length > HELLO_BYTES_MAX:
                raise NotTlsError("the ClientHello is too long")
            if len(message) >= 4 + length:
                return message[4 : 4 + length]
        if at > len(data):
            raise IncompleteError


def _host_name_of(body: bytes) -> str:
    names = _Reader(body)
    listed = _Reader(names.take(names.number(2)))
    while listed.left:
        kind = listed.number(1)
        name = listed.take(listed.number(2))
        if kind == _HOST_NAME:
            try:
                return name.decode("ascii").lower().rstrip(".")
            except UnicodeDecodeError:
                raise NotTlsError("the server name is not ASCII") from None
    return ""


class _Reader:
    """Bytes that must not run out: the message that they stand in is whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise NotTlsError("the ClientHello is cut")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
