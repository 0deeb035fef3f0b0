"""Which addresses a client gets: steer, view, client and draw go in, a Choice comes out. PURE.

Health is the same for all policies: only regions and members that serve are offered to one; if none does, all are
answered (fail open). A region with a **share** is for that part of its clients only. Who is among them follows from the
client's network, so that a client stays where it is, and only some leave when the share falls; policies that go by
chance anyway leave it to the draw. Nobody is sent away if no firm region would be left to go to.

A **group** is a region to the policy that it stands in: it serves while one of its regions does, lies where any of them
lies, and can take what the best of them can. Which of its regions answer, its own policy says.

Invariants: a name that has addresses of a family is never answered with none; the same client and equal draws modulo
`Choice.draws` get the same answer; so does every client that shares the first `Order.scope` bits of its address.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from itertools import product
from math import gcd, lcm

from meridian_dns.nearness import Client
from meridian_dns.records import A
from meridian_dns.steering import (
    POLICIES,
    SHARE_PARTS,
    Choice,
    Offer,
    Order,
    Steer,
    any_firm,
    is_kept,
    rank,
    select_all,
    slot_of,
)
from meridian_dns.view import Distance, Distances, Member, Region, RegionView


def leaves(steer: Steer, everywhere: Iterable[str]) -> tuple[str, ...]:
    """The regions that `steer` names, itself or by groups, known or not; `everywhere` if it names none."""
    inner = dict(steer.groups)
    return tuple(
        leaf
        for name in steer.regions or everywhere
        for leaf in (leaves(inner[name], everywhere) if name in inner else (name,))
    )


def order_for(steer: Steer, view: RegionView, client: Client) -> Order:
    """The order in which `client` has the regions that `steer` names and the view knows."""
    policy = POLICIES[steer.policy]
    seen = with_groups(steer, view)
    order = policy.order(steer, seen, client)
    if steer.groups:
        found = [(name, order_for(inner, view, client)) for name, inner in steer.groups]
        scope = max(order.scope, *(within.scope for _, within in found))
        order = replace(order, scope=scope, inner=tuple((name, replace(within, scope=0)) for name, within in found))
    shared = [] if policy.by_draw else [name for name in order.names if seen.regions[name].share < 1.0]
    if not shared:
        return order
    slot, scope = slot_of(client)
    left = frozenset(name for name in shared if not is_kept(slot, name, seen.regions[name].share))
    return replace(order, scope=max(order.scope, scope), left=left)


def placing(steer: Steer, view: RegionView) -> Steer | None:
    """What of `steer` tells clients apart; None if nothing does."""
    policy = POLICIES[steer.policy]
    seen = with_groups(steer, view)
    regions = [seen.regions[name] for name in steer.regions or view.regions if name in seen.regions]
    shared = not policy.by_draw and any(region.share < 1.0 for region in regions)
    within = any(placing(inner, view) is not None for _, inner in steer.groups)
    apart = policy.by_client or shared or within
    return replace(steer, answers_max=None, weights=(), spread=1) if apart else None


def choose(steer: Steer, type_: int, view: RegionView, order: Order, draw: int) -> Choice:
    """The addresses of the family of `type_` (A or AAAA) to answer. `draw` is any integer from 0."""
    picked = _pick(steer, type_, view, order, draw)
    turn = draw // picked.draws
    turns = lcm(*(len(offer.members) for offer in picked.pool if offer.turned))
    given = [_turned(offer, turn) for offer in picked.offers]
    rdatas = dict.fromkeys(rdata for addresses in given for rdata in addresses)
    if steer.answers_max is not None and len(rdatas) > steer.answers_max:
        # One of each region that must be in it, then by the order; told in the order.
        first = dict.fromkeys(addresses[0] for addresses in given[: steer.spread])
        kept = set(list(first | rdatas)[: steer.answers_max])
        rdatas = dict.fromkeys(rdata for rdata in rdatas if rdata in kept)
    return Choice(tuple(rdatas), picked.client_matters, picked.failed_open and bool(rdatas), picked.draws * turns)


def draws_of(steer: Steer) -> int:
    """How many draws tell answers apart at most, while no region has a share and before members are turned."""
    draws = lcm(*(draws_of(inner) for _, inner in steer.groups))
    if steer.policy == "weighted":
        given = dict(steer.weights)
        weights = [given.get(name, 1) for name in steer.regions or given]
        draws *= sum(weights) // (gcd(*weights) or 1) or 1
        draws *= SHARE_PARTS if steer.spread > 1 else 1
    return draws


def has_addresses(view: RegionView, order: Order) -> bool:
    """Whether the regions have any address of any family at all."""
    return any(member.addresses for name in order.regions for member in view.regions[name].members)


@dataclass(frozen=True, slots=True)
class _Pick:
    """The regions to answer, groups opened. `draws` were spent; `pool`: all that other draws and clients could pick."""

    offers: Sequence[Offer]
    pool: Sequence[Offer]
    draws: int
    client_matters: bool
    failed_open: bool


def _pick(steer: Steer, type_: int, view: RegionView, order: Order, draw: int) -> _Pick:
    policy = POLICIES[steer.policy]
    seen = with_groups(steer, view)
    regions = [seen.regions[name] for name in order.names]
    offers = _offers(regions, type_, order.slot, serving_only=True)
    if steer.groups:
        inner = dict(steer.groups)
        offers = [
            _as_group(offer, inner[offer.name], type_, view) if offer.name in inner else offer for offer in offers
        ]
    failed_open = not offers
    shared = not policy.by_draw and any(offer.share < 1.0 for offer in offers)
    if failed_open:
        offers = _offers(regions, type_, order.slot, serving_only=False)
        selection = select_all(steer, offers, draw)
    else:
        kept = [offer for offer in offers if offer.name not in order.left]
        selection = policy.select(steer, kept if any_firm(kept) else offers, draw)
    pool = offers if shared else selection.pool  # one number of draws for all clients, whatever they leave
    by_slot = order.slot is not None and any(len(offer.members) > 1 for offer in offers)
    client_matters = (len(offers) > 1 or by_slot) and (policy.by_client or shared)
    if not steer.groups:
        return _Pick(selection.offers, pool, selection.draws, client_matters, failed_open)

    left = draw // selection.draws
    orders = dict(order.inner)
    within = {
        name: _pick(inner, type_, view, orders[name], left)
        for name, inner in steer.groups
        if any(offer.name == name for offer in offers)
    }
    return _Pick(
        [leaf for offer in selection.offers for leaf in _opened(offer, within)],
        [leaf for offer in offers for leaf in (within[offer.name].pool if offer.name in within else (offer,))],
        selection.draws * lcm(*(picked.draws for picked in within.values())),
        client_matters or any(picked.client_matters for picked in within.values()),
        failed_open,
    )


def _as_group(offer: Offer, inner: Steer, type_: int, view: RegionView) -> Offer:
    """A group's offer is as firm as the best of those in it that have addresses of the family."""
    regions = [view.regions[leaf] for leaf in leaves(inner, view.regions) if leaf in view.regions]
    return replace(offer, suspect=not any_firm(_offers(regions, type_, None, serving_only=True)))


def _opened(offer: Offer, within: dict[str, _Pick]) -> Sequence[Offer]:
    return within[offer.name].offers if offer.name in within else (offer,)


def _turned(offer: Offer, turn: int) -> tuple[bytes, ...]:
    """All addresses of an offer, from the member on whose turn it is."""
    start = turn % len(offer.members) if offer.turned else 0
    return tuple(rdata for member in offer.members[start:] + offer.members[:start] for rdata in member)


def with_groups(steer: Steer, view: RegionView) -> RegionView:
    """The view with each group of `steer` as one region."""
    if not steer.groups:
        return view
    groups = {name: _as_region(name, inner, view) for name, inner in steer.groups}
    distances = _with_groups(steer, view) if steer.policy == "latency" and view.distances else view.distances
    return replace(view, regions={**view.regions, **groups}, distances=distances)


def _with_groups(steer: Steer, view: RegionView) -> Distances:
    """The distances of regions and groups: a group is as far as the nearest of those in it."""
    within = {name: leaves(inner, view.regions) for name, inner in steer.groups}
    ends = {**{name: (name,) for name in view.regions}, **within}
    found = {name: dict(view.distances.get(name, {})) for name in ends}
    for group, other in product(within, ends):
        ways = [way for start, end in product(ends[group], ends[other]) if (way := _way(view, start, end)) is not None]
        if ways and group != other:
            found[group][other] = found[other][group] = min(ways, key=lambda way: way.milliseconds)
    return {name: row for name, row in found.items() if row}


def _way(view: RegionView, start: str, end: str) -> Distance | None:
    return Distance(0.0) if start == end else view.distances.get(start, {}).get(end)


def _as_region(name: str, inner: Steer, view: RegionView) -> Region:
    parts = [view.regions[leaf] for leaf in leaves(inner, view.regions) if leaf in view.regions]
    members = tuple(
        Member(member.name, member.addresses, member.serving and part.serving)
        for part in parts
        for member in part.members
    )
    serving = [part for part in parts if part.serving and any(member.serving for member in part.members)]
    return Region(
        name,
        members,
        bool(serving),
        suspect=bool(serving) and all(part.suspect for part in serving),
        near=tuple(entry for part in parts for entry in part.near),
        share=max((part.share for part in serving), default=1.0),
    )


def _offers(regions: Sequence[Region], type_: int, slot: int | None, *, serving_only: bool) -> list[Offer]:
    """What each region has of the family of `type_`, in the order given; regions that have nothing are left out."""
    offers = []
    for region in regions:
        if serving_only and not region.serving:
            continue
        there = [member for member in region.members if member.serving or not serving_only]
        if slot is not None:
            there.sort(key=lambda member: rank(slot, member.name))
        members = tuple(filter(None, (_packed(member.addresses, type_) for member in there)))
        if members:
            offers.append(Offer(region.name, region.suspect, members, region.share, turned=slot is None))
    return offers


@lru_cache(maxsize=4096)  # a view has at most some hundred members, and two families for each
def _packed(addresses: tuple[str, ...], type_: int) -> tuple[bytes, ...]:
    size = 4 if type_ == A else 16
    return tuple(packed for address in addresses if len(packed := ip_address(address).packed) == size)
