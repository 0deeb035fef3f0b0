"""Zones: built once (zone_building), then read by one dictionary lookup per question.

Invariants: every name between the apex and an owner is in `names` (an empty non-terminal, RFC 8020), so a missing name
is missing with all that is below it. Nothing of a zone changes once it stands.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import MappingProxyType

from meridian_dns.names import ROOT, ancestors, name_to_text, order_key, parent
from meridian_dns.records import DS, RRset
from meridian_dns.signing import APEX_TYPES, Signer
from meridian_dns.steering import Steer
from meridian_dns.view import Network


@dataclass(frozen=True, slots=True)
class SteeredSet:
    """A record set whose addresses are chosen for each client: A or AAAA, or HTTPS with both as hints."""

    owner: bytes
    type: int
    ttl_seconds: int
    steer: Steer
    alpn: tuple[str, ...] = ()


RecordSet = RRset | SteeredSet


class ZoneError(ValueError):
    """A zone cannot be built: where, what is wrong, and what to do about it."""

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}; {remedy}")
        self.place, self.problem, self.remedy = place, problem, remedy


@dataclass(frozen=True, slots=True)
class Zone:
    """`names` holds every existing name with its record sets by type; `cuts` are the delegated names below the apex.

    `negative_soa` is the SOA with the TTL of negative answers (RFC 2308 section 5). `signer` None: it is not signed.
    A signed zone has the `order` of its names, empty ones between included, those below delegations not (RFC 4034).
    `view`: the clients whom it is for, see ClientView; empty for all others.
    """

    origin: bytes
    names: Mapping[bytes, Mapping[int, RecordSet]]
    negative_soa: RRset
    cuts: frozenset[bytes]
    signer: Signer | None = None
    order: tuple[bytes, ...] = ()
    view: str = ""

    def cut_above(self, name: bytes) -> bytes | None:
        """The delegation that `name` is at or below, if any: the one nearest to the apex."""
        if not self.cuts:
            return None
        return next((cut for cut in reversed(list(ancestors(name))) if cut in self.cuts), None)


@dataclass(frozen=True, slots=True)
class ClientView:
    """Clients who see zones of their own (split horizon): those whose address lies in one of these networks."""

    name: str
    networks: tuple[Network, ...]


class ZoneSet:
    """The zones of one server. Immutable; raises ZoneError if two of one view have one origin.

    What is found is what clients of no view see; `seen_by` gives what the others see. All are iterated over.
    """

    __slots__ = ("_all", "_by_view", "_zones", "views")

    def __init__(self, zones: Iterable[Zone] = (), views: Iterable[ClientView] = ()) -> None:
        self._all = tuple(zones)
        self.views = tuple(views)
        self._by_view: dict[str, dict[bytes, Zone]] = {"": {}}
        for zone in self._all:
            here = self._by_view.setdefault(zone.view, {})
            if zone.origin in here:
                raise ZoneError(name_to_text(zone.origin), "this zone is given twice", "join the two")
            here[zone.origin] = zone
        self._zones = self._by_view[""]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Zone]:
        return iter(self._all)

    def of_view(self, name: str) -> "ZoneSet":
        """What clients of a view see: its zones, and in place of those that it has not those for all."""
        return ZoneSet(replace(zone, view="") for zone in {**self._zones, **self._by_view.get(name, {})}.values())

    def view_of(self, address: str) -> str:
        """The view of a client (a textual address), by the longest network; empty if it is in none."""
        client = ip_address(address.partition("%")[0])
        client = getattr(client, "ipv4_mapped", None) or client
        networks = ((network, view.name) for view in self.views for network in view.networks)
        found = ((network.prefixlen, name) for network, name in networks if client in network)
        return max(found, default=(0, ""))[1]

    def seen_by(self, address: str) -> "ZoneSet":
        """What a client sees."""
        name = self.view_of(address) if self.views else ""
        return self.of_view(name) if name else self

    def find(self, qname: bytes) -> Zone | None:
        """The zone with the longest origin that `qname` (canonical wire form, see `names`) is in."""
        zones = self._zones
        for ancestor in ancestors(qname):
            zone = zones.get(ancestor)
            if zone is not None:
                return zone
        return None

    def find_for(self, qname: bytes, type_: int) -> Zone | None:
        """The zone that answers: `find`'s, but for DS the parent's side of a delegation (RFC 4035 section 3.1.4.1)."""
        zone = self.find(qname)
        if type_ == DS and zone is not None and zone.origin == qname != ROOT:
            above = self.find(parent(qname))
            if above is not None and above.cut_above(qname) == qname:
                return above
        return zone


def with_signer(zone: Zone, signer: Signer | None) -> Zone:
    """The zone with its keys published and signed by them, or (None) without keys. Shares all but the apex."""
    apex = {type_: records for type_, records in zone.names[zone.origin].items() if type_ not in APEX_TYPES}
    if signer is not None:
        assert signer.origin == zone.origin
        apex.update((records.type, records) for records in signer.apex_sets())
        zone = in_order(zone)
    names = MappingProxyType({**zone.names, zone.origin: MappingProxyType(dict(sorted(apex.items())))})
    return replace(zone, names=names, signer=signer)


def in_order(zone: Zone) -> Zone:
    """The zone ready to be signed: its names are sorted, which takes 0.3 s for 100,000."""
    return zone if zone.order else replace(zone, order=tuple(sorted(_own_names(zone), key=order_key)))


def _own_names(zone: Zone) -> Iterator[bytes]:
    """All names but those below delegations."""
    for name in zone.names:
        if name == zone.origin or zone.cut_above(parent(name)) is None:
            yield name
