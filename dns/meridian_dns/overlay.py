"""TXT records that stand in a zone for a while, beside what the document says: proofs of who runs it. Pure.

Invariant: no other name is answered with other records. A new name makes the names above it exist, so what a wildcard
answered for them until then (RFC 4592 section 2.2) is put there in its place: at the name itself, and at a wildcard
below it.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from meridian_dns.names import ancestors, is_within, order_key, parent
from meridian_dns.records import CNAME, TXT, RRset
from meridian_dns.zone import RecordSet, Zone

TTL_SECONDS = 10  # nobody should remember for long what is there for a minute
_STAR = b"\1*"
_STRING_BYTES_MAX = 255

Sets = Mapping[int, RecordSet]


def with_texts(zone: Zone, texts: Mapping[bytes, Sequence[str]]) -> Zone:
    """The zone with these TXT records (by owner) beside its own; those that it cannot hold are left out: outside of it,
    below a delegation, beside a CNAME. Copies the table of names, some milliseconds for 100,000."""
    added: dict[bytes, Sets] = {}
    for owner, values in texts.items():
        here = zone.names.get(owner, {})
        if is_within(owner, zone.origin) and zone.cut_above(owner) is None and CNAME not in here:
            added = {**_bridged(zone, owner), **added}
            added[owner] = {**here, TXT: _joined(here.get(TXT), owner, values)}
    if not added:
        return zone
    names = {**zone.names, **{name: MappingProxyType(dict(sorted(sets.items()))) for name, sets in added.items()}}
    order = list(zone.order)
    for name in added.keys() - zone.names.keys() if order else ():
        insort(order, name, key=order_key)
    return replace(zone, names=MappingProxyType(names), order=tuple(order))


def _bridged(zone: Zone, owner: bytes) -> dict[bytes, Sets]:
    """The names between the owner and what exists, as they are answered now."""
    missing = []
    for name in ancestors(parent(owner)):
        if name in zone.names:
            break
        missing.append(name)
    else:
        return {}
    wildcard = zone.names.get(_STAR + name)
    if wildcard is None:
        return {between: {} for between in missing}
    return {
        copy: {type_: replace(records, owner=copy) for type_, records in wildcard.items()}
        for between in missing
        for copy in (between, _STAR + between)
    }


def _joined(before: RecordSet | None, owner: bytes, values: Sequence[str]) -> RRset:
    own = before.rdatas if isinstance(before, RRset) else ()
    rdatas = [
        len(text).to_bytes(1, "big") + text for value in values if len(text := value.encode()) <= _STRING_BYTES_MAX
    ]
    return RRset(owner, TXT, TTL_SECONDS, tuple(dict.fromkeys((*own, *rdatas))))
