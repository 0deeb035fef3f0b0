"""What is answered, to whom: the decisions of the server. PURE: zone, view, client and draw go in, an Answer comes out.

Two steps. `make_plan` asks only the zone (RFC 1034 section 4.3.2): it follows CNAMEs, finds wildcards, delegations and
missing names. `fill` asks the view and the client: it turns each steered record set of the plan into addresses. The
fast path keeps plans and calls the same `fill`.

How regions and members are chosen stands in `choosing`, the policies in one table, `steering.POLICIES`.

Invariants: a name that has endpoints is never answered with an empty set (if none serves, all are answered); the
scope is 0 unless another client could have been answered otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import lcm
from typing import Literal

from meridian_dns.choosing import choose, has_addresses, order_for
from meridian_dns.names import ROOT, is_within, name_from_text, parent
from meridian_dns.nearness import Client
from meridian_dns.records import (
    AAAA,
    ANY,
    CLASS_IN,
    CNAME,
    DS,
    HTTPS,
    NOERROR,
    NS,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    TYPES,
    A,
    RRset,
)
from meridian_dns.steering import Choice, Order
from meridian_dns.svcb import service_params
from meridian_dns.view import RegionView
from meridian_dns.zone import RecordSet, SteeredSet, Zone

__all__ = ["Answer", "Client", "Plan", "Question", "Visit", "answer", "fill", "fill_one", "make_plan"]

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
    negative_soa: RRset | None
    extended_error: "ExtendedError | None" = None

    @property
    def steered(self) -> Iterator[SteeredSet]:
        """The record sets that are still open."""
        return (records for records in self.answer + self.additional if isinstance(records, SteeredSet))


@dataclass(frozen=True, slots=True)
class Visit:
    """One step of a lookup, for people: what was found at `name`. `other` is the CNAME's target, the cut, the wildcard,
    or for what is missing its nearest ancestor that exists.
    """

    name: bytes
    found: Literal["cut", "wildcard", "alias", "loop", "leaves", "long", "records", "no type", "nothing"]
    other: bytes = ROOT


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """Why an answer is as it is, for people (RFC 8914)."""

    code: int
    text: str = ""

    def __str__(self) -> str:
        name = _EXTENDED_ERRORS.get(self.code, "Other")
        return f"{self.code} ({name})" + (f": {self.text}" if self.text else "")


_EXTENDED_ERRORS = {
    14: "Not Ready",
    18: "Prohibited",
    20: "Not Authoritative",
    21: "Not Supported",
    30: "Invalid Query Type",
}
"""The names that RFC 8914 and IANA give to those that we send."""

FAILED_OPEN = ExtendedError(0, "no region is known to serve: all are answered")
NOT_READY = ExtendedError(14)
PROHIBITED = ExtendedError(18)
NOT_AUTHORITATIVE = ExtendedError(20)
NOT_SUPPORTED = ExtendedError(21)
INVALID_TYPE = ExtendedError(30)


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole decision. `scope` in bits (RFC 7871); draws that are equal modulo `draws` give the same answer.

    `fresh_until`: when its signatures give way to the next ones, in seconds since 1970. `compact_ok`: say that we took
    note that the client knows compact denial (RFC 9824 section 5).
    """

    rcode: int
    authoritative: bool = False
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    scope: int = 0
    draws: int = 1
    extended_error: ExtendedError | None = None
    fresh_until: float = float("inf")
    compact_ok: bool = False


def refusal(error: ExtendedError) -> Plan:
    """What is said to a question that we do not answer."""
    return Plan(REFUSED, False, (), (), (), None, error)


def answer(zone: Zone, view: RegionView, question: Question, client: Client, draw: int) -> Answer:
    """Answers a question of class IN whose name is in `zone`. `draw` is any integer from 0."""
    return fill(make_plan(zone, question), view, client, draw)


def make_plan(zone: Zone, question: Question, walk: Callable[[Visit], None] = lambda visit: None) -> Plan:
    """Looks the question up in the zone: RFC 1034 section 4.3.2, negative answers by RFC 2308, ANY by RFC 8482.

    `walk` is told each step.
    """
    name, wanted = question.name, question.type
    chain: list[RecordSet] = []
    soa = zone.negative_soa
    while len(chain) < CHAIN_LENGTH_MAX:
        cut = zone.cut_above(name)
        if cut is not None and not (name == cut and wanted == DS):  # DS alone belongs to the parent's side (RFC 4035)
            delegation = zone.names[cut][NS]
            assert isinstance(delegation, RRset)
            walk(Visit(name, "cut", cut))
            return Plan(NOERROR, bool(chain), tuple(chain), (delegation,), _glue(zone, delegation), soa)
        here = zone.names.get(name)
        if here is None:
            encloser = closest_encloser(zone, name)
            here = zone.names.get(b"\1*" + encloser)
            if here is None:
                walk(Visit(name, "nothing", encloser))
                return Plan(NXDOMAIN, True, tuple(chain), (soa,), (), soa)
            walk(Visit(name, "wildcard", b"\1*" + encloser))
        alias = here.get(CNAME)
        if isinstance(alias, RRset) and wanted != CNAME:
            chain.append(replace(alias, owner=name))
            walk(Visit(name, "alias", alias.rdatas[0]))
            name = alias.rdatas[0]
            is_loop = any(records.owner == name for records in chain)
            if is_loop or not is_within(name, zone.origin):
                walk(Visit(name, "loop" if is_loop else "leaves"))
            if wanted == ANY or is_loop or not is_within(name, zone.origin):
                break
            continue
        found = next(iter(here.values()), None) if wanted == ANY else here.get(wanted)
        walk(Visit(name, "records" if found is not None else "no type"))
        if found is None:
            return Plan(NOERROR, True, tuple(chain), (soa,), (), soa)
        chain.append(found if found.owner == name else replace(found, owner=name))
        additional = _glue(zone, found) if isinstance(found, RRset) and found.type == NS else ()
        return Plan(NOERROR, True, tuple(chain), (), additional, soa)
    else:
        walk(Visit(name, "long"))
    return Plan(NOERROR, True, tuple(chain), (), (), soa)


def fill(plan: Plan, view: RegionView, client: Client, draw: int) -> Answer:
    """Turns the plan's steered sets into addresses for `client`.

    A steered set without any address of the family asked is NODATA. With no endpoint at all the view knows nothing
    of it (yet), and SERVFAIL sends the resolver to another nameserver instead of caching a hole.
    """
    if not any(plan.steered):
        sections = (_plain(plan.answer), plan.authority, _plain(plan.additional))
        return Answer(plan.rcode, plan.authoritative, *sections, extended_error=plan.extended_error)
    scope, draws, error = 0, 1, plan.extended_error
    filled: tuple[list[RRset], list[RRset]] = ([], [])
    open_sets = 0
    for section, out in zip((plan.answer, plan.additional), filled, strict=True):
        for records in section:
            if isinstance(records, RRset):
                out.append(records)
                continue
            order = order_for(records.steer, view, client)
            rdatas, choices = fill_one(records, view, order, draw)
            draws = lcm(draws, *(choice.draws for choice in choices))
            if any(choice.client_matters for choice in choices):
                scope = max(scope, order.scope)
            if rdatas:
                out.append(RRset(records.owner, records.type, _ttl_seconds(records, view, order), rdatas))
            elif out is filled[0]:
                open_sets += 1
                if not has_addresses(view, order):
                    return Answer(SERVFAIL, extended_error=NOT_READY)
            if out is filled[0] and any(choice.failed_open for choice in choices):
                error = FAILED_OPEN
    authority = (plan.negative_soa,) if open_sets and plan.negative_soa is not None else plan.authority
    return Answer(plan.rcode, plan.authoritative, tuple(filled[0]), authority, tuple(filled[1]), scope, draws, error)


def _ttl_seconds(records: SteeredSet, view: RegionView, order: Order) -> int:
    """Short while a region that has a part in the answer is in doubt: what is answered now may be wrong in a moment."""
    in_doubt = any(view.regions[name].in_doubt for name in order.regions)
    return min(records.ttl_seconds, view.doubt_ttl_seconds) if in_doubt else records.ttl_seconds


def fill_one(records: SteeredSet, view: RegionView, order: Order, draw: int) -> tuple[tuple[bytes, ...], list[Choice]]:
    """The data of one steered set: addresses, or one HTTPS record that gives both families as hints (RFC 9460). And the
    choices it is made of, one for each family.
    """
    if records.type != HTTPS:
        choice = choose(records.steer, records.type, view, order, draw)
        return choice.rdatas, [choice]
    choices = [choose(records.steer, type_, view, order, draw) for type_ in (A, AAAA)]
    # A family in which nothing serves fails open by itself; as a hint beside one that serves it would do harm.
    served = [choice if choice.rdatas and not choice.failed_open else Choice(()) for choice in choices]
    choices = served if any(choice.rdatas for choice in served) else choices
    ipv4, ipv6 = (choice.rdatas for choice in choices)
    if not ipv4 and not ipv6:
        return (), choices
    return (b"\0\1" + ROOT + service_params(records.alpn, ipv4, ipv6),), choices


def closest_encloser(zone: Zone, name: bytes) -> bytes:
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
