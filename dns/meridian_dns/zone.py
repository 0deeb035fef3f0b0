"""Zones: built once from the operator's records, checked whole, then read by one dictionary lookup per question.

Invariants: a zone that could be built obeys the data rules of RFC 1034, 2181 and 4592 (one CNAME and nothing beside
it, one TTL for each record set, nothing but glue below a delegation), its apex has SOA and NS, and every nameserver
inside the zone has addresses. Every name between the apex and an owner is in `names` (an empty non-terminal, RFC
8020), so a missing name is missing with all that is below it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from meridian_dns.names import ancestors, is_within, name_from_text, name_to_text, parent
from meridian_dns.records import AAAA, CNAME, NS, SOA, TTL_SECONDS_MAX, TYPES, A, RRset, rdata_from_text, soa_rdata

POLICIES = ("geo",)
NS_TTL_SECONDS = 3600  # names of servers change rarely
GLUE_TTL_SECONDS = 60  # their addresses are steered, and must move when a region dies


@dataclass(frozen=True, slots=True)
class Steer:
    """How addresses are chosen: `regions` in order (none: all regions of the view), at most `answers_max` of them."""

    policy: str
    regions: tuple[str, ...]
    answers_max: int | None = None


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """One record as the operator wrote it: `name` and a name in `value` are relative unless they end in a dot."""

    name: str
    type: str
    ttl_seconds: int
    value: str | None
    steer: Steer | None


@dataclass(frozen=True, slots=True)
class SteeredSet:
    """A record set whose addresses are chosen for each client."""

    owner: bytes
    type: int
    ttl_seconds: int
    steer: Steer


RecordSet = RRset | SteeredSet


class ZoneError(ValueError):
    """A zone cannot be built: where, what is wrong, and what to do about it."""

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}; {remedy}")
        self.place, self.problem, self.remedy = place, problem, remedy


@dataclass(frozen=True, slots=True)
class Zone:
    """`names` holds every existing name with its record sets by type; `cuts` are the delegated names below the apex.

    `negative_soa` is the SOA with the TTL of negative answers (RFC 2308 section 5).
    """

    origin: bytes
    names: Mapping[bytes, Mapping[int, RecordSet]]
    negative_soa: RRset
    cuts: frozenset[bytes]

    def cut_above(self, name: bytes) -> bytes | None:
        """The delegation that `name` is at or below, if any: the one nearest to the apex."""
        if not self.cuts:
            return None
        return next((cut for cut in reversed(list(ancestors(name))) if cut in self.cuts), None)


class ZoneSet:
    """The zones of one server. Immutable; raises ZoneError if two have one origin."""

    __slots__ = ("_zones",)

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self._zones: dict[bytes, Zone] = {}
        for zone in zones:
            if zone.origin in self._zones:
                raise ZoneError(name_to_text(zone.origin), "this zone is given twice", "join the two")
            self._zones[zone.origin] = zone

    def __len__(self) -> int:
        return len(self._zones)

    def __iter__(self) -> Iterator[Zone]:
        return iter(self._zones.values())

    def find(self, qname: bytes) -> Zone | None:
        """The zone with the longest origin that `qname` (canonical wire form, see `names`) is in."""
        zones = self._zones
        for ancestor in ancestors(qname):
            zone = zones.get(ancestor)
            if zone is not None:
                return zone
        return None


def build_zone(
    origin: str,
    nameservers: Sequence[str],
    records: Sequence[RecordSpec],
    *,
    contact: str | None = None,
    serial: int,
    negative_ttl_seconds: int = 60,
) -> Zone:
    """Checks and builds one zone. SOA and the apex's NS are made from the arguments; raises ZoneError.

    `origin` and `nameservers` are absolute names; `contact` is a mail address (default: hostmaster at the origin). A
    nameserver inside the zone that has no addresses of its own gets those of all regions, so that glue always exists.
    """
    draft = _Draft(origin)
    draft.add_apex(nameservers, contact, serial, negative_ttl_seconds)
    for record in records:
        draft.add(record)
    draft.add_glue(nameservers)
    return draft.finish(negative_ttl_seconds)


class _Draft:
    """A zone being built: record sets that still grow, and the checks that need to see all of them."""

    def __init__(self, origin: str) -> None:
        self.origin = _absolute(origin, f"zone {origin}")
        self.title = f"zone {name_to_text(self.origin)}"
        self.sets: dict[bytes, dict[int, RecordSet]] = {}

    def add_apex(self, nameservers: Sequence[str], contact: str | None, serial: int, negative_ttl_seconds: int) -> None:
        place = self.title
        if not nameservers:
            raise ZoneError(place, "no nameservers", "name at least one, better two")
        if not 0 <= serial < 2**32:
            raise ZoneError(place, f"serial {serial} is outside 0 to 2^32-1", "count from 1 again (RFC 1982)")
        _check_ttl(negative_ttl_seconds, place)
        servers = [_absolute(server, f"{place}, nameserver {server}") for server in nameservers]
        if len(set(servers)) < len(servers):
            raise ZoneError(place, "a nameserver is named twice", "remove one")
        local, at, domain = (contact or f"hostmaster@{name_to_text(self.origin)}").partition("@")
        if not at or not local:
            raise ZoneError(place, f"contact {contact!r} is no mail address", "write it as hostmaster@example.com")
        mailbox = _absolute((local.replace(".", "\\.") + "." + domain).rstrip("."), f"{place}, contact {contact}")
        soa = soa_rdata(servers[0], mailbox, serial, negative_ttl_seconds)
        self.sets[self.origin] = {
            SOA: RRset(self.origin, SOA, NS_TTL_SECONDS, (soa,)),
            NS: RRset(self.origin, NS, NS_TTL_SECONDS, tuple(servers)),
        }

    def add(self, record: RecordSpec) -> None:
        place = f"{self.title}, record {record.name} {record.type}"
        type_ = TYPES.get(record.type)
        if type_ is None:
            raise ZoneError(place, f"unknown type {record.type!r}", f"use one of {', '.join(sorted(TYPES))}")
        owner = self._relative(record.name, place)
        if type_ == SOA or (type_ == NS and owner == self.origin):
            raise ZoneError(place, "SOA and the apex's NS are made by the server", "use nameservers and contact")
        if type_ == NS and owner.startswith(b"\1*"):
            raise ZoneError(place, "a wildcard cannot be delegated (RFC 4592)", "delegate each name")
        _check_ttl(record.ttl_seconds, place)
        if (record.value is None) == (record.steer is None):
            raise ZoneError(place, "needs either a value or steer", "give exactly one of the two")
        here = self.sets.setdefault(owner, {})
        before = here.get(type_)
        if record.steer is not None:
            _check_steer(record.steer, type_, place)
            if before is not None:
                raise ZoneError(place, "stands beside another record of its name and type", "keep one of them")
            here[type_] = SteeredSet(owner, type_, record.ttl_seconds, record.steer)
        else:
            rdata = self._rdata(type_, str(record.value), place)
            here[type_] = _grown(before, RRset(owner, type_, record.ttl_seconds, (rdata,)), place)
        if CNAME in here and len(here) > 1:
            raise ZoneError(place, "a CNAME cannot stand beside other records (RFC 1034)", "remove one of the two")

    def add_glue(self, nameservers: Sequence[str]) -> None:
        everywhere = Steer("geo", ())
        for text in nameservers:
            server = name_from_text(text)
            if not is_within(server, self.origin):
                continue
            here = self.sets.setdefault(server, {})
            if CNAME in here:
                raise ZoneError(f"{self.title}, nameserver {text}", "is a CNAME (RFC 2181)", "give it addresses")
            if A not in here and AAAA not in here:
                for type_ in (A, AAAA):
                    here[type_] = SteeredSet(server, type_, GLUE_TTL_SECONDS, everywhere)

    def finish(self, negative_ttl_seconds: int) -> Zone:
        cuts = frozenset(owner for owner, sets in self.sets.items() if NS in sets and owner != self.origin)
        for owner, sets in self.sets.items():
            below = any(ancestor in cuts for ancestor in ancestors(owner))
            allowed = {A, AAAA, NS} if owner in cuts else {A, AAAA}
            if below and not set(sets) <= allowed:
                raise ZoneError(
                    f"{self.title}, name {name_to_text(owner)}",
                    "lies at or below a delegation and can only hold glue addresses",
                    "move the record into the delegated zone, or remove the delegation",
                )
        names: dict[bytes, Mapping[int, RecordSet]] = {}
        for owner, sets in self.sets.items():
            names[owner] = MappingProxyType(dict(sorted(sets.items())))
            while owner != self.origin:
                owner = parent(owner)
                if owner in self.sets:
                    break
                names.setdefault(owner, MappingProxyType({}))
        soa = self.sets[self.origin][SOA]
        assert isinstance(soa, RRset)
        negative_soa = RRset(soa.owner, SOA, min(soa.ttl_seconds, negative_ttl_seconds), soa.rdatas)
        return Zone(self.origin, MappingProxyType(names), negative_soa, cuts)

    def _relative(self, text: str, place: str) -> bytes:
        """A name as a zone file means it: `@` is the origin, a last dot makes it absolute, else the origin follows."""
        origin = name_to_text(self.origin)
        if text == "@":
            return self.origin
        if not text.endswith("."):
            if origin != "." and f".{text.lower()}.".endswith(f".{origin}"):
                raise ZoneError(place, f"{text!r} repeats the zone's name", "end it with a dot, or leave the zone away")
            text = f"{text}.{origin}" if origin != "." else f"{text}."
        name = _absolute(text, place)
        if not is_within(name, self.origin):
            raise ZoneError(place, f"{text!r} is outside the zone", f"use a name below {origin}")
        return name

    def _rdata(self, type_: int, value: str, place: str) -> bytes:
        if type_ in (NS, CNAME) and not value.endswith("."):
            return self._relative(value, place)
        try:
            return rdata_from_text(type_, value)
        except ValueError as error:
            raise ZoneError(place, f"value {value!r}: {error}", "correct the value") from None


def _absolute(text: str, place: str) -> bytes:
    try:
        return name_from_text(text)
    except ValueError as error:
        raise ZoneError(place, str(error), "correct the name") from None


def _check_ttl(ttl_seconds: int, place: str) -> None:
    if not 0 <= ttl_seconds <= TTL_SECONDS_MAX:
        raise ZoneError(place, f"a TTL of {ttl_seconds} s", f"use 0 to {TTL_SECONDS_MAX} (RFC 2181)")


def _check_steer(steer: Steer, type_: int, place: str) -> None:
    if type_ not in (A, AAAA):
        raise ZoneError(place, "only addresses can be steered", "use type A or AAAA, or give a value")
    if steer.policy not in POLICIES:
        raise ZoneError(place, f"unknown policy {steer.policy!r}", f"use one of {', '.join(POLICIES)}")
    if steer.answers_max is not None and steer.answers_max < 1:
        raise ZoneError(place, f"answers_max is {steer.answers_max}", "use 1 or more, or leave it away")
    if len(set(steer.regions)) < len(steer.regions):
        raise ZoneError(place, "a region is named twice", "name each once")


def _grown(before: RecordSet | None, new: RRset, place: str) -> RRset:
    """`before` with the record of `new` added; raises ZoneError where the two cannot be one record set."""
    if before is None:
        return new
    if isinstance(before, SteeredSet):
        raise ZoneError(place, "stands beside a steered record of its name and type", "keep one of them")
    if before.ttl_seconds != new.ttl_seconds:
        raise ZoneError(place, "records of one name and type have different TTLs (RFC 2181)", "give them one TTL")
    if new.rdatas[0] in before.rdatas:
        raise ZoneError(place, "the same record is given twice", "remove one")
    if new.type == CNAME:
        raise ZoneError(place, "a name can have only one CNAME (RFC 2181)", "remove one")
    return RRset(new.owner, new.type, new.ttl_seconds, before.rdatas + new.rdatas)
