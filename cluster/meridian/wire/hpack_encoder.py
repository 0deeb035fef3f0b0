"""HPACK for heads, both ways (RFC 7541): static table and plain literals only.

Invariant: a field's encoding does not depend on what was sent before, so encodings are remembered once for all
connections of a worker, and nobody can make us keep a table of the size it asks for. The price is some 150 bytes
a head against a dynamic table; the gain is that a head costs one dictionary lookup a field, where a Python
dynamic table costs a search in it. Secrets are not remembered, and are marked so that no table on the way may hold them
(section 7.1.3).
"""

from collections.abc import Iterable

from hpack.table import HeaderTable

REMEMBERED_MAX = 4096
"""Encoded fields kept (a few hundred bytes each); when full all are forgotten, which costs one encoding each."""

REMEMBERED_BYTES_MAX = 256
"""Longer fields are mostly unique (cookies, policies with nonces) and are not kept."""

_SECRET_FIELDS = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

_STATIC: dict[bytes, int] = {}
_STATIC_PAIRS: dict[tuple[bytes, bytes], int] = {}
for _index, _pair in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC.setdefault(_pair[0], _index)
    _STATIC_PAIRS[(_pair[0], _pair[1])] = _index

_remembered: dict[tuple[bytes, bytes], bytes] = {}


class PlainEncoder:
    """Stands where h2 expects an `hpack.Encoder`."""

    def __init__(self) -> None:
        self.header_table_size = 4096  # set by h2 from the client's settings; we never use a table, whatever it is
        self._announced = False

    def encode(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Returns the header block of these fields (lower-case names)."""
        parts = []
        if not self._announced:
            # Our table has size 0 from the start: valid under any SETTINGS_HEADER_TABLE_SIZE (section 4.2).
            parts.append(b"\x20")
            self._announced = True
        for field in headers:
            encoded = _remembered.get(field)
            if encoded is None:
                encoded = _encode(field)
            parts.append(encoded)
        return b"".join(parts)


def _encode(field: tuple[bytes, bytes]) -> bytes:
    name, value = field
    pair = _STATIC_PAIRS.get(field)
    if pair is not None:
        encoded = _integer(pair, 7, 0x80)  # section 6.1
    else:
        index = _STATIC.get(name, 0)
        secret = name in _SECRET_FIELDS
        head = _integer(index, 4, 0x10 if secret else 0x00)  # section 6.2.2: literal without indexing; 6.2.3: never
        if not index:
            head += _integer(len(name), 7, 0x00) + name
        encoded = head + _integer(len(value), 7, 0x00) + value
        if secret or name == b":path":  # few paths come often enough to be worth the room
            return encoded
    if len(encoded) <= REMEMBERED_BYTES_MAX:
        if len(_remembered) >= REMEMBERED_MAX:
            _remembered.clear()
        _remembered[field] = encoded
    return encoded


def _integer(value: int, prefix_bits: int, flags: int) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((flags | value,))
    out = bytearray((flags | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
