"""Who may take a try at all, and in which order: own region first, spill over to others, and never nothing.

Endpoints stand in tiers. Those that are usable in regions that the verdict holds up are in its good tiers, by the
operator's `priority` first, then those of the node's own region or of no region before the others. Behind them stand
usable ones of suspect regions, then of withdrawn ones, and last all, when probes and outcomes speak against every one
(fail open, as with DNS: a wrong verdict must not turn a slow service into no service). It is the order in which DNS
answers regions, by the same verdict; a region that keeps only a share of its clients (core/capacity) counts among the
others with so much of its weight.

- **Spill.** A tier of which less than `spill_below` is usable keeps only so much of the requests as it still can carry:
  with 70 % and a third usable, 47 %; the rest begins in the next good tier. What all of them lack they share.
- **Panic.** Where fewer than `panic_below` of an upstream's endpoints are usable, the marks are not believed: more
  likely the probes are wrong, and if not, the few that are left would fall next.
- **Slow start.** One that has come up takes a growing part of its weight, in ten steps over `slow_start_seconds`.

What is known of an endpoint (`EndpointState`) belongs to its address, not to a snapshot: a new snapshot takes it
over, so that exchanges of both count on the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import MappingProxyType

from meridian.core.adaptive import AdaptiveLimit
from meridian.core.hashing import Table
from meridian.core.hedging import Latencies
from meridian.core.retrying import Budget
from meridian.core.snapshot import Endpoint, Upstream

ALL: Mapping[str, float] = MappingProxyType({})
"""Every region takes all who come to it."""

WHOLE: Mapping[int, float] = MappingProxyType({})
"""Every endpoint takes its whole weight."""

SLOW_STEPS = 10
_SCALE = 1000  # of weights where some take a part only: a share of a thousandth is told from nothing


@dataclass(frozen=True, slots=True)
class Tier:
    """Endpoints that are equally good.

    `weights` are as the tier counts them, `cumulative` their running sums; `even`: all weigh the same. `places` are
    those of the endpoints, by index; `parts` are of those that take less than their weight, by index, above 0 and
    below 1. `takes` is the share of requests that begin in this tier. `good`: usable, and in a region that is up.
    """

    endpoints: tuple[Endpoint, ...]
    weights: tuple[int, ...]
    cumulative: tuple[int, ...]
    even: bool
    places: Mapping[int, int]
    parts: Mapping[int, float] = field(default_factory=lambda: WHOLE)
    takes: float = 1.0
    good: bool = True


@dataclass(slots=True)
class EndpointState:
    """What a worker knows of one endpoint. The worker owns and changes it."""

    probed_down: bool = False  # by the agent's probes
    ejected: bool = False  # by outcomes seen here (core/outliers)
    active: int = 0  # exchanges under way
    credit: int = 0  # of smooth weighted round robin
    since: float = float("-inf")  # when it came up, for the slow start; monotonic seconds
    latency_seconds: float = 0.0  # of recent first bytes, the peaks first; 0.0 if none was seen
    latency_at: float = 0.0  # of the last change of it


@dataclass(slots=True)
class Load:
    """What a worker's exchanges take of one upstream together, whatever snapshot they are on."""

    active: int = 0  # tries under way
    pending: int = 0  # of them waiting for a connection
    connections: int = 0  # open or in the making
    requests: int = 0  # that have come so far
    retrying: int = 0  # exchanges on a further try, or pausing before one
    budget: Budget = field(default_factory=Budget)
    latencies: Latencies | None = None  # where tries are hedged
    adaptive: AdaptiveLimit | None = None  # where concurrency is


@dataclass(slots=True)
class UpstreamState:
    """The states of one upstream's endpoints, by `Endpoint.index`, and their present tiers."""

    endpoints: list[EndpointState]
    tiers: tuple[Tier, ...] = ()
    everyone: Tier | None = None  # the last of them: made once
    turn: int = 0
    table: Table | None = None  # of hashing
    load: Load = field(default_factory=Load)
    load_bound: float = 0.0  # what an endpoint may carry beyond its fair share; 0.0 is without bound

    @classmethod
    def of(cls, upstream: Upstream) -> "UpstreamState":
        """A fresh state: everything is taken to be up until something says otherwise."""
        endpoints = [EndpointState() for _ in upstream.endpoints]
        return cls(endpoints, table=upstream.table, load_bound=upstream.load_bound)

    def is_good(self, index: int) -> bool:
        """Whether an endpoint is usable and its region is up."""
        return any(index in tier.places for tier in self.tiers if tier.good)


def tier_of(endpoints: Sequence[Endpoint], parts: Mapping[int, float] = WHOLE, *, good: bool = True) -> Tier:
    """A tier of these endpoints."""
    places = {endpoint.index: place for place, endpoint in enumerate(endpoints)}
    parts = {index: part for index, part in parts.items() if index in places} if parts else WHOLE
    if parts:
        weights = tuple([max(1, round(e.weight * _SCALE * parts.get(e.index, 1.0))) for e in endpoints])
    else:
        weights = tuple([endpoint.weight for endpoint in endpoints])
    return Tier(tuple(endpoints), weights, tuple(accumulate(weights)), len(set(weights)) == 1, places, parts, 1.0, good)


def build_tiers(
    upstream: Upstream,
    state: UpstreamState,
    own_region: str,
    withdrawn: frozenset[str],
    suspect: frozenset[str] = frozenset(),
    shares: Mapping[str, float] = ALL,
    now: float = 0.0,
) -> tuple[Tier, ...]:
    """The tiers of the module's head, without empty ones. Rebuilt when health or verdict change, not per request.

    `shares` are those of regions that do not take all who come, each above 0 and at most 1.
    """
    known, everyone = state.endpoints, upstream.endpoints
    usable = [e for e in everyone if not known[e.index].probed_down and not known[e.index].ejected]
    if len(usable) < upstream.panic_below * len(everyone):
        usable = list(everyone)
    local = (None, own_region)
    parts = _parts(upstream, state, usable, own_region, shares, now)
    good: list[tuple[Tier, float]] = []
    for priority in sorted({e.priority for e in usable}) if upstream.has_priorities else (0,):
        for near in (True, False):
            group = [e for e in usable if e.priority == priority and (e.region in local) is near]
            if not near:
                group = [e for e in group if e.region not in withdrawn and e.region not in suspect]
            if group:
                good.append((tier_of(group, parts), _carried(upstream, group, priority, local, near)))
    far = [e for e in usable if e.region not in local]
    doubted = [e for e in far if e.region in suspect]
    last = [e for e in far if e.region in withdrawn and e.region not in suspect]
    rest = [tier_of(group, parts, good=False) for group in (doubted, last) if group]
    if state.everyone is None:
        state.everyone = tier_of(everyone, good=False)
    return (*_spilling(good, upstream.spill_below), *rest, state.everyone)


def slow_part(upstream: Upstream, since: float, now: float) -> float:
    """The part of its weight that an endpoint takes which came up at `since`."""
    seconds = upstream.slow_start_seconds
    if now - since >= seconds:
        return 1.0
    return min(SLOW_STEPS, 1 + int(SLOW_STEPS * max(0.0, now - since) / seconds)) / SLOW_STEPS


def _parts(
    upstream: Upstream, state: UpstreamState, usable: Sequence[Endpoint], own_region: str,
    shares: Mapping[str, float], now: float,
) -> Mapping[int, float]:  # fmt: skip
    """Of those that take less than their weight."""
    if not shares and not upstream.slow_start_seconds:
        return WHOLE
    parts = {}
    for endpoint in usable:
        part = slow_part(upstream, state.endpoints[endpoint.index].since, now)
        if endpoint.region is not None and endpoint.region != own_region:
            part *= shares.get(endpoint.region, 1.0)
        if part < 1.0:
            parts[endpoint.index] = part
    return parts


def _carried(
    upstream: Upstream, group: Sequence[Endpoint], priority: int, local: tuple[None, str], near: bool
) -> float:
    """How much of its weight a tier still has, of that of all its endpoints in regions that it has some of."""
    regions = {endpoint.region for endpoint in group}
    whole = [e.weight for e in upstream.endpoints if e.priority == priority and (e.region in local) is near
             and (near or e.region in regions)]  # fmt: skip
    return sum(endpoint.weight for endpoint in group) / sum(whole)


def _spilling(good: Sequence[tuple[Tier, float]], spill_below: float) -> list[Tier]:
    """The tiers with what each takes."""
    if len(good) < 2 or not spill_below or good[0][1] >= spill_below:
        return [tier for tier, _ in good]
    left, takes = 1.0, []
    for _, carried in good:
        takes.append(min(left, carried / spill_below))
        left -= takes[-1]
    whole = sum(takes)
    return [replace(tier, takes=part / whole) for (tier, _), part in zip(good, takes, strict=True)]
