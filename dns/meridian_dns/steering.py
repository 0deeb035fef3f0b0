"""The ways to steer, each one line of `POLICIES`: how it orders the regions for a client, and which of those that serve
it answers. PURE.

Health, shares and groups stand before the policies and are the same for all of them: see `choosing`. What a policy sees
as a region may be a group. A suspect region is never the only answer while another could be given: it is put last, and
a policy that answers one region adds the one it would have picked without the suspect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from math import gcd, lcm

from meridian_dns.nearness import Client, order_regions
from meridian_dns.view import Distance, RegionView

WEIGHT_MAX = 1000  # a tenth of a percent can be said; each step of a draw is one encoded answer in the fast path
SLOTS = 1024  # kinds of clients that `sticky` tells apart: enough to spread evenly, few enough to keep an answer each
SHARE_PARTS = 20  # shares are told apart in twentieths where the draw decides
SLOT_PREFIX = {4: 24, 6: 56}  # a client's network, as it is given to one site; resolvers pass on no more (RFC 7871)


@dataclass(frozen=True, slots=True)
class Steer:
    """How addresses are chosen: `regions` in order (none: all regions of the view), at most `answers_max` of them.

    `weights` by region, 1 where it is not named; `latency_milliseconds` from a client's region to each region, where
    that is not to be as the view's distances say.
    `groups`: names among `regions` that are none, but stand for the regions that they steer over by a policy of their
    own. `spread`: the answer has addresses of so many regions (or groups), if so many serve.
    """

    policy: str
    regions: tuple[str, ...]
    answers_max: int | None = None
    weights: tuple[tuple[str, int], ...] = ()
    latency_milliseconds: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    groups: tuple[tuple[str, "Steer"], ...] = ()
    spread: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """The regions as one client has them. `slot`: the kind of client, where the policy also orders members by it.
    `left`: regions that keep only some of their clients, and not this one. `inner`: the order within each group.
    """

    names: tuple[str, ...]
    scope: int = 0
    slot: int | None = None
    left: frozenset[str] = frozenset()
    inner: tuple[tuple[str, "Order"], ...] = ()

    @property
    def regions(self) -> tuple[str, ...]:
        """The names with each group's regions in its place."""
        inner = dict(self.inner)
        return tuple(leaf for name in self.names for leaf in (inner[name].regions if name in inner else (name,)))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a region has to give: for each member its addresses of one family, none empty. `turned`: chance decides who
    of them comes first.
    """

    name: str
    suspect: bool
    members: tuple[tuple[bytes, ...], ...]
    share: float = 1.0
    turned: bool = True


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


def _as_given(steer: Steer, view: RegionView, client: Client) -> Order:
    return Order(tuple(name for name in steer.regions or view.regions if name in view.regions))


def _by_place(steer: Steer, view: RegionView, client: Client) -> Order:
    """Nearest first, by networks and geo data."""
    return Order(*order_regions(view, steer.regions, client))


def _by_latency(steer: Steer, view: RegionView, client: Client) -> Order:
    """Quickest first from the region that the client is nearest to; whose way is not known comes last, as given."""
    row = latency_row(steer, view, client)
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=row.milliseconds_to)), row.scope)


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """How far regions are from `start`, where a client is taken to be (None: nobody knows), in milliseconds. What is
    `given` goes before what was `measured`. `scope`: how many bits of the client's address say where it is.
    """

    start: str | None
    given: Mapping[str, float]
    measured: Mapping[str, Distance]
    scope: int

    def milliseconds_to(self, region: str) -> float:
        """Infinity if it is not known."""
        if region in self.given:
            return self.given[region]
        if region in self.measured:
            return self.measured[region].milliseconds
        return 0.0 if region == self.start else float("inf")


def latency_row(steer: Steer, view: RegionView, client: Client) -> LatencyRow:
    """The row of the region that is nearest to the client, of all from which any way is known."""
    rows = dict(steer.latency_milliseconds)
    names = dict.fromkeys((*rows, *steer.regions, *view.regions))
    known = tuple(name for name in names if name in view.regions and (name in rows or name in view.distances))
    nearest, scope = order_regions(view, known, client) if known else ((), 0)
    start = nearest[0] if nearest else None
    return LatencyRow(start, dict(rows.get(start or "", ())), view.distances.get(start or "", {}), scope)


def _by_slot(steer: Steer, view: RegionView, client: Client) -> Order:
    """The client's own order by rendezvous hashing: when a region leaves, only its clients move."""
    slot, scope = slot_of(client)
    names = _as_given(steer, view, client).names
    return Order(tuple(sorted(names, key=lambda name: rank(slot, name))), scope, slot)


def slot_of(client: Client) -> tuple[int, int]:
    """The kind of client, and how many bits of its address say so."""
    address = client.subnet[0] if client.subnet is not None else ip_address(client.address)
    scope = SLOT_PREFIX[address.version]
    network = address.packed[: scope // 8]
    return int.from_bytes(blake2b(network, digest_size=8).digest(), "big") % SLOTS, scope


def is_kept(slot: int, region: str, share: float) -> bool:
    """Whether clients of this kind are in the region's share. Those of a smaller share are in every greater one."""
    # A rank of its own: those whom `sticky` ranks low in a region must not be the first to leave it.
    return int.from_bytes(rank(slot, f"share of {region}"), "big") < share * 2**64


@lru_cache(maxsize=65_536)  # slots by regions and members: 64 of them; more are hashed again
def rank(slot: int, name: str) -> bytes:
    """By what clients of a kind order names: the same everywhere, and for each kind another."""
    return blake2b(name.encode(), digest_size=8, salt=slot.to_bytes(2, "big")).digest()


def any_firm(offers: Sequence[Offer]) -> bool:
    """Whether one of them is not in doubt."""
    return any(not offer.suspect for offer in offers)


def _firm_first(offers: Sequence[Offer]) -> list[Offer]:
    return sorted(offers, key=lambda offer: offer.suspect)


def select_all(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """All regions, in the client's order."""
    ordered = _firm_first(offers)
    return Selection(ordered, ordered)


def _first(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """One region: the first. Or the first ones."""
    chosen = offers[0]
    firm = next((offer for offer in offers if not offer.suspect), None)
    selected = [chosen] if firm is None or chosen is firm else [firm, chosen]
    others = [offer for offer in _firm_first(offers) if offer not in selected]
    selected += others[: max(0, steer.spread - len(selected))]
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
    selected = [chosen]
    firm = [offer for offer in candidates if not offer.suspect]
    if firm and len(firm) < len(candidates):
        # Both draws come from one number, and still each is fair: what the totals share divides the suspects' weight.
        other, other_draws = _draw_one(firm, weights, draw)
        selected = [other, chosen] if chosen.suspect else [chosen]
        draws = lcm(draws, other_draws)
    if steer.spread == 1:
        return Selection(selected, candidates, draws)
    others = [offer for offer in candidates if offer not in selected]
    second, second_draws = _seconds(others, steer.spread - len(selected), draw // draws)
    return Selection([*selected, *second], candidates, draws * second_draws)


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


def _seconds(others: Sequence[Offer], count: int, draw: int) -> tuple[Sequence[Offer], int]:
    """Whom a client goes to when the one that was drawn for it has died. They are turned, so that not all of its
    clients come to one other; the number of draws is one for any number of others.
    """
    turned = range(draw % SHARE_PARTS, draw % SHARE_PARTS + len(others))
    return _firm_first([others[at % len(others)] for at in turned])[: max(0, count)], SHARE_PARTS


def _pooled(steer: Steer, offers: Sequence[Offer], draw: int) -> Selection:
    """All members of all regions as if they stood in one, so that chance turns all of them. A region with a share is in
    so many of the draws.
    """
    steps = SHARE_PARTS if any(offer.share < 1.0 for offer in offers) else 1
    turns = ([offer for offer in offers if steps == 1 or _has_turn(offer, step)] for step in range(steps))
    pools = [_pools(kept if any_firm(kept) else offers) for kept in turns]
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
    begin = rank(0, offer.name)[0]
    return (begin + step) % SHARE_PARTS < max(1, round(offer.share * SHARE_PARTS))


POLICIES = {
    #                     order for the client, regions answered, depends on the client, goes by chance
    "geo": Policy(_by_place, select_all, True, False),
    "latency": Policy(_by_latency, select_all, True, False),
    "failover": Policy(_as_given, _first, False, False),
    "weighted": Policy(_as_given, _drawn, False, True),
    "multivalue": Policy(_as_given, _pooled, False, True),
    "sticky": Policy(_by_slot, _first, True, False),
}
"""All policies by the operator's word."""
