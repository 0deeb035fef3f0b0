"""Which endpoint takes a try. Own region first, spill over to others, and never nothing.

Endpoints stand in tiers: (1) usable ones of the node's own region or of no region, (2) usable ones of regions that
the verdict holds up, (3) usable ones of suspect regions, (4) usable ones of withdrawn regions, (5) all, when probes and
outcomes speak against every one (fail open, as with DNS: a wrong verdict must not turn a slow service into no service).
It is the order in which DNS answers regions, by the same verdict; a region that keeps only a share of its clients
(core/capacity) stands in (2) with so much of its weight. The first tier that is not empty is balanced. An
endpoint already tried for this exchange is left out while another remains.

What is known of an endpoint (`EndpointState`) belongs to its address, not to a snapshot: a new snapshot takes it
over, so that exchanges of both count on the same numbers.

To add an algorithm: write it below as `_name(tier, state, draw)`, put it into `ALGORITHMS`, add its word to
model.Balance.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType

from meridian.core.snapshot import Endpoint, Upstream

Draw = Callable[[], float]
"""Gives chance in [0, 1)."""

ALL: Mapping[str, float] = MappingProxyType({})
"""Every region takes all who come to it."""

_SCALE = 1000  # of weights among regions with shares: a share of a thousandth is told from nothing


@dataclass(slots=True)
class EndpointState:
    """What a worker knows of one endpoint. The worker owns and changes it."""

    probed_down: bool = False  # by the agent's probes
    ejected: bool = False  # by outcomes seen here (core/outliers)
    active: int = 0  # exchanges under way
    credit: int = 0  # of smooth weighted round robin


@dataclass(frozen=True, slots=True)
class Tier:
    """Endpoints that are equally good. `cumulative` are the running sums of their weights; `even`: all weigh 1."""

    endpoints: tuple[Endpoint, ...]
    cumulative: tuple[int, ...]
    even: bool


@dataclass(slots=True)
class UpstreamState:
    """The states of one upstream's endpoints, by `Endpoint.index`, and their present tiers."""

    endpoints: list[EndpointState]
    tiers: tuple[Tier, ...] = ()
    turn: int = 0

    @classmethod
    def of(cls, upstream: Upstream) -> "UpstreamState":
        """A fresh state: everything is taken to be up until something says otherwise."""
        return cls([EndpointState() for _ in upstream.endpoints])


def tier_of(endpoints: Sequence[Endpoint]) -> Tier:
    """A tier of these endpoints."""
    weights = [endpoint.weight for endpoint in endpoints]
    return Tier(tuple(endpoints), tuple(accumulate(weights)), all(weight == 1 for weight in weights))


def build_tiers(
    upstream: Upstream,
    state: UpstreamState,
    own_region: str,
    withdrawn: frozenset[str],
    suspect: frozenset[str] = frozenset(),
    shares: Mapping[str, float] = ALL,
) -> tuple[Tier, ...]:
    """The tiers of the module's head, without empty ones. Rebuilt when health or verdict change, not per request.

    `shares` are those of regions that do not take all who come, each above 0 and at most 1.
    """
    known = state.endpoints
    usable = [e for e in upstream.endpoints if not known[e.index].probed_down and not known[e.index].ejected]
    near = tuple(e for e in usable if e.region in (None, own_region))
    far = [e for e in usable if e.region not in (None, own_region)]
    spill = _weighed([e for e in far if e.region not in withdrawn | suspect], shares)
    doubted = tuple(e for e in far if e.region in suspect)
    last = tuple(e for e in far if e.region in withdrawn)
    return tuple(tier_of(tier) for tier in (near, spill, doubted, last, upstream.endpoints) if tier)


def _weighed(endpoints: Sequence[Endpoint], shares: Mapping[str, float]) -> tuple[Endpoint, ...]:
    """The endpoints with as much of their weight as their region's share is."""
    if not any(endpoint.region in shares for endpoint in endpoints):
        return tuple(endpoints)

    def scale(region: str | None) -> int:
        return max(1, round(shares.get(region or "", 1.0) * _SCALE))

    return tuple(replace(endpoint, weight=endpoint.weight * scale(endpoint.region)) for endpoint in endpoints)


def choose(upstream: Upstream, state: UpstreamState, draw: Draw, tried: Sequence[int] = ()) -> Endpoint | None:
    """Chooses an endpoint not in `tried` (indexes); None when all were tried.

    Needs `state.tiers`. The caller counts `EndpointState.active` up and down.
    """
    algorithm = ALGORITHMS[upstream.balance]
    for tier in state.tiers:
        if not tried:
            return tier.endpoints[0] if len(tier.endpoints) == 1 else algorithm(tier, state, draw)
        left = [endpoint for endpoint in tier.endpoints if endpoint.index not in tried]
        if left:
            return algorithm(tier_of(left), state, draw)
    return None


def _round_robin(tier: Tier, state: UpstreamState, draw: Draw) -> Endpoint:
    """Smooth weighted round robin (nginx, 2012): spreads a heavy endpoint's turns instead of bunching them."""
    if tier.even:
        state.turn += 1
        return tier.endpoints[state.turn % len(tier.endpoints)]
    best, best_credit = tier.endpoints[0], float("-inf")
    for endpoint in tier.endpoints:
        one = state.endpoints[endpoint.index]
        one.credit += endpoint.weight
        if one.credit > best_credit:
            best, best_credit = endpoint, one.credit
    state.endpoints[best.index].credit -= tier.cumulative[-1]
    return best


def _random(tier: Tier, state: UpstreamState, draw: Draw) -> Endpoint:
    """Weighted chance."""
    if tier.even:
        return tier.endpoints[int(draw() * len(tier.endpoints))]
    return tier.endpoints[bisect_right(tier.cumulative, draw() * tier.cumulative[-1])]


def _least_request(tier: Tier, state: UpstreamState, draw: Draw) -> Endpoint:
    """Power of two choices (Mitzenmacher 2001): of two by weighted chance the one with less load per weight."""
    one, two = _random(tier, state, draw), _random(tier, state, draw)
    load_one, load_two = state.endpoints[one.index].active + 1, state.endpoints[two.index].active + 1
    return one if load_one * two.weight <= load_two * one.weight else two


ALGORITHMS: dict[str, Callable[[Tier, UpstreamState, Draw], Endpoint]] = {
    "round_robin": _round_robin,
    "random": _random,
    "least_request": _least_request,
}
