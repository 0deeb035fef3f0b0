"""The PROXY protocol, versions 1 and 2: who the client of a proxied connection is, said before its first byte.

Sans-I/O, after "The PROXY protocol" of HAProxy (doc/proxy-protocol.txt, 2.2 and 2.3).
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = tuple[str, int]
"""IP address and port."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE_BYTES_MAX = 107  # of version 1, with its line end
BODY_BYTES_MAX = 4096  # of version 2: addresses, and TLVs of which we read none; the usual ones take some hundred

_HEAD = struct.Struct("!12sBBH")
_PROXY, _LOCAL = 0x21, 0x20
_STREAM = 0x01
_INET, _INET6 = 0x10, 0x20
_FAMILIES = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}


class IncompleteError(Exception):
    """More bytes are needed."""


class MalformedError(Exception):
    """This is no PROXY header: the connection does not come from who may send one, or from a broken one."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says. `source` is None where the proxy speaks for itself (LOCAL) or does not know (UNKNOWN); then
    the connection's own addresses hold. `size` is its length in bytes."""

    source: Address | None
    destination: Address | None
    size: int


def write(version: int, source: Address, destination: Address) -> bytes:
    """The header of a connection from `source` to `destination`. Addresses of two families are said to be unknown."""
    client, server = ip_address(source[0]), ip_address(destination[0])
    known = client.version == server.version
    if version == 1:
        if not known:
            return b"PROXY UNKNOWN\r\n"
        return b"PROXY TCP%d %b %b %d %d\r\n" % (
            client.version, str(client).encode(), str(server).encode(), source[1], destination[1],
        )  # fmt: skip
    if not known:
        return _HEAD.pack(SIGNATURE, _PROXY, 0, 0)
    body = client.packed + server.packed + struct.pack("!HH", source[1], destination[1])
    family = _INET if client.version == 4 else _INET6
    return _HEAD.pack(SIGNATURE, _PROXY, family | _STREAM, len(body)) + body


def read(data: bytes) -> Header:
    """Reads the header that `data` begins with. Raises IncompleteError, and MalformedError as soon as it is known."""
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if SIGNATURE.startswith(data):
        raise IncompleteError
    if not data.startswith(b"PROXY ") and not b"PROXY ".startswith(data):
        raise MalformedError("the connection does not begin with a PROXY header")
    end = data.find(b"\r\n", 0, LINE_BYTES_MAX)
    if end == -1:
        if len(data) >= LINE_BYTES_MAX:
            raise MalformedError("the line is too long")
        raise IncompleteError
    return _read_line(data[:end])


def _read_line(line: bytes) -> Header:
    words, size = line.split(b" "), len(line) + 2
    if words[1] == b"UNKNOWN":
        return Header(None, None, size)
    kind = _FAMILIES.get(words[1])
    if kind is None or len(words) != 6:
        raise MalformedError("not PROXY TCP4 or TCP6, two addresses and two ports")
    try:
        client, server = (str(kind(word.decode("ascii"))) for word in words[2:4])
    except ValueError as error:
        raise MalformedError(str(error)) from None
    return Header((client, _port(words[4])), (server, _port(words[5])), size)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65_535 or (word[:1] == b"0" and word != b"0"):
        raise MalformedError(f"{word!r} is no port")
    return int(word)


def _read_binary(data: bytes) -> Header:
    if len(data) < _HEAD.size:
        raise IncompleteError
    _, command, family, length = _HEAD.unpack_from(data)
    if command not in (_PROXY, _LOCAL):
        raise MalformedError("neither PROXY nor LOCAL of version 2")
    if length > BODY_BYTES_MAX:
        raise MalformedError("the header is too long")
    size = _HEAD.size + length
    if len(data) < size:
        raise IncompleteError
    bytes_each = {_INET: 4, _INET6: 16}.get(family & 0xF0)
    if command == _LOCAL or bytes_each is None:
        return Header(None, None, size)
    if length < 2 * bytes_each + 4:
        raise MalformedError("the addresses are cut")
    body = data[_HEAD.size : size]
    client, server = (str(ip_address(body[at : at + bytes_each])) for at in (0, bytes_each))
    ports = struct.unpack_from("!HH", body, 2 * bytes_each)
    return Header((client, ports[0]), (server, ports[1]), size)
