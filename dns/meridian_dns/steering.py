"""The ways to steer: which addresses a client gets. PURE: steer, view, client and draw go in, a Choice comes out.

Each policy is one line of `POLICIES`: how it orders the regions for a client, and which of those that serve it answers.
Health stands before the policy and is the same for all: only regions and members that serve are offered to it; if none
does, all are answered (fail open), whatever the policy. A suspect region is never the only answer while another could
be given: it is put last, and a policy that answers one region adds the one it would have picked without the suspect.

A region with a **share** is for that part of its clients only. Who is among them follows from the client's network, so
that a client stays where it is, and only some leave when the share falls; policies that go by chance anyway leave it
to the draw. Nobody is sent away if no firm region would be left to go to.

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
SHARE_PARTS = 20  # shares are told apart in twentieths where the draw decides
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
    """The regions as one client has them. `slot`: the kind of client, where the policy also orders members by it.
    `left`: regions that keep only some of their clients, and not this one.
    """

    names: tuple[str, ...]
    scope: int = 0
    slot: int | None = None
    left: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a region has to give: for each member its addresses of one family, none empty."""

    name: str
    suspect: bool
    members: tuple[tuple[bytes, ...], ...]
    share: float = 1.0


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
    """One way to steer. `by_client`: its order depends on who asks. `by_draw`: it selects by chance, and so that each
    region gets its share.
    """

    order: Callable[[Steer, RegionView, Client], Order]
    select: Callable[[Steer, Sequence[Offer], int], Selection]
    by_client: bool
    by_draw: bool


def leaves(steer: Steer, view: RegionView) -> tuple[str, ...]:
    """The regions that `steer` names, known or not; all of the view if it names none."""
    return steer.regions or tuple(view.regions)


def order_for(steer: Steer, view: RegionView, client: Client) -> Order:
    """The order in which `client` has the regions that `steer` names and the view knows."""
    policy = POLICIES[steer.policy]
    order = policy.order(steer, view, client)
    shared = [] if policy.by_draw else [name for name in order.names if view.regions[name].share < 1.0]
    if not shared:
        return order
    slot, scope = _slot(client)
    left = frozenset(name for name in shared if not _is_kept(slot, name, view.regions[name].share))
    return replace(order, scope=max(order.scope, scope), left=left)


def placing(steer: Steer, view: RegionView) -> Steer | None:
    """What of `steer` tells clients apart; None if nothing does."""
    policy = POLICIES[steer.policy]
    regions = [view.regions[name] for name in steer.regions or view.regions if name in view.regions]
    shared = not policy.by_draw and any(region.share < 1.0 for region in regions)
    return replace(steer, answers_max=None, weights=()) if policy.by_client or shared else None


def choose(steer: Steer, type_: int, view: RegionView, order: Order, draw: int) -> Choice:
    """The addresses of the family of `type_` (A or AAAA) to answer. `draw` is any integer from 0."""
    policy = POLICIES[steer.policy]
    regions = [view.regions[name] for name in order.names]
    offers = _offers(regions, type_, order.slot, serving_only=True)
    failed_open = not offers
    shared = not policy.by_draw and any(offer.share < 1.0 for offer in offers)
    if failed_open:
        offers = _offers(regions, type_, order.slot, serving_only=False)
        selection = _all(steer, offers, draw)
    else:
        kept = [offer for offer in offers if offer.name not in order.left]
        selection = policy.select(steer, kept if _firm(kept) else offers, draw)
    rdatas: dict[bytes, None] = {}
    turn = draw // selection.draws if order.slot is None else 0
    for offer in selection.offers:
        start = turn % len(offer.members)
        for addresses in offer.members[start:] + offer.members[:start]:
            rdatas.update(dict.fromkeys(addresses))
    pool = offers if shared else selection.pool  # one number of draws for all clients, whatever they leave
    turns = lcm(*(len(offer.members) for offer in pool)) if order.slot is None else 1
    client_matters = len(offers) > 1 or (order.slot is not None and any(len(offer.members) > 1 for offer in offers))
    return Choice(
        tuple(rdatas)[: steer.answers_max],
        client_matters and (policy.by_client or shared),
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
    _, row, scope = latency_row(steer, view, client)
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=lambda name: row.get(name, float("inf")))), scope)


def latency_row(steer: Steer, view: RegionView, client: Client) -> tuple[str | None, dict[str, float], int]:
    """The region that the client is nearest to, how far all are from there in milliseconds, and the scope in bits."""
    rows = dict(steer.latency_milliseconds)
    known = tuple(name for name in rows if name in view.regions)
    nearest, scope = order_regions(view, known, client) if known else ((), 0)
    return (nearest[0], dict(rows[nearest[0]]), scope) if nearest else (None, {}, scope)


def _by_slot(steer: Steer, view: RegionView, client: Client) -> Order:
    """The client's own order by rendezvous hashing: when a region leaves, only its clients move."""
    slot, scope = _slot(client)
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=lambda name: _rank(slot, name))), scope, slot)


def _slot(client: Client) -> tuple[int, int]:
    """The kind of client, and how many bits of its address say so."""
    address = client.subnet[0] if client.subnet is not None else ip_address(client.address)
    scope = SLOT_PREFIX[address.version]
    network = address.packed[: scope // 8]
    return int.from_bytes(blake2b(network, digest_size=8).digest(), "big") % SLOTS, scope


def _is_kept(slot: int, region: str, share: float) -> bool:
    """Whether clients of this kind are in the region's share. Those of a smaller share are in every greater one."""
    # A rank of its own: those whom `sticky` ranks low in a region must not be the first to leave it.
    return int.from_bytes(_rank(slot, f"share of {region}"), "big") < share * 2**64


@lru_cache(maxsize=65_536)  # slots by regions and members: 64 of them; more are hashed again
def _rank(slot: int, name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8, salt=slot.to_bytes(2, "big")).digest()


def _firm(offers: Sequence[Offer]) -> bool:
    return any(not offer.suspect for offer in offers)


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
    given = dict(steer.weights)
    weighted = [offer for offer in offers if given.get(offer.name, 1)]
    candidates = _firm_first(weighted or offers)  # the suspects' shares side by side
    weights = {
        offer.name: max(1, round((given.get(offer.name, 1) if weighted else 1) * SHARE_PARTS * offer.share))
        for offer in candidates
    }
    chosen, draws = _draw_one(candidates, weights, draw)
    firm = [offer for offer in candidates if not offer.suspect]
    if not firm or len(firm) == len(candidates):
        return Selection([chosen], candidates, draws)
    # Both draws come from one number, and still each is fair: what the totals share divides the suspects' weight.
    other, other_draws = _draw_one(firm, weights, draw)
    return Selection([other, chosen] if chosen.suspect else [chosen], candidates, lcm(draws, other_draws))


def _draw_one(offers: Sequence[Offer], weights: dict[str, int], draw: int) -> tuple[Offer, int]:
    shares = [weights[offer.name] for offer in offers]
    unit = gcd(*shares)
    total = sum(shares) // unit
    left = draw % total * unit
    for offer, share in zip(offers, shares, strict=True):
        if left < share:
            return offer, total
        left -= share
    raise AssertionError("a draw is below the total")


def _pooled(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """All members of all regions as if they stood in one, so that chance turns all of them. A region with a share is in
    so many of the draws.
    """
    steps = SHARE_PARTS if any(offer.share < 1.0 for offer in offers) else 1
    turns = ([offer for offer in offers if steps == 1 or _has_turn(offer, step)] for step in range(steps))
    pools = [_pools(kept if _firm(kept) else offers) for kept in turns]
    return Selection(pools[draw % steps], [pool for some in pools for pool in some], steps)


def _pools(offers: Sequence[Offer]) -> list[Offer]:
    """One pool of those who are firm, one of the suspects; none that is empty."""
    pools = []
    for suspect in (False, True):
        members = tuple(member for offer in offers if offer.suspect is suspect for member in offer.members)
        if members:
            pools.append(Offer("", suspect, members))
    return pools


def _has_turn(offer: Offer, step: int) -> bool:
    """Whether a region is answered at this of SHARE_PARTS steps. Each begins elsewhere: not all pause at once."""
    begin = _rank(0, offer.name)[0]
    return (begin + step) % SHARE_PARTS < max(1, round(offer.share * SHARE_PARTS))


POLICIES = {
    #                     order for the client, regions answered, depends on the client, goes by chance
    "geo": Policy(_by_place, _all, True, False),
    "latency": Policy(_by_latency, _all, True, False),
    "failover": Policy(_as_given, _first, False, False),
    "weighted": Policy(_as_given, _drawn, False, True),
    "multivalue": Policy(_as_given, _pooled, False, True),
    "sticky": Policy(_by_slot, _first, True, False),
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
            offers.append(Offer(region.name, region.suspect, members, region.share))
    return offers


@lru_cache(maxsize=4096)  # a view has at most some hundred members, and two families for each
def _packed(addresses: tuple[str, ...], type_: int) -> tuple[bytes, ...]:
    size = 4 if type_ == A else 16
    return tuple(packed for address in addresses if len(packed := ip_address(address).packed) == size)
