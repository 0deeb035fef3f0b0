"""The ways to steer: which addresses a client gets. PURE: steer, view, client and draw go in, a Choice comes out.

Each policy is one line of `POLICIES`: how it orders the regions for a client, and which of those that serve it answers.
Health stands before the policy and is the same for all: only regions and members that serve are offered to it; if none
does, all are answered (fail open), whatever the policy. A suspect region is never the only answer while another could
be given: it is put last, and a policy that answers one region adds the one it would have picked without the suspect.

Invariants: a name that has addresses of a family is never answered with none; the same client and equal draws modulo
`Choice.draws` get the same answer; so does every client that shares the first `Order.scope` bits of its address.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from math import gcd, lcm

from meridian_dns.nearness import Client, order_regions
from meridian_dns.records import A
from meridian_dns.view import Region, RegionView

WEIGHT_MAX = 1000  # a tenth of a percent can be said; each step of a draw is one encoded answer in the fast path
SLOTS = 1024  # kinds of clients that `sticky` tells apart: enough to spread evenly, few enough to keep an answer each
SLOT_PREFIX = {4: 24, 6: 56}  # a client's network, as it is given to one site; resolvers pass on no more (RFC 7871)


@dataclass(frozen=True, slots=True)
class Steer:
    """How addresses are chosen: `regions` in order (none: all regions of the view), at most `answers_max` of them.

    `weights` by region, 1 where it is not named; `latency_milliseconds` from a client's region to each region.
    """

    policy: str
    regions: tuple[str, ...]
    answers_max: int | None = None
    weights: tuple[tuple[str, int], ...] = ()
    latency_milliseconds: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """The regions as one client has them. `slot`: the kind of client, where the policy also orders members by it."""

    names: tuple[str, ...]
    scope: int = 0
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a region has to give: for each member its addresses of one family, none empty."""

    name: str
    suspect: bool
    members: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The offers to answer, in order. `draws` were spent to select them; `pool`: all that other draws could select."""

    offers: Sequence[Offer]
    pool: Sequence[Offer]
    draws: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """Addresses of one family. `client_matters`: with other clients, the same view would have given another choice."""

    rdatas: tuple[bytes, ...]
    client_matters: bool = False
    failed_open: bool = False
    draws: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to steer. `by_client`: its order depends on who asks."""

    order: Callable[[Steer, RegionView, Client], Order]
    select: Callable[[Steer, Sequence[Offer], int], Selection]
    by_client: bool


def order_for(steer: Steer, view: RegionView, client: Client) -> Order:
    """The order in which `client` has the regions that `steer` names and the view knows."""
    return POLICIES[steer.policy].order(steer, view, client)


def placing(steer: Steer) -> Steer | None:
    """What of `steer` tells clients apart; None if nothing does."""
    return replace(steer, answers_max=None, weights=()) if POLICIES[steer.policy].by_client else None


def choose(steer: Steer, type_: int, view: RegionView, order: Order, draw: int) -> Choice:
    """The addresses of the family of `type_` (A or AAAA) to answer. `draw` is any integer from 0."""
    regions = [view.regions[name] for name in order.names]
    offers = _offers(regions, type_, order.slot, serving_only=True)
    failed_open = not offers
    if failed_open:
        offers = _offers(regions, type_, order.slot, serving_only=False)
        selection = _all(steer, offers, draw)
    else:
        selection = POLICIES[steer.policy].select(steer, offers, draw)
    rdatas: dict[bytes, None] = {}
    turn = draw // selection.draws if order.slot is None else 0
    for offer in selection.offers:
        start = turn % len(offer.members)
        for addresses in offer.members[start:] + offer.members[:start]:
            rdatas.update(dict.fromkeys(addresses))
    turns = lcm(*(len(offer.members) for offer in selection.pool)) if order.slot is None else 1
    client_matters = len(offers) > 1 or (order.slot is not None and any(len(offer.members) > 1 for offer in offers))
    return Choice(
        tuple(rdatas)[: steer.answers_max],
        client_matters and POLICIES[steer.policy].by_client,
        failed_open and bool(rdatas),
        selection.draws * turns,
    )


def has_addresses(view: RegionView, order: Order) -> bool:
    """Whether the regions have any address of any family at all."""
    return any(member.addresses for name in order.names for member in view.regions[name].members)


def _as_given(steer: Steer, view: RegionView, client: Client) -> Order:
    return Order(tuple(name for name in steer.regions or view.regions if name in view.regions))


def _by_place(steer: Steer, view: RegionView, client: Client) -> Order:
    """Nearest first, by networks and geo data."""
    return Order(*order_regions(view, steer.regions, client))


def _by_latency(steer: Steer, view: RegionView, client: Client) -> Order:
    """Quickest first from the region that the client is nearest to; what was not measured comes last, as given."""
    rows = dict(steer.latency_milliseconds)
    known = tuple(name for name in rows if name in view.regions)
    nearest, scope = order_regions(view, known, client) if known else ((), 0)
    row = dict(rows[nearest[0]]) if nearest else {}
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=lambda name: row.get(name, float("inf")))), scope)


def _by_slot(steer: Steer, view: RegionView, client: Client) -> Order:
    """The client's own order by rendezvous hashing: when a region leaves, only its clients move."""
    address = client.subnet[0] if client.subnet is not None else ip_address(client.address)
    scope = SLOT_PREFIX[address.version]
    network = address.packed[: scope // 8]
    slot = int.from_bytes(blake2b(network, digest_size=8).digest(), "big") % SLOTS
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=lambda name: _rank(slot, name))), scope, slot)


@lru_cache(maxsize=65_536)  # slots by regions and members: 64 of them; more are hashed again
def _rank(slot: int, name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8, salt=slot.to_bytes(2, "big")).digest()


def _firm_first(offers: Sequence[Offer]) -> list[Offer]:
    return sorted(offers, key=lambda offer: offer.suspect)


def _all(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """All regions, in the client's order."""
    ordered = _firm_first(offers)
    return Selection(ordered, ordered)


def _first(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """One region: the first."""
    chosen = offers[0]
    firm = next((offer for offer in offers if not offer.suspect), None)
    selected = [chosen] if firm is None or chosen is firm else [firm, chosen]
    return Selection(selected, selected)


def _drawn(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """One region by weight. Weight 0 means never, unless no region with a weight serves: then all are equal."""
    weights = dict(steer.weights)
    weighted = [offer for offer in offers if weights.get(offer.name, 1)]
    candidates = _firm_first(weighted or offers)  # the suspects' shares side by side
    chosen, draws = _draw_one(candidates, weights if weighted else {}, draw)
    firm = [offer for offer in candidates if not offer.suspect]
    if not firm or len(firm) == len(candidates):
        return Selection([chosen], candidates, draws)
    # Both draws come from one number, and still each is fair: what the totals share divides the suspects' weight.
    other, other_draws = _draw_one(firm, weights if weighted else {}, draw)
    return Selection([other, chosen] if chosen.suspect else [chosen], candidates, lcm(draws, other_draws))


def _draw_one(offers: Sequence[Offer], weights: dict[str, int], draw: int) -> tuple[Offer, int]:
    shares = [weights.get(offer.name, 1) for offer in offers]
    unit = gcd(*shares)
    total = sum(shares) // unit
    left = draw % total * unit
    for offer, share in zip(offers, shares, strict=True):
        if left < share:
            return offer, total
        left -= share
    raise AssertionError("a draw is below the total")


def _pooled(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """All members of all regions as if they stood in one, so that chance turns all of them."""
    pools = []
    for suspect in (False, True):
        members = tuple(member for offer in offers if offer.suspect is suspect for member in offer.members)
        if members:
            pools.append(Offer("", suspect, members))
    return Selection(pools, pools)


POLICIES = {
    #                     order for the client, regions answered, depends on the client
    "geo": Policy(_by_place, _all, True),
    "latency": Policy(_by_latency, _all, True),
    "failover": Policy(_as_given, _first, False),
    "weighted": Policy(_as_given, _drawn, False),
    "multivalue": Policy(_as_given, _pooled, False),
    "sticky": Policy(_by_slot, _first, True),
}
"""All policies by the operator's word."""


def _offers(regions: Sequence[Region], type_: int, slot: int | None, *, serving_only: bool) -> list[Offer]:
    """What each region has of the family of `type_`, in the order given; regions that have nothing are left out."""
    offers = []
    for region in regions:
        if serving_only and not region.serving:
            continue
        there = [member for member in region.members if member.serving or not serving_only]
        if slot is not None:
            there.sort(key=lambda member: _rank(slot, member.name))
        members = tuple(filter(None, (_packed(member.addresses, type_) for member in there)))
        if members:
            offers.append(Offer(region.name, region.suspect, members))
    return offers


@lru_cache(maxsize=4096)  # a view has at most some hundred members, and two families for each
def _packed(addresses: tuple[str, ...], type_: int) -> tuple[bytes, ...]:
    size = 4 if type_ == A else 16
    return tuple(packed for address in addresses if len(packed := ip_address(address).packed) == size)
