"""Which endpoint takes a try: of the tier whose turn it is (core/tiers), by the upstream's algorithm.

The first tier that is not empty is balanced, or the one that the spill gives. An endpoint already tried for this
exchange is left out while another remains.

To add an algorithm: write it below as `_name(tier, state, draw, ask)`, put it into `ALGORITHMS`, add its word to
upstream_words.Balance. The tests run it with all the others.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp

from meridian.core.hashing import fraction_of
from meridian.core.snapshot import Endpoint, Upstream
from meridian.core.tiers import EndpointState, Tier, UpstreamState, tier_of

Draw = Callable[[], float]
"""Gives chance in [0, 1)."""

LATENCY_DECAY_SECONDS = 10.0  # a slow answer is forgotten to a third after so long (Finagle's default)


@dataclass(frozen=True, slots=True)
class Ask:
    """What an algorithm may want to know of a try: the hash of what the request is told apart by, None if it has
    nothing of the kind, and the time."""

    key: int | None = None
    now: float = 0.0


PLAIN = Ask()


def choose(
    upstream: Upstream, state: UpstreamState, draw: Draw, tried: Sequence[int] = (), ask: Ask = PLAIN
) -> Endpoint | None:
    """Chooses an endpoint not in `tried` (indexes); None when all were tried.

    Needs `state.tiers`. The caller counts `EndpointState.active` and `Load.active` up and down.
    """
    algorithm = ALGORITHMS[upstream.balance]
    tiers = state.tiers
    if not tried:
        tier = tiers[0] if tiers[0].takes == 1.0 else _begins(tiers, state, draw, ask)
        return tier.endpoints[0] if len(tier.endpoints) == 1 else algorithm(tier, state, draw, ask)
    if algorithm is _round_robin:
        algorithm = _random  # a further try takes no turn: else one that fails would be next again too often
    for tier in tiers:
        left = [endpoint for endpoint in tier.endpoints if endpoint.index not in tried]
        if left:
            return algorithm(tier_of(left, tier.parts), state, draw, ask)
    return None


def observe(state: EndpointState, seconds: float, now: float) -> None:
    """Takes one latency into the average: a peak at once, what is quicker by and by (Finagle's peak EWMA)."""
    if seconds >= state.latency_seconds:
        state.latency_seconds = seconds
    else:
        kept = exp((state.latency_at - now) / LATENCY_DECAY_SECONDS)
        state.latency_seconds = state.latency_seconds * kept + seconds * (1.0 - kept)
    state.latency_at = now


def _begins(tiers: tuple[Tier, ...], state: UpstreamState, draw: Draw, ask: Ask) -> Tier:
    """The tier of a request while the first cannot take all; by its key, where it has one: it stays where it was."""
    at = draw() if state.table is None or ask.key is None else fraction_of(ask.key, -2)
    for tier in tiers:
        at -= tier.takes
        if at < 0.0:
            return tier
    return tiers[0]  # only by rounding


def _round_robin(tier: Tier, state: UpstreamState, draw: Draw, ask: Ask) -> Endpoint:
    """Smooth weighted round robin (nginx, 2012): spreads a heavy endpoint's turns instead of bunching them."""
    if tier.even:
        state.turn += 1
        return tier.endpoints[state.turn % len(tier.endpoints)]
    best, best_credit = tier.endpoints[0], float("-inf")
    for endpoint, weight in zip(tier.endpoints, tier.weights, strict=True):
        one = state.endpoints[endpoint.index]
        one.credit += weight
        if one.credit > best_credit:
            best, best_credit = endpoint, float(one.credit)
    state.endpoints[best.index].credit -= tier.cumulative[-1]
    return best


def _place(tier: Tier, at: float) -> int:
    """The place in the tier that a number in [0, 1) falls on, by weight."""
    if tier.even:
        return int(at * len(tier.endpoints))
    return bisect_right(tier.cumulative, at * tier.cumulative[-1])


def _random(tier: Tier, state: UpstreamState, draw: Draw, ask: Ask) -> Endpoint:
    """Weighted chance."""
    return tier.endpoints[_place(tier, draw())]


def _least_request(tier: Tier, state: UpstreamState, draw: Draw, ask: Ask) -> Endpoint:
    """Power of two choices (Mitzenmacher 2001): of two by weighted chance the one with less load per weight."""
    one, two = _place(tier, draw()), _place(tier, draw())
    load_one = state.endpoints[tier.endpoints[one].index].active + 1
    load_two = state.endpoints[tier.endpoints[two].index].active + 1
    return tier.endpoints[one if load_one * tier.weights[two] <= load_two * tier.weights[one] else two]


def _ewma(tier: Tier, state: UpstreamState, draw: Draw, ask: Ask) -> Endpoint:
    """Of two by weighted chance the one where a request is expected to take less: latency times those under way. One
    that was not seen yet is tried, but not by many at once."""
    first, second = _place(tier, draw()), _place(tier, draw())
    if first == second:  # a slow one would be chosen as often as it is drawn twice
        second = (first + 1) % len(tier.endpoints)
    one, two = tier.endpoints[first], tier.endpoints[second]
    cost_one, cost_two = _cost(state.endpoints[one.index], ask.now), _cost(state.endpoints[two.index], ask.now)
    return one if cost_one <= cost_two else two


def _cost(state: EndpointState, now: float) -> float:
    latency = state.latency_seconds * exp(min(0.0, state.latency_at - now) / LATENCY_DECAY_SECONDS)
    if latency == 0.0 and state.active:
        return float("inf")  # nothing came back yet: as if it were slow, until something does
    return latency * (state.active + 1)


def _hashed(tier: Tier, state: UpstreamState, draw: Draw, ask: Ask) -> Endpoint:
    """The endpoint that the key belongs to, or the next one that can have it. With a bound on load no endpoint carries
    more than that many times its fair share (Mirrokni, Thorup, Zadimoghaddam 2018). A request without a key goes by
    chance: one endpoint for all of them would be a hot spot."""
    key, table = ask.key, state.table
    if key is None or table is None:
        return _random(tier, state, draw, ask)
    bound = state.load_bound * (state.load.active + 1) / tier.cumulative[-1]
    first: int | None = None
    for index in table.walk(key):
        place = tier.places.get(index)
        if place is None:
            continue
        first = place if first is None else first
        if tier.parts and fraction_of(key, index) >= tier.parts.get(index, 1.0):
            continue  # it takes a part of its keys only
        if not bound or state.endpoints[index].active < ceil(bound * tier.weights[place]):
            return tier.endpoints[place]
    return tier.endpoints[first if first is not None else _place(tier, fraction_of(key, -1))]


ALGORITHMS: dict[str, Callable[[Tier, UpstreamState, Draw, Ask], Endpoint]] = {
    "round_robin": _round_robin,
    "random": _random,
    "least_request": _least_request,
    "ewma": _ewma,
    "ring_hash": _hashed,
    "maglev": _hashed,
    "ip_hash": _hashed,
}
