"""Proofs that something is not there: NSEC records, made for the question (RFC 4034 section 4). PURE.

Two ways, see `signing.Denial`. Compact denial (RFC 9824) says that the missing name exists and holds nothing, not even
itself: type NXNAME. White lies (RFC 4470) say the truth about an interval that is hardly longer than the missing name
with all that could be below it.

Invariant: between owner and next name of a record made here lies no name of the zone (names below a delegation are not
the zone's), and its types are those of its owner. An end of the interval that does not exist is made up; where there is
no room to make one up, the real neighbour stands there.
"""

from bisect import bisect_left
from collections.abc import Iterable

from meridian_dns.names import LABEL_BYTES_MAX, NAME_BYTES_MAX, order_key, parent
from meridian_dns.records import DS, NS, NSEC, NXNAME, RRSIG, RRset
from meridian_dns.security_text import type_bitmap
from meridian_dns.zone import Zone


def compact(zone: Zone, name: bytes, types: Iterable[int]) -> RRset:
    """Says that exactly `types` exist at `name`, and nothing between it and the first name that could be below it."""
    return between(zone, name, name_below(name, zone.origin), types)


def compact_missing(zone: Zone, name: bytes) -> RRset:
    """Says that `name` does not exist."""
    return compact(zone, name, (NXNAME,))


def covering(zone: Zone, name: bytes) -> RRset:
    """Says that `name` does not exist, and nothing below it. It is no ancestor of a name of the zone."""
    order = zone.order
    neighbour = order[bisect_left(order, order_key(name), key=order_key) - 1]
    owner = name_before(name)
    if owner is None or order_key(owner) <= order_key(neighbour):
        return between(zone, neighbour, name_behind(name, zone.origin), types_at(zone, neighbour))
    return between(zone, owner, name_behind(name, zone.origin), ())


def types_at(zone: Zone, name: bytes) -> Iterable[int]:
    """The types that the zone itself has at an existing name: at a delegation only NS and DS (RFC 4035 section 2.3)."""
    types = zone.names[name]
    return [type_ for type_ in (NS, DS) if type_ in types] if name in zone.cuts else types


def next_closer(zone: Zone, name: bytes) -> bytes:
    """The ancestor of a missing name (or itself) one label below the longest that exists."""
    while (above := parent(name)) not in zone.names:
        name = above
    return name


def name_below(name: bytes, origin: bytes) -> bytes:
    """The first name behind `name`: hardly ever another than the least label below it."""
    return b"\1\0" + name if len(name) + 2 <= NAME_BYTES_MAX else name_behind(name, origin)


def name_behind(name: bytes, origin: bytes) -> bytes:
    """The first name behind `name` and all that can be below it; at the end the apex, where the order begins anew."""
    while name != origin:
        label, above = name[1 : name[0] + 1], parent(name)
        if len(label) < LABEL_BYTES_MAX and len(name) < NAME_BYTES_MAX:
            return bytes((len(label) + 1,)) + label + b"\0" + above
        label = label.rstrip(b"\xff")
        if label:
            # "@" is followed by "[": canonical names have no upper case.
            label = label[:-1] + (b"[" if label[-1] == 0x40 else bytes((label[-1] + 1,)))
            return bytes((len(label),)) + label + above
        name = above
    return origin


def name_before(name: bytes) -> bytes | None:
    """A name closely before `name`, with the same parent; None if there is no room for one."""
    label, above = name[1 : name[0] + 1], parent(name)
    last = label[-1]
    if last == 0:
        label = label[:-1]
        return bytes((len(label),)) + label + above if label else None
    label = label[:-1] + (b"@" if last == 0x5B else bytes((last - 1,)))
    if len(label) < LABEL_BYTES_MAX and len(label) + 2 + len(above) <= NAME_BYTES_MAX:
        label += b"\xff"
    return bytes((len(label),)) + label + above


def between(zone: Zone, owner: bytes, behind: bytes, types: Iterable[int]) -> RRset:
    """Says that between the two names is none, and what is at the first. Its TTL is a negative answer's (RFC 9077)."""
    rdata = behind + type_bitmap(frozenset((*types, RRSIG, NSEC)))
    return RRset(owner, NSEC, zone.negative_soa.ttl_seconds, (rdata,))
