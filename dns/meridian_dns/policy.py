"""What is answered, to whom: the decisions of the server. PURE: zone, view, client and draw go in, an Answer comes out.

Two steps. `make_plan` asks only the zone (RFC 1034 section 4.3.2): it follows CNAMEs, finds wildcards, delegations and
missing names. `fill` asks the view and the client: it turns each steered record set of the plan into addresses. The
fast path keeps plans and calls the same `fill`.

Invariants: a name that has endpoints is never answered with an empty set (if none serves, all are answered); the
order of regions is the client's and never shuffled, chance only turns the members inside one region; the scope is 0
unless another client could have been answered otherwise.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from math import lcm

from meridian_dns.names import is_within, name_from_text, parent
from meridian_dns.nearness import Client, order_regions
from meridian_dns.records import (
    AAAA,
    ANY,
    CLASS_IN,
    CNAME,
    DS,
    NOERROR,
    NS,
    NXDOMAIN,
    SERVFAIL,
    TYPES,
    A,
    RRset,
)
from meridian_dns.view import Region, RegionView
from meridian_dns.zone import RecordSet, Steer, SteeredSet, Zone

__all__ = ["Answer", "Client", "Plan", "Question", "answer", "fill", "make_plan"]

CHAIN_LENGTH_MAX = 8  # resolvers give up at about 16 over all zones; the rest of a longer chain they ask for


@dataclass(frozen=True, slots=True)
class Question:
    """A name in canonical wire form, a type and a class number."""

    name: bytes
    type: int
    class_: int = CLASS_IN

    @classmethod
    def of(cls, name: str, type_: str) -> "Question":
        """From text, for people: `Question.of("shop.example.com", "A")`. Raises ValueError or KeyError."""
        return cls(name_from_text(name), TYPES[type_])


@dataclass(frozen=True, slots=True)
class Plan:
    """What the zone says before client and view are known: sections whose steered sets are still open."""

    rcode: int
    authoritative: bool
    answer: tuple[RecordSet, ...]
    authority: tuple[RRset, ...]
    additional: tuple[RecordSet, ...]
    negative_soa: RRset

    @property
    def steers(self) -> frozenset[tuple[str, ...]]:
        """The sets of regions that the plan steers over."""
        return frozenset(
            records.steer.regions for records in self.answer + self.additional if isinstance(records, SteeredSet)
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole decision. `scope` in bits (RFC 7871); draws that are equal modulo `draws` give the same answer."""

    rcode: int
    authoritative: bool = False
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    scope: int = 0
    draws: int = 1


def answer(zone: Zone, view: RegionView, question: Question, client: Client, draw: int) -> Answer:
    """Answers a question of class IN whose name is in `zone`. `draw` is any integer from 0."""
    return fill(make_plan(zone, question), view, client, draw)


def make_plan(zone: Zone, question: Question) -> Plan:
    """Looks the question up in the zone: RFC 1034 section 4.3.2, negative answers by RFC 2308, ANY by RFC 8482."""
    name, wanted = question.name, question.type
    chain: list[RecordSet] = []
    soa = zone.negative_soa
    while len(chain) < CHAIN_LENGTH_MAX:
        cut = zone.cut_above(name)
        if cut is not None and not (name == cut and wanted == DS):  # DS alone belongs to the parent's side (RFC 4035)
            delegation = zone.names[cut][NS]
            assert isinstance(delegation, RRset)
            return Plan(NOERROR, bool(chain), tuple(chain), (delegation,), _glue(zone, delegation), soa)
        here = zone.names.get(name)
        if here is None:
            here = zone.names.get(b"\1*" + _closest_encloser(zone, name))
            if here is None:
                return Plan(NXDOMAIN, True, tuple(chain), (soa,), (), soa)
        alias = here.get(CNAME)
        if isinstance(alias, RRset) and wanted != CNAME:
            chain.append(replace(alias, owner=name))
            name = alias.rdatas[0]
            is_loop = any(records.owner == name for records in chain)
            if wanted == ANY or is_loop or not is_within(name, zone.origin):
                break
            continue
        found = next(iter(here.values()), None) if wanted == ANY else here.get(wanted)
        if found is None:
            return Plan(NOERROR, True, tuple(chain), (soa,), (), soa)
        chain.append(found if found.owner == name else replace(found, owner=name))
        additional = _glue(zone, found) if isinstance(found, RRset) and found.type == NS else ()
        return Plan(NOERROR, True, tuple(chain), (), additional, soa)
    return Plan(NOERROR, True, tuple(chain), (), (), soa)


def fill(plan: Plan, view: RegionView, client: Client, draw: int) -> Answer:
    """Turns the plan's steered sets into addresses for `client`.

    A steered set without any address of the family asked is NODATA. With no endpoint at all the view knows nothing
    of it (yet), and SERVFAIL sends the resolver to another nameserver instead of caching a hole.
    """
    if not plan.steers:
        return Answer(plan.rcode, plan.authoritative, _plain(plan.answer), plan.authority, _plain(plan.additional))
    scope, draws = 0, 1
    sections: list[list[RRset]] = []
    open_sets = 0
    for section in (plan.answer, plan.additional):
        filled: list[RRset] = []
        for records in section:
            if isinstance(records, RRset):
                filled.append(records)
                continue
            order, order_scope = order_regions(view, records.steer.regions, client)
            choice = _choose(records.steer, records.type, [view.regions[name] for name in order], draw)
            draws = lcm(draws, choice.draws)
            if choice.regions > 1:
                scope = max(scope, order_scope)
            if choice.rdatas:
                filled.append(RRset(records.owner, records.type, records.ttl_seconds, choice.rdatas))
            elif section is plan.answer:
                open_sets += 1
                if not any(member.addresses for name in order for member in view.regions[name].members):
                    return Answer(SERVFAIL)
        sections.append(filled)
    authority = (plan.negative_soa,) if open_sets else plan.authority
    return Answer(
        plan.rcode, plan.authoritative, tuple(sections[0]), authority, tuple(sections[1]), scope=scope, draws=draws
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    rdatas: tuple[bytes, ...]
    regions: int
    """how many regions had addresses to give: with one, the client's place made no difference"""
    draws: int


def _choose(steer: Steer, type_: int, regions: list[Region], draw: int) -> _Choice:
    """The addresses of one family, in the client's order of regions: those that serve; if none does, all."""
    regions = [region for region in regions if not region.suspect] + [region for region in regions if region.suspect]
    groups = _by_region(regions, type_, serving_only=True) or _by_region(regions, type_, serving_only=False)
    rdatas: dict[bytes, None] = {}
    for members in groups:
        turn = draw % len(members)
        for addresses in members[turn:] + members[:turn]:
            rdatas.update(dict.fromkeys(addresses))
    draws = lcm(*(len(members) for members in groups)) if groups else 1
    return _Choice(tuple(rdatas)[: steer.answers_max], len(groups), draws)


def _by_region(regions: list[Region], type_: int, *, serving_only: bool) -> list[list[tuple[bytes, ...]]]:
    """For each region that has any: for each member that has any, its addresses of the family of `type_`."""
    groups = []
    for region in regions:
        if serving_only and not region.serving:
            continue
        members = [
            addresses
            for member in region.members
            if (member.serving or not serving_only) and (addresses := _packed(member.addresses, type_))
        ]
        if members:
            groups.append(members)
    return groups


@lru_cache(maxsize=4096)  # a view has at most some hundred members, and two families for each
def _packed(addresses: tuple[str, ...], type_: int) -> tuple[bytes, ...]:
    size = 4 if type_ == A else 16
    return tuple(packed for address in addresses if len(packed := ip_address(address).packed) == size)


def _closest_encloser(zone: Zone, name: bytes) -> bytes:
    """The longest existing ancestor of a missing name (RFC 4592 section 3.3.1); the apex always exists."""
    name = parent(name)
    while name not in zone.names:
        name = parent(name)
    return name


def _glue(zone: Zone, nameservers: RRset) -> tuple[RecordSet, ...]:
    """Addresses that the zone itself holds for these nameservers."""
    return tuple(
        zone.names[server][type_]
        for server in nameservers.rdatas
        if server in zone.names
        for type_ in (A, AAAA)
        if type_ in zone.names[server]
    )


def _plain(section: tuple[RecordSet, ...]) -> tuple[RRset, ...]:
    return tuple(records for records in section if isinstance(records, RRset))
