"""What a gateway must know of WebSocket (RFC 6455), whose bytes it passes on as they are: the two keys of the
handshake, and where one frame ends, so that it can say good-bye between two of them.
"""

import binascii
import hashlib
import re

GOING_AWAY = 1001
"""The status of a close frame from an endpoint that goes down (section 7.4.1)."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch  # base64 of 16 bytes
_CLOSE = 0x88


def is_key(key: bytes) -> bool:
    """Whether it can be a Sec-WebSocket-Key (section 4.2.1)."""
    return _KEY(key) is not None


def key_of(draw: bytes) -> bytes:
    """A Sec-WebSocket-Key made of 16 random bytes."""
    return binascii.b2a_base64(draw, newline=False)


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that belongs to a key (section 4.2.2)."""
    return binascii.b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def close_frame(status: int) -> bytes:
    """A close frame of a server's: not masked (section 5.5.1)."""
    return bytes((_CLOSE, 2)) + status.to_bytes(2, "big")


class Frames:
    """Follows the frames in a stream of bytes. What is no frame does no harm: `between` is not known then, no more."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose length is not known yet
        self._left = 0  # of the frame that is under way
        self.closed = False  # the last frame was there

    @property
    def between(self) -> bool:
        """Whether a frame may be put here: the last one is whole, and none has said that it was the last."""
        return not (self._left or self._head or self.closed)

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        at, size = 0, len(data)
        if self._left:
            if self._left >= size:
                self._left -= size
                return
            at, self._left = self._left, 0
        if self._head:
            data, at, size, self._head = self._head + data[at:], 0, len(self._head) + size - at, b""
        while at < size:
            end = self._end_of(data, at)
            if end is None:
                self._head = data[at:]
                return
            self.closed = self.closed or data[at] == _CLOSE
            at = end
        self._left = at - size

    @staticmethod
    def _end_of(data: bytes, at: int) -> int | None:
        """Where the frame that begins at `at` ends (section 5.2); None while its length is not there."""
        if len(data) < at + 2:
            return None
        length = data[at + 1] & 0x7F
        head = 2 + (4 if data[at + 1] & 0x80 else 0)
        if length >= 126:
            wide = 2 if length == 126 else 8
            if len(data) < at + 2 + wide:
                return None
            head += wide
            length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        return at + head + length
