"""Zone transfers to secondaries: whole (AXFR, RFC 5936) and by difference (IXFR, RFC 1995). PURE.

A secondary steers nothing, so it gets a *copy*: each steered set as all addresses that the operator's document gives
for its regions, whatever their health. A copy depends on the document alone; so it is equal on all nodes at one
serial, and a secondary may ask now one, now another. An ALIAS has been replaced by its target's addresses when the
zone was built, and is a set like any other.

The *history* of a zone is its copy and the changes that led to it, as far as this server saw them. It is kept in
memory and never larger than the zone: a difference that is longer than the whole is not worth sending. Who holds a
serial that the history does not reach back to gets the whole zone (RFC 1995 section 4 allows it for every request).

Invariants: what a stream sends is one copy, or leads exactly to it, also if the zone is replaced meanwhile; no message
is longer than 16 KiB, so that all its names can be compressed, nor takes a loop longer than about a millisecond.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from meridian_dns.choosing import leaves
from meridian_dns.message import AA, HEADER, PAIR, QR, RD, Query, encode_opt, write_record
from meridian_dns.names import ancestors, name_to_text
from meridian_dns.policy import PROHIBITED, Answer
from meridian_dns.records import AXFR, CLASS_IN, FORMERR, HTTPS, IXFR, REFUSED, SOA, A, RRset
from meridian_dns.svcb import service_params
from meridian_dns.tsig import Key
from meridian_dns.view import Network
from meridian_dns.zone import SteeredSet, Zone, ZoneError

MESSAGE_BYTES_MAX = 16 * 1024  # as far as a compression pointer reaches (RFC 1035 section 4.1.4)
MESSAGE_RECORDS_MAX = 200  # about 1 ms of a loop's time; more would let datagrams wait for little gain in bytes
CHANGES_MAX = 1000  # kept of one zone: at one change a minute, what a secondary can miss in a night
RECORD_BYTES = 10  # of type, class, TTL and length


@dataclass(frozen=True, slots=True)
class Copy:
    """What secondaries get of a zone at one serial. `sets`: all but the SOA, by owner and type, the apex's first."""

    origin: bytes
    soa: RRset
    sets: Mapping[tuple[bytes, int], RRset]
    size_bytes: int

    @property
    def serial(self) -> int:
        """The SOA's."""
        return int.from_bytes(self.soa.rdatas[0][-20:-16], "big")


@dataclass(frozen=True, slots=True)
class Change:
    """From one serial to a later one: what goes, then what comes. `before` and `after` are the SOAs."""

    before: RRset
    after: RRset
    removed: tuple[RRset, ...]
    added: tuple[RRset, ...]
    size_bytes: int

    @property
    def from_serial(self) -> int:
        """The serial that the change starts from."""
        return int.from_bytes(self.before.rdatas[0][-20:-16], "big")


@dataclass(frozen=True, slots=True)
class History:
    """A zone's copy, and the changes that led to it, oldest first and without a gap."""

    copy: Copy
    changes: tuple[Change, ...] = ()

    def advanced(self, copy: Copy) -> "History":
        """The history once `copy` is in force. A serial that did not rise begins a new one: nothing leads there."""
        if not is_newer(copy.serial, self.copy.serial):
            return self if copy == self.copy else History(copy)
        changes = [*self.changes, difference(self.copy, copy)]
        size = sum(change.size_bytes for change in changes)
        while changes and (size > copy.size_bytes or len(changes) > CHANGES_MAX):
            size -= changes.pop(0).size_bytes
        return History(copy, tuple(changes))

    def since(self, serial: int) -> Sequence[Change] | None:
        """The changes from `serial` to the present; None if that is not known."""
        for index, change in enumerate(self.changes):
            if change.from_serial == serial:
                return self.changes[index:]
        return None


@dataclass(frozen=True, slots=True)
class Secondary:
    """Who may have a zone: from these networks and, if a key is named, only under its signature.

    `notify` is where it is told of changes, an address and a port; None: it only asks.
    """

    networks: tuple[Network, ...]
    key: bytes | None = None
    notify: tuple[str, int] | None = None

    def is_at(self, source: str) -> bool:
        """Whether a textual address is in its networks."""
        address = ip_address(source.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Offer:
    """One zone for its secondaries."""

    history: History
    secondaries: tuple[Secondary, ...]

    def permits(self, source: str, key: bytes | None) -> bool:
        """Whether a request from `source` may be answered; `key` is the name of the key that signed it."""
        return any(one.key in (None, key) and one.is_at(source) for one in self.secondaries)


@dataclass(frozen=True, slots=True)
class Transfers:
    """All that can be transferred: zones by origin, keys by name. Replaced whole, like zones and view."""

    offers: Mapping[bytes, Offer] = field(default_factory=dict)
    keys: Mapping[bytes, Key] = field(default_factory=dict)


def is_newer(serial: int, than: int) -> bool:
    """Serial number arithmetic (RFC 1982): whether the way up from `than` to `serial` is the shorter one."""
    return 0 < (serial - than) % 2**32 < 2**31


def copy_of(zone: Zone, addresses: Mapping[str, Sequence[str]]) -> Copy:
    """The zone with its steered sets written out. `addresses` are those of each region, in the order of "all regions".

    Raises ZoneError if a steered set has no address at all this way: a secondary would deny a name that we answer.
    """
    sets: dict[tuple[bytes, int], RRset] = {}
    soa = zone.names[zone.origin][SOA]
    assert isinstance(soa, RRset)
    for owner in (zone.origin, *(owner for owner in zone.names if owner != zone.origin)):
        for type_, records in zone.names[owner].items():
            fixed = _written_out(records, zone, addresses) if isinstance(records, SteeredSet) else records
            if type_ != SOA and fixed is not None:
                sets[owner, type_] = fixed
    return Copy(zone.origin, soa, sets, _size(soa) + sum(map(_size, sets.values())))


def difference(old: Copy, new: Copy) -> Change:
    """What leads from one copy to the other, record by record."""
    removed, added = [], []
    for key, before in old.sets.items():
        after = new.sets.get(key)
        if after is None or after.ttl_seconds != before.ttl_seconds:
            removed.append(before)
        elif after.rdatas != before.rdatas:
            removed += _without(before, after)
    for key, after in new.sets.items():
        earlier = old.sets.get(key)
        if earlier is None or earlier.ttl_seconds != after.ttl_seconds:
            added.append(after)
        elif after.rdatas != earlier.rdatas:
            added += _without(after, earlier)
    size = sum(map(_size, (old.soa, new.soa, *removed, *added)))
    return Change(old.soa, new.soa, tuple(removed), tuple(added), size)


def permit(transfers: Transfers, query: Query, source: str, key: bytes | None) -> Offer | Answer:
    """The zone that a query of type AXFR or IXFR may have, or the refusal: the same for zones that are not here.

    `key` is the name of the key that signed it, and the signature is right; None: it is not signed.
    """
    question = query.question
    assert question is not None and question.type in (AXFR, IXFR)
    offer = transfers.offers.get(question.name) if question.class_ == CLASS_IN else None
    return offer if offer is not None and offer.permits(source, key) else Answer(REFUSED, extended_error=PROHIBITED)


def brief(offer: Offer | Answer) -> Answer:
    """The answer to an IXFR query over UDP: the present SOA, which sends a client that needs more to TCP (RFC 1995)."""
    return offer if isinstance(offer, Answer) else Answer(0, True, (offer.history.copy.soa,))


def records_for(offer: Offer, type_: int, serial: int | None) -> Iterator[RRset] | Answer:
    """All records of a transfer in order. `serial`: what the client of an IXFR holds."""
    history = offer.history
    copy = history.copy
    if type_ == AXFR:
        return _whole(copy)
    if serial is None:
        return Answer(FORMERR)
    if not is_newer(copy.serial, serial):
        return iter((copy.soa,))
    changes = history.since(serial)
    return _whole(copy) if changes is None else _stepwise(copy, changes)


def messages_of(query: Query, sets: Iterator[RRset], payload_bytes: int, given: bytes = b"") -> Iterator[bytes]:
    """Packs records into messages, lazily. The question and our OPT stand in the first (RFC 5936 section 2.2)."""
    records = ((one, rdata) for one in sets for rdata in one.rdatas)
    opt = b"" if query.edns is None else encode_opt(query.edns, Answer(0), payload_bytes, given)
    asked, names = query.asked, {}
    if query.question is not None:
        at = HEADER.size
        for ancestor in ancestors(query.question.name):
            names[ancestor] = at
            at += ancestor[0] + 1
    out, count = bytearray(), 0
    flags = QR | AA | query.flags & RD
    for one, rdata in records:
        size = HEADER.size + len(asked) + len(out) + len(opt)
        more = len(one.owner) + RECORD_BYTES + len(rdata)
        if count >= MESSAGE_RECORDS_MAX or (count and size + more > MESSAGE_BYTES_MAX):
            yield _joined(query.id, flags, asked, count, out, opt)
            asked, opt, out, count, names = b"", b"", bytearray(), 0, {}
        write_record(out, HEADER.size + len(asked), names, one, rdata)
        count += 1
    yield _joined(query.id, flags, asked, count, out, opt)


def is_transfer(data: bytes, *types: int) -> bool:
    """Whether a message may be a query of one of these types: a quick look, before anything is parsed."""
    end = data.find(0, HEADER.size)
    return end > 0 and len(data) >= end + 1 + PAIR.size and int.from_bytes(data[end + 1 : end + 3], "big") in types


def _joined(id_: int, flags: int, asked: bytes, count: int, body: bytearray, opt: bytes) -> bytes:
    return HEADER.pack(id_, flags, 1 if asked else 0, count, 0, 1 if opt else 0) + asked + bytes(body) + opt


def _whole(copy: Copy) -> Iterator[RRset]:
    yield copy.soa
    yield from copy.sets.values()
    yield copy.soa


def _stepwise(copy: Copy, changes: Sequence[Change]) -> Iterator[RRset]:
    """RFC 1995 section 4: the SOA now, each change between its two SOAs, the SOA now."""
    yield copy.soa
    for change in changes:
        yield change.before
        yield from change.removed
        yield change.after
        yield from change.added
    yield copy.soa


def _written_out(records: SteeredSet, zone: Zone, addresses: Mapping[str, Sequence[str]]) -> RRset | None:
    """A steered set with the addresses of all its regions; None if they have none of its family."""
    known = [address for region in leaves(records.steer, addresses) for address in addresses.get(region, ())]
    if not known:
        raise ZoneError(
            f"zone {name_to_text(zone.origin)}, record {name_to_text(records.owner)}",
            "is steered over regions whose addresses only their nodes know, so a secondary could not answer it",
            "give those regions addresses, or remove secondaries",
        )
    packed = dict.fromkeys(ip_address(address).packed for address in known)
    ipv4 = tuple(address for address in packed if len(address) == 4)
    ipv6 = tuple(address for address in packed if len(address) == 16)
    if records.type == HTTPS:
        rdatas: tuple[bytes, ...] = (b"\0\1\0" + service_params(records.alpn, ipv4, ipv6),)
    else:
        rdatas = ipv4 if records.type == A else ipv6
    return RRset(records.owner, records.type, records.ttl_seconds, rdatas) if rdatas else None


def _without(records: RRset, other: RRset) -> Iterator[RRset]:
    """The records that `other` does not have, as one set or none."""
    there = frozenset(other.rdatas)
    rest = tuple(rdata for rdata in records.rdatas if rdata not in there)
    if rest:
        yield RRset(records.owner, records.type, records.ttl_seconds, rest)


def _size(records: RRset) -> int:
    return sum(len(records.owner) + RECORD_BYTES + len(rdata) for rdata in records.rdatas)
