"""How a zone is built: from the operator's records, a zone file, or both, and checked whole.

Invariants: a zone that could be built obeys the data rules of RFC 1034, 2181 and 4592 (one CNAME and nothing beside
it, one TTL for each record set, nothing but glue below a delegation), its apex has SOA and NS, and every nameserver
inside the zone has addresses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from meridian_dns.choosing import draws_of
from meridian_dns.names import ancestors, is_absolute, is_within, name_below, name_from_text, name_to_text, parent
from meridian_dns.presentation import rdata_from_text
from meridian_dns.records import (
    AAAA,
    ALIAS,
    CNAME,
    DS,
    HTTPS,
    NS,
    SOA,
    TTL_SECONDS_MAX,
    TYPES,
    A,
    RRset,
    soa_parts,
    soa_rdata,
)
from meridian_dns.signing import Signer
from meridian_dns.steering import POLICIES, WEIGHT_MAX, Steer
from meridian_dns.zone import RecordSet, SteeredSet, Zone, ZoneError, with_signer

NS_TTL_SECONDS = 3600  # names of servers change rarely
GLUE_TTL_SECONDS = 60  # their addresses are steered, and must move when a region dies
DRAWS_MAX = 20_000  # of one steered set, before its members are turned: each is one encoded answer in the fast path
RECORDS_MAX = 1000  # in one record set; 2,300 of the shortest fill a whole message over TCP


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """One record as the operator wrote it: `name` and names in `value` are relative unless they end in a dot.

    `alpn`: what a steered HTTPS record says of the service, best first.
    """

    name: str
    type: str
    ttl_seconds: int
    value: str | None
    steer: Steer | None
    alpn: tuple[str, ...] = ()


def build_zone(
    origin: str,
    nameservers: Sequence[str],
    records: Sequence[RecordSpec],
    *,
    contact: str | None = None,
    serial: int,
    negative_ttl_seconds: int = 60,
    signer: Signer | None = None,
    file: Iterable[tuple[RRset, str]] = (),
    view: str = "",
) -> Zone:
    """Checks and builds one zone. SOA and the apex's NS are made from the arguments; raises ZoneError.

    With a `signer` for this origin the zone is signed: it publishes the keys at the apex.
    `origin` and `nameservers` are absolute names; `contact` is a mail address (default: hostmaster at the origin). A
    nameserver inside the zone that has no addresses of its own gets those of all regions, so that glue always exists.
    `file`: the records of a zone file, each with its place, which come before `records`. Its SOA, but for the serial,
    and its nameservers hold where `contact` and `nameservers` say nothing else. `view`: see zone.Zone.
    """
    draft = _Draft(origin)
    apex, below = _apart(file, draft)
    written = apex.get(NS)
    names = list(nameservers) or ([name_to_text(server) for server in written.rdatas] if written is not None else [])
    draft.add_apex(names, contact, serial, negative_ttl_seconds)
    if written is not None:
        draft.sets[draft.origin][NS] = replace(draft.apex(NS), ttl_seconds=written.ttl_seconds)
    if SOA in apex:
        draft.sets[draft.origin][SOA] = _joined_soa(draft.apex(SOA), apex[SOA], bool(nameservers), contact is not None)
    for found, place in below:
        draft.put(found, place)
    for record in records:
        draft.add(record)
    return replace(draft.finish(signer), view=view)


def _apart(file: Iterable[tuple[RRset, str]], draft: "_Draft") -> tuple[dict[int, RRset], list[tuple[RRset, str]]]:
    """A file's SOA and apex NS, and all else. Raises ZoneError."""
    apex: dict[int, RRset] = {}
    below = []
    for records, place in file:
        if records.owner != draft.origin or records.type not in (SOA, NS):
            below.append((records, place))
        elif records.type == SOA and SOA in apex:
            raise ZoneError(place, "a zone has one SOA, at its apex", "remove this one")
        else:
            apex[records.type] = _grown(apex.get(records.type), records, place)
    return apex, below


def _joined_soa(made: RRset, written: RRset, ours_is_primary: bool, ours_is_contact: bool) -> RRset:
    """The written SOA with the serial of the made one, and whatever else of it was said in the document."""
    primary, contact, numbers = soa_parts(made.rdatas[0])
    written_primary, written_contact, written_numbers = soa_parts(written.rdatas[0])
    primary = primary if ours_is_primary else written_primary
    contact = contact if ours_is_contact else written_contact
    return replace(written, rdatas=(primary + contact + numbers[:4] + written_numbers[4:],))


def soa_contact(soa: RRset) -> str:
    """The mail address that a SOA names, as `build_zone` takes it."""
    _, mailbox, _ = soa_parts(soa.rdatas[0])
    at = mailbox[0] + 1
    return f"{mailbox[1:at].decode('ascii', 'backslashreplace')}@{name_to_text(mailbox[at:]).rstrip('.')}"


Forgive = Callable[["ZoneError"], None]
"""Told of an error that one record alone is to blame for; that record is then left out."""


def assemble_zone(
    origin: bytes, sets: Iterable[tuple[RRset, str]], signer: Signer | None = None, forgive: Forgive | None = None
) -> Zone:
    """Checks and builds a zone that brings its own SOA and NS; each set with its place. Raises ZoneError."""
    draft = _Draft(name_to_text(origin))
    for records, place in sets:
        try:
            draft.put(records, f"{draft.title}, {place}")
        except ZoneError as error:
            if forgive is None:
                raise
            forgive(error)
    for type_, word in ((SOA, "SOA"), (NS, "NS")):
        if type_ not in draft.sets.get(origin, {}):
            raise ZoneError(draft.title, f"no {word} at the apex", "add it")
    return draft.finish(signer)


class _Draft:
    """A zone being built: record sets that still grow, and the checks that need to see all of them."""

    def __init__(self, origin: str) -> None:
        self.origin = _absolute(origin, f"zone {origin}")
        self.origin_text = name_to_text(self.origin)
        self.title = f"zone {self.origin_text}"
        self.sets: dict[bytes, dict[int, RecordSet]] = {}
        self.aliases: dict[bytes, RRset] = {}

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

    def apex(self, type_: int) -> RRset:
        """SOA or NS of the apex, once `add_apex` has made them."""
        found = self.sets[self.origin][type_]
        assert isinstance(found, RRset)
        return found

    def add(self, record: RecordSpec) -> None:
        place = f"{self.title}, record {record.name} {record.type}"
        type_ = TYPES.get(record.type)
        if type_ is None:
            raise ZoneError(place, f"unknown type {record.type!r}", f"use one of {', '.join(sorted(TYPES))}")
        owner = self._relative(record.name, place)
        if type_ == SOA or (type_ == NS and owner == self.origin):
            raise ZoneError(place, "SOA and the apex's NS are made by the server", "use nameservers and contact")
        if (record.value is None) == (record.steer is None):
            raise ZoneError(place, "needs either a value or steer", "give exactly one of the two")
        if record.steer is None:
            rdata = self._rdata(type_, str(record.value), place)
            self.put(RRset(owner, type_, record.ttl_seconds, (rdata,)), place)
            return
        _check_ttl(record.ttl_seconds, place)
        _check_steer(record.steer, type_, record.alpn, place)
        here = self.sets.setdefault(owner, {})
        if type_ in here:
            raise ZoneError(place, "stands beside another record of its name and type", "keep one of them")
        self._check_lonely(owner, {*here, type_}, place, aliased=owner in self.aliases)
        here[type_] = SteeredSet(owner, type_, record.ttl_seconds, record.steer, record.alpn)

    def put(self, records: RRset, place: str) -> None:
        """Adds records with their data in wire form."""
        owner, type_ = records.owner, records.type
        if not is_within(owner, self.origin):
            raise ZoneError(place, f"{name_to_text(owner)} is outside the zone", "move it into its own zone")
        if type_ == NS and owner.startswith(b"\1*"):
            raise ZoneError(place, "a wildcard cannot be delegated (RFC 4592)", "delegate each name")
        if type_ == SOA and (owner != self.origin or SOA in self.sets.get(owner, {})):
            raise ZoneError(place, "a zone has one SOA, at its apex", "remove this one")
        _check_ttl(records.ttl_seconds, place)
        here = self.sets.get(owner, {})
        types = {*here, type_} if type_ != ALIAS else {*here}
        self._check_lonely(owner, types, place, aliased=type_ == ALIAS or owner in self.aliases)
        if type_ == ALIAS:
            if owner in self.aliases:
                raise ZoneError(place, "a name can have only one ALIAS", "remove one")
            self.aliases[owner] = records
            self.sets.setdefault(owner, {})
        else:
            grown = _grown(here.get(type_), records, place)
            self.sets.setdefault(owner, {})[type_] = grown

    def _check_lonely(self, owner: bytes, types: set[int], place: str, *, aliased: bool) -> None:
        if CNAME in types and (len(types) > 1 or aliased):
            raise ZoneError(place, "a CNAME cannot stand beside other records (RFC 1034)", "remove one of the two")

    def _add_glue(self) -> None:
        everywhere = Steer("geo", ())
        apex = self.sets[self.origin][NS]
        assert isinstance(apex, RRset)
        for server in apex.rdatas:
            if not is_within(server, self.origin):
                continue
            here = self.sets.setdefault(server, {})
            if CNAME in here:
                place = f"{self.title}, nameserver {name_to_text(server)}"
                raise ZoneError(place, "is a CNAME (RFC 2181)", "give it addresses")
            if A not in here and AAAA not in here:
                for type_ in (A, AAAA):
                    here[type_] = SteeredSet(server, type_, GLUE_TTL_SECONDS, everywhere)

    def _flatten(self, cuts: frozenset[bytes]) -> None:
        """Gives each ALIAS the addresses of its target, steered or not."""
        for owner, alias in self.aliases.items():
            place = f"{self.title}, record {name_to_text(owner)} ALIAS"
            if A in self.sets[owner] or AAAA in self.sets[owner]:
                raise ZoneError(place, "an ALIAS stands beside addresses of its name", "keep one of the two")
            for type_, records in self._addresses(alias.rdatas[0], cuts, place).items():
                ttl_seconds = min(alias.ttl_seconds, records.ttl_seconds)
                self.sets[owner][type_] = replace(records, owner=owner, ttl_seconds=ttl_seconds)

    def _addresses(self, target: bytes, cuts: frozenset[bytes], place: str) -> dict[int, RecordSet]:
        """The addresses that `target` has in this zone, through aliases and CNAMEs."""
        passed: set[bytes] = set()
        while target not in passed:
            passed.add(target)
            sets = self.sets.get(target, {})
            onward = self.aliases.get(target) or sets.get(CNAME)
            if isinstance(onward, RRset):
                target = onward.rdatas[0]
                continue
            found = {type_: sets[type_] for type_ in (A, AAAA) if type_ in sets}
            if not found or any(ancestor in cuts for ancestor in ancestors(target)):
                problem = f"its target {name_to_text(target)} has no addresses in this zone"
                raise ZoneError(place, problem, "name one that has, or use CNAME below the apex")
            return found
        raise ZoneError(place, "it leads back to itself", "name a target that has addresses")

    def finish(self, signer: Signer | None) -> Zone:
        cuts = frozenset(owner for owner, sets in self.sets.items() if NS in sets and owner != self.origin)
        self._add_glue()
        self._flatten(cuts)
        self._check_cuts(cuts)
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
        negative_ttl_seconds = int.from_bytes(soa.rdatas[0][-4:], "big")
        negative_soa = replace(soa, ttl_seconds=min(soa.ttl_seconds, negative_ttl_seconds))
        return with_signer(Zone(self.origin, MappingProxyType(names), negative_soa, cuts), signer)

    def _check_cuts(self, cuts: frozenset[bytes]) -> None:
        """At a delegation stand its nameservers, its DS and glue; below it glue alone."""
        for owner, sets in self.sets.items():
            if DS in sets and owner not in cuts:
                place = f"{self.title}, name {name_to_text(owner)}"
                raise ZoneError(place, "has DS, but is not delegated", "add its NS records, or remove the DS")
            if not cuts:
                continue
            below = any(ancestor in cuts for ancestor in ancestors(owner))
            allowed = {A, AAAA, NS, DS} if owner in cuts else {A, AAAA}
            if below and not set(sets) <= allowed:
                raise ZoneError(
                    f"{self.title}, name {name_to_text(owner)}",
                    "lies at or below a delegation and can only hold glue addresses",
                    "move the record into the delegated zone, or remove the delegation",
                )

    def _relative(self, text: str, place: str) -> bytes:
        """A name as a zone file means it: `@` is the origin, a last dot makes it absolute, else the origin follows."""
        origin = self.origin_text
        if text == "@":
            return self.origin
        if not is_absolute(text) and origin != "." and f".{text.lower()}.".endswith(f".{origin}"):
            raise ZoneError(place, f"{text!r} repeats the zone's name", "end it with a dot, or leave the zone away")
        try:
            name = name_below(text, self.origin)
        except ValueError as error:
            raise ZoneError(place, str(error), "correct the name") from None
        if not is_within(name, self.origin):
            raise ZoneError(place, f"{text!r} is outside the zone", f"use a name below {origin}")
        return name

    def _rdata(self, type_: int, value: str, place: str) -> bytes:
        def resolve(text: str) -> bytes:
            return name_from_text(text) if is_absolute(text) else self._relative(text, place)

        try:
            return rdata_from_text(type_, value, resolve)
        except ZoneError:
            raise
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


def _check_steer(steer: Steer, type_: int, alpn: tuple[str, ...], place: str) -> None:
    if type_ not in (A, AAAA, HTTPS):
        raise ZoneError(place, "only addresses can be steered", "use type A, AAAA or HTTPS, or give a value")
    if bool(alpn) != (type_ == HTTPS):
        raise ZoneError(place, "alpn belongs to a steered HTTPS record, and to no other", "write it as [h3, h2]")
    if any(not 0 < len(name.encode()) < 256 for name in alpn):
        raise ZoneError(place, "a protocol in alpn is empty or longer than 255 bytes", "write it as [h3, h2]")
    _check_policy(steer, place)
    draws = draws_of(steer)
    if draws > DRAWS_MAX:
        raise ZoneError(place, f"its weights make {draws} different draws", f"use coarser ones: {DRAWS_MAX} at most")


def _check_policy(steer: Steer, place: str) -> None:
    """One steer, then its groups."""
    if steer.policy not in POLICIES:
        raise ZoneError(place, f"unknown policy {steer.policy!r}", f"use one of {', '.join(POLICIES)}")
    if steer.answers_max is not None and steer.answers_max < 1:
        raise ZoneError(place, f"answers_max is {steer.answers_max}", "use 1 or more, or leave it away")
    if len(set(steer.regions)) < len(steer.regions):
        raise ZoneError(place, "a region is named twice", "name each once")
    if steer.weights and steer.policy != "weighted":
        raise ZoneError(place, f"weights mean nothing to policy {steer.policy}", "use policy weighted")
    if any(not 0 <= weight <= WEIGHT_MAX for _, weight in steer.weights):
        raise ZoneError(place, "a weight is out of range", f"use 0 to {WEIGHT_MAX}")
    if steer.latency_milliseconds and steer.policy != "latency":
        raise ZoneError(place, f"latency_milliseconds mean nothing to policy {steer.policy}", "use policy latency")
    rows = [tuple(name for name, _ in row) for _, row in steer.latency_milliseconds]
    for names in (tuple(name for name, _ in steer.weights), *rows):
        for name in names:
            if steer.regions and name not in steer.regions:
                raise ZoneError(place, f"region {name!r} is not steered over", "add it to regions, or leave it away")
    if steer.spread < 1:
        raise ZoneError(place, f"spread is {steer.spread}", "use 1 or more")
    if steer.groups and steer.policy == "multivalue":
        raise ZoneError(place, "groups mean nothing to policy multivalue", "name their regions")
    for name, inner in steer.groups:
        if name not in steer.regions or not inner.regions:
            raise ZoneError(place, f"group {name!r} is empty or not steered over", "add it to regions, or remove it")
        _check_policy(inner, f"{place}, group {name}")


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
    if len(before.rdatas) >= RECORDS_MAX:
        raise ZoneError(place, f"more than {RECORDS_MAX} records of one name and type", "remove some")
    return RRset(new.owner, new.type, new.ttl_seconds, before.rdatas + new.rdatas)
