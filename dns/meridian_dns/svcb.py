"""Service parameters of SVCB and HTTPS records (RFC 9460): words to wire and back.

Invariant: what is written is in strictly rising order of keys, and says nothing that RFC 9460 makes clients refuse: no
key twice, a mandatory key that is absent, `no-default-alpn` without `alpn`.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from meridian_dns.lexing import Word, escaped, unescaped

MANDATORY, ALPN, NO_DEFAULT_ALPN, PORT, IPV4HINT, ECH, IPV6HINT, DOHPATH = range(8)


def params_wire(params: Mapping[int, bytes]) -> bytes:
    """Parameters by key in wire form. Raises ValueError for a set that clients would refuse."""
    if NO_DEFAULT_ALPN in params and ALPN not in params:
        raise ValueError("no-default-alpn needs alpn")
    for at in range(0, len(params.get(MANDATORY, b"")), 2):
        key = int.from_bytes(params[MANDATORY][at : at + 2], "big")
        if key not in params:
            raise ValueError(f"{_name_of(key)} is mandatory, but not there")
    return b"".join(
        key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in sorted(params.items())
    )


def params_from_words(words: Iterable[Word]) -> bytes:
    """Reads `alpn=h3,h2 port=8443 ...` into wire form. Raises ValueError."""
    params: dict[int, bytes] = {}
    for word in words:
        name, equals, text = word.text.partition("=")
        key = _key_of(name)
        if key in params:
            raise ValueError(f"{name} is given twice")
        if text.startswith('"'):
            if len(text) < 2 or not text.endswith('"'):
                raise ValueError(f"{name}: a quote is not closed")
            text = text[1:-1]
        if key == NO_DEFAULT_ALPN:
            if equals:
                raise ValueError("no-default-alpn has no value")
            params[key] = b""
            continue
        if not text and key in _KINDS:
            raise ValueError(f"{name} needs a value")
        value = unescaped(text)
        try:
            params[key] = _KINDS[key].read(value) if key in _KINDS else value
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return params_wire(params)


def params_to_text(wire: bytes) -> str:
    """Writes parameters as words; `wire` is well formed."""
    words = []
    for key, value in _params_of(wire):
        if key == NO_DEFAULT_ALPN or (not value and key not in _KINDS):
            words.append(_name_of(key))
        else:
            words.append(f"{_name_of(key)}={escaped(_KINDS[key].write(value) if key in _KINDS else value)}")
    return " ".join(words)


def service_params(alpn: Sequence[str], ipv4: Sequence[bytes], ipv6: Sequence[bytes]) -> bytes:
    """What a service made from live state says of itself: protocols and address hints, none left out but empty ones."""
    params = {ALPN: _lengths(name.encode() for name in alpn), IPV4HINT: b"".join(ipv4), IPV6HINT: b"".join(ipv6)}
    return params_wire({key: value for key, value in params.items() if value})


def hints_of(rdata: bytes) -> Iterator[bytes]:
    """The addresses that an SVCB or HTTPS record of ours gives as hints, packed."""
    at = 2  # behind the priority stands the target's name
    while rdata[at]:
        at += rdata[at] + 1
    for key, value in _params_of(rdata[at + 1 :]):
        if key in (IPV4HINT, IPV6HINT):
            yield from _cut(value, 4 if key == IPV4HINT else 16)


def _params_of(wire: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(wire):
        key, size = int.from_bytes(wire[at : at + 2], "big"), int.from_bytes(wire[at + 2 : at + 4], "big")
        yield key, wire[at + 4 : at + 4 + size]
        at += 4 + size


def _listed(value: bytes) -> list[bytes]:
    """A value-list (RFC 9460 appendix A.1): cut at commas, unless a backslash stands before."""
    items, at = [bytearray()], 0
    while at < len(value):
        if value[at : at + 1] == b",":
            items.append(bytearray())
        else:
            at += value[at : at + 1] == b"\\"
            items[-1] += value[at : at + 1]
        at += 1
    if not all(items):
        raise ValueError("an empty item in the list")
    return [bytes(item) for item in items]


def _lengths(items: Iterable[bytes]) -> bytes:
    out = b""
    for item in items:
        if len(item) > 255:
            raise ValueError("an item of more than 255 bytes")
        out += bytes((len(item),)) + item
    return out


def _alpn_text(value: bytes) -> bytes:
    items, at = [], 0
    while at < len(value):
        items.append(value[at + 1 : at + 1 + value[at]])
        at += 1 + value[at]
    return b",".join(item.replace(b"\\", b"\\\\").replace(b",", b"\\,") for item in items)


def _read_mandatory(value: bytes) -> bytes:
    keys = sorted(_key_of(item.decode("ascii", "replace")) for item in _listed(value))
    if len(set(keys)) < len(keys) or MANDATORY in keys:
        raise ValueError("a key is named twice, or mandatory itself")
    return b"".join(key.to_bytes(2, "big") for key in keys)


def _read_port(value: bytes) -> bytes:
    if not value.isdigit() or int(value) > 65535:
        raise ValueError(f"{value.decode(errors='replace')!r} is no port")
    return int(value).to_bytes(2, "big")


def _read_ech(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64 ({error})") from None


def _cut(value: bytes, size: int) -> Iterable[bytes]:
    return (value[at : at + size] for at in range(0, len(value), size))


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    read: Callable[[bytes], bytes]
    write: Callable[[bytes], bytes]


def _ascii(items: Iterable[object]) -> bytes:
    return ",".join(map(str, items)).encode()


_KINDS = {
    MANDATORY: _Kind(
        "mandatory", _read_mandatory, lambda v: _ascii(_name_of(int.from_bytes(k, "big")) for k in _cut(v, 2))
    ),
    ALPN: _Kind("alpn", lambda v: _lengths(_listed(v)), _alpn_text),
    PORT: _Kind("port", _read_port, lambda v: str(int.from_bytes(v, "big")).encode()),
    IPV4HINT: _Kind(
        "ipv4hint",
        lambda v: b"".join(IPv4Address(item.decode("ascii", "replace")).packed for item in _listed(v)),
        lambda v: _ascii(map(IPv4Address, _cut(v, 4))),
    ),
    ECH: _Kind("ech", _read_ech, base64.b64encode),
    IPV6HINT: _Kind(
        "ipv6hint",
        lambda v: b"".join(IPv6Address(item.decode("ascii", "replace")).packed for item in _listed(v)),
        lambda v: _ascii(map(IPv6Address, _cut(v, 16))),
    ),
    DOHPATH: _Kind("dohpath", lambda v: v, lambda v: v),
}
"""The registered keys that have a value, with how it is read and written."""

_KEYS = {kind.name: key for key, kind in _KINDS.items()} | {"no-default-alpn": NO_DEFAULT_ALPN}


def _key_of(name: str) -> int:
    key = _KEYS.get(name.lower())
    if key is not None:
        return key
    match = re.fullmatch(r"key([1-9]\d{0,4})", name.lower())
    if match is None or not 8 <= int(match[1]) < 65535:
        raise ValueError(f"{name!r} is no key: use one of {', '.join(_KEYS)}, or key8 to key65534")
    return int(match[1])


def _name_of(key: int) -> str:
    if key == NO_DEFAULT_ALPN:
        return "no-default-alpn"
    return _KINDS[key].name if key in _KINDS else f"key{key}"
