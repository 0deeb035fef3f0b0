"""What a worker knows of upstreams and their endpoints: health, load, connections.

`LiveEndpoint` belongs to an upstream's name, an address and a protocol, and outlives snapshots; `LiveUpstream` belongs
to one snapshot and holds the endpoints in its order. Both are made when they are first used, so that a swap costs what
is in use and not what the document holds: the loop must not stall. Tiers are rebuilt here and only here, when health or
verdict change.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from meridian.core import outliers
from meridian.core.adaptive import AdaptiveLimit
from meridian.core.balancing import observe
from meridian.core.hedging import Latencies
from meridian.core.outliers import FRESH, Outlier, Sample, Shown, State
from meridian.core.retrying import Budget
from meridian.core.shedding import Priority
from meridian.core.snapshot import Endpoint, Snapshot, Upstream
from meridian.core.tiers import ALL, SLOW_STEPS, EndpointState, Load, UpstreamState, build_tiers, slow_part
from meridian.gateway.pool import Pool
from meridian.gateway.pool_h1 import Http1Pool
from meridian.gateway.pool_h2 import Http2Pool
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.telemetry.metrics import Counter, Metrics

CHECKED_IN_A_SWEEP = 1000
"""Endpoints looked at after a swap: 3 ms in which the loop does nothing else."""


class LiveEndpoint:
    """One address of one upstream."""

    __slots__ = ("outlier", "pool", "sample", "state", "upstream")

    def __init__(self, upstream: str) -> None:
        """Taken to be well until something says otherwise."""
        self.upstream = upstream
        self.pool: Pool[Any] | None = None
        self.state = EndpointState()
        self.outlier: Outlier = FRESH
        self.sample = Sample()  # of this interval, where endpoints are compared


class LiveUpstream:
    """One upstream of one snapshot. `state.endpoints` and `endpoints` have the order of `upstream.endpoints`."""

    __slots__ = (
        "compares", "ejections", "endpoints", "failures", "health", "is_plain", "is_timed", "load", "requests_max",
        "state", "tries", "upstream",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, endpoints: list[LiveEndpoint], load: Load, health: "Health", metrics: Metrics
    ) -> None:
        """Its tiers are still to be built. `health` is the one that it belongs to, and that is told of its tries."""
        self.health = health
        self.upstream = upstream
        self.endpoints = endpoints
        self.load = load
        self.state = UpstreamState(
            [endpoint.state for endpoint in endpoints], table=upstream.table, load=load, load_bound=upstream.load_bound
        )
        self.requests_max = upstream.breakers.requests_max
        if load.adaptive is not None:
            self.set_concurrency(load.adaptive)
        self.compares = upstream.ejection.compares  # endpoints with each other
        self.is_timed = upstream.balance == "ewma"  # the latency of each try is taken into an average
        # Nothing of a request, an answer or the time matters but that the answer came.
        self.is_plain = not (
            upstream.table is not None or upstream.sticky is not None or self.is_timed or self.compares
            or upstream.ejection.errors_in_a_row is not None or upstream.hedge is not None
            or upstream.adaptive is not None
        )  # fmt: skip
        self.tries: Counter = metrics.counter(
            "meridian_upstream_tries_total", "Tries on endpoints.", upstream=upstream.name
        )
        self.failures: Counter = metrics.counter(
            "meridian_upstream_failures_total", "Tries that were refused, lost, malformed or too late.",
            upstream=upstream.name,
        )  # fmt: skip
        self.ejections: Counter = metrics.counter(
            "meridian_upstream_ejections_total", "Endpoints left alone for what they have shown.",
            upstream=upstream.name,
        )  # fmt: skip

    def set_concurrency(self, adaptive: AdaptiveLimit) -> None:
        """Where `adaptive` may turn the first requests away, exchanges are to look more closely."""
        self.requests_max = min(self.upstream.breakers.requests_max, adaptive.allowed_to(Priority.LOW))


class Health:
    """All upstreams of a worker, and what others say of their endpoints."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, region: str, metrics: Metrics, clock: Callable[[], float], now: float,
        contexts: UpstreamContexts,
    ) -> None:  # fmt: skip
        """Knows nothing yet."""
        self._loop = loop
        self._clock = clock
        self._contexts = contexts
        self._region = region
        self._metrics = metrics
        self._now = now  # of the last sweep
        self._snapshot: Snapshot | None = None
        self._upstreams: dict[str, LiveUpstream] = {}  # of the present snapshot
        self._known: dict[tuple[str, str, str], LiveEndpoint] = {}  # by upstream, address, protocol
        self._loads: dict[str, Load] = {}  # by upstream
        self._warming: dict[str, float] = {}  # upstreams with a slow start under way, and when its next step is due
        self._to_check: list[tuple[str, str, str]] = []  # keys of `_known`
        self._pools: set[Pool[Any]] = set()  # also of endpoints that have left, until their last exchange is over
        self._ejected: set[LiveEndpoint] = set()  # they wait until they may be probed
        self._adapting: set[str] = set()  # upstreams whose concurrency is learned
        self._comparing: dict[str, float] = {}  # upstreams whose endpoints are compared, and when next
        self._withdrawn: frozenset[str] = frozenset()
        self._suspect: frozenset[str] = frozenset()
        self._shares: Mapping[str, float] = ALL
        self._down: Mapping[str, frozenset[str]] = {}
        self._retired = False

    def replace(self, snapshot: Snapshot) -> None:
        """Takes a new snapshot. Endpoints that it still has keep their connections and what is known of them; for the
        others the sweep looks."""
        self._snapshot = snapshot
        self._upstreams = {}
        self._to_check = list(self._known)

    def upstream(self, name: str) -> LiveUpstream:
        """The live form of an upstream of the present snapshot."""
        live = self._upstreams.get(name)
        if live is None:
            assert self._snapshot is not None
            upstream = self._snapshot.upstreams[name]
            load = self._loads.get(name)
            since = self._now if load is not None else float("-inf")  # of those that are new among others
            endpoints = [self._endpoint(upstream, one, since) for one in upstream.endpoints]
            load = self._loads.setdefault(name, Load(budget=Budget(self._now)))
            if upstream.hedge is not None:
                load.latencies = load.latencies or Latencies()
            if upstream.adaptive is None:
                load.adaptive = None
            elif load.adaptive is None:
                load.adaptive = AdaptiveLimit(float(upstream.adaptive.initial), began=self._now)
            live = LiveUpstream(upstream, endpoints, load, self, self._metrics)
            self._upstreams[name] = live
            if load.adaptive is not None:
                self._adapting.add(name)
            if live.compares:
                self._comparing.setdefault(name, self._now + upstream.ejection.interval_seconds)
            self._take_probes(live)
            self._rebuild(live)
        return live

    def passing(self, upstream: Upstream) -> LiveUpstream:
        """One whose endpoints are of one exchange alone: nothing is remembered of them, and no connection kept. All of
        a name share one load, and so its limits."""
        load = self._loads.setdefault(upstream.name, Load(budget=Budget(self._now)))
        live = LiveUpstream(
            upstream, [LiveEndpoint(upstream.name) for _ in upstream.endpoints], load, self, self._metrics
        )
        self._rebuild(live)
        return live

    def pool(self, upstream: LiveUpstream, index: int) -> Pool[Any]:
        """The connections to an endpoint."""
        live = upstream.endpoints[index]
        if live.pool is None:
            endpoint = upstream.upstream.endpoints[index]
            one = upstream.upstream
            has = (self._loop, endpoint.host, endpoint.port, one, upstream.load, self._now, self._contexts)
            live.pool = Http2Pool(*has, self._clock) if one.protocol == "h2" else Http1Pool(*has)
            if self._retired or self._known.get(_key(one, endpoint)) is not live:
                live.pool.retire()
            self._pools.add(live.pool)
        return live.pool

    def set_verdict(self, withdrawn: frozenset[str], suspect: frozenset[str], shares: Mapping[str, float]) -> None:
        """Which regions traffic should leave alone, which it should try after the others, and how much some take."""
        if (withdrawn, suspect, shares) != (self._withdrawn, self._suspect, self._shares):
            self._withdrawn, self._suspect, self._shares = withdrawn, suspect, shares
            for upstream in self._upstreams.values():
                self._rebuild(upstream)

    def set_down(self, down: Mapping[str, frozenset[str]]) -> None:
        """The addresses that probes find down, by upstream: the whole of it."""
        if down != self._down:
            self._down = down
            for upstream in self._upstreams.values():
                self._take_probes(upstream)
                self._rebuild(upstream)

    def chosen(self, upstream: LiveUpstream, index: int) -> None:
        """An endpoint takes a try. If that is its probe, no other goes there until it is over."""
        endpoint = upstream.endpoints[index]
        endpoint.state.active += 1
        upstream.load.active += 1
        if endpoint.outlier.state is State.PROBING and not endpoint.state.ejected:
            endpoint.state.ejected = True
            self._rebuild(upstream)

    def answered(self, upstream: LiveUpstream, index: int, status: int, now: float) -> None:
        """A response has begun. That is enough for a probe: its body may take an hour."""
        endpoint, policy = upstream.endpoints[index], upstream.upstream.ejection
        is_error = status >= 500 and policy.errors_in_a_row is not None
        if not is_error and endpoint.outlier is FRESH:
            return
        capped = is_error and outliers.is_capped(_ejected_of(upstream), len(upstream.endpoints), policy)
        shown = Shown.ERROR if is_error else Shown.GOOD
        endpoint.outlier = outliers.step(endpoint.outlier, shown, now, policy, capped=capped)
        self._follow(upstream, endpoint)

    def over(self, upstream: LiveUpstream, index: int, succeeded: bool | None, now: float) -> None:
        """A try is over; None: it says nothing about the endpoint (the client left)."""
        endpoint = upstream.endpoints[index]
        endpoint.state.active -= 1
        upstream.load.active -= 1
        outlier = endpoint.outlier
        if succeeded and outlier is FRESH:
            return
        if succeeded is False:
            upstream.failures.value += 1
            if upstream.compares:
                endpoint.sample.answers += 1
                endpoint.sample.errors += 1
            if upstream.is_timed:  # else one that refuses at once would look like the quickest
                observe(endpoint.state, upstream.upstream.connect_timeout_seconds, now)
        if succeeded is not None:
            shown = Shown.WHOLE if succeeded else Shown.FAILED
            endpoint.outlier = outliers.step(outlier, shown, now, upstream.upstream.ejection)
        self._follow(upstream, endpoint)

    def _follow(self, upstream: LiveUpstream, endpoint: LiveEndpoint) -> None:
        """An endpoint's outlier has changed, or its probe is over: who may be chosen follows."""
        ejected = endpoint.outlier.state is State.EJECTED
        if ejected and endpoint not in self._ejected:
            self._ejected.add(endpoint)
            upstream.ejections.value += 1
        if endpoint.state.ejected != ejected:
            endpoint.state.ejected = ejected
            if not ejected:
                endpoint.state.since = self._now
            self._rebuild(upstream)

    def _compare(self, upstream: LiveUpstream) -> None:
        """At the end of an interval: who stands out is left alone, as far as that is allowed."""
        policy, endpoints = upstream.upstream.ejection, upstream.endpoints
        samples = [endpoint.sample for endpoint in endpoints]
        bad = outliers.standouts(samples, policy)
        for place, endpoint in enumerate(endpoints):
            old = endpoint.sample
            endpoint.sample = Sample(stands_out=old.stands_out)
            if place not in bad and old.answers >= policy.answers_min:
                endpoint.sample.stands_out = 0
        for place in bad:
            endpoint = endpoints[place]
            if endpoint.outlier.state is State.EJECTED:
                continue
            if outliers.is_capped(_ejected_of(upstream), len(endpoints), policy):
                break
            endpoint.sample.stands_out += 1
            endpoint.outlier = outliers.eject_standout(endpoint.sample, self._now, policy)
            self._follow(upstream, endpoint)

    def state_of(self, endpoint: Endpoint, live: LiveEndpoint) -> str:
        """How an endpoint is, in words for people."""
        if live.state.probed_down:
            return "down: probes find it so"
        if live.outlier.state is State.EJECTED:
            return "ejected: it has failed here"
        if live.outlier.state is State.PROBING:
            return "probing: one request shows whether it is well"
        if endpoint.region in self._withdrawn:
            return "its region is withdrawn"
        return "its region is suspect" if endpoint.region in self._suspect else "up"

    def _adapt(self, name: str, now: float) -> None:
        """Looks at what an upstream's answers took."""
        live = self._upstreams.get(name)
        if live is None or live.upstream.adaptive is None or live.load.adaptive is None:
            self._adapting.discard(name)  # it begins again when the upstream is used again
        elif live.load.adaptive.step(live.upstream.adaptive, now):
            live.set_concurrency(live.load.adaptive)
            self._metrics.gauge(
                "meridian_upstream_concurrency_limit", "Requests at a time, learned from what answers take.",
                upstream=name,
            ).value = live.load.adaptive.allowed  # fmt: skip

    def tripped(self, upstream: LiveUpstream, what: str) -> None:
        """A request was turned away, because no more of `what` is taken."""
        self._metrics.counter(
            "meridian_upstream_full_total", "Requests that an upstream's breakers turned away.",
            upstream=upstream.upstream.name, what=what,
        ).value += 1  # fmt: skip

    def allows_another(self, upstream: LiveUpstream, what: str, now: float, *, retrying: bool) -> bool:
        """Takes room for a further try, `what` for: a cause, or to hedge. Of the budget, and of the breaker where the
        exchange is not `retrying` yet."""
        load, settings, name = upstream.load, upstream.upstream, upstream.upstream.name
        refused = ""
        if not retrying and load.retrying >= settings.breakers.retries_max:
            refused = "breaker"
        elif not load.budget.take(settings.retry_budget, load.requests, now):
            refused = "budget"
        if refused:
            self._metrics.counter(
                "meridian_upstream_retries_refused_total", "Further tries that there was no room for.",
                upstream=name, by=refused,
            ).value += 1  # fmt: skip
            return False
        self._metrics.counter("meridian_upstream_retries_total", "Further tries.", upstream=name, cause=what).value += 1
        return True

    def hedged(self, upstream: LiveUpstream, how: str) -> None:
        """What came of a second try beside a late one."""
        self._metrics.counter(
            "meridian_upstream_hedges_total", "Second tries beside late ones: won, lost or failed.",
            upstream=upstream.upstream.name, outcome=how,
        ).value += 1  # fmt: skip

    def too_late(self, upstream: LiveUpstream, what: str) -> None:
        """A time limit of an exchange has ended a try, or the exchange."""
        self._metrics.counter(
            "meridian_upstream_timeouts_total", "Tries and exchanges that a time limit has ended.",
            upstream=upstream.upstream.name, what=what,
        ).value += 1  # fmt: skip

    def sweep(self, now: float) -> None:
        """Lets ejected endpoints be probed whose time is over, and ends connections that were idle for too long."""
        self._now = now
        if self._to_check:
            self._retire_some()
        for endpoint in tuple(self._ejected):
            endpoint.outlier = outliers.wake(endpoint.outlier, now)
            if endpoint.outlier.state is not State.EJECTED:
                self._ejected.discard(endpoint)
                endpoint.state.ejected = False
                if endpoint.upstream in self._upstreams:
                    self._rebuild(self._upstreams[endpoint.upstream])
        for name in tuple(self._adapting):
            self._adapt(name, now)
        for name, due in tuple(self._comparing.items()):
            if due <= now:
                live = self._upstreams.get(name)
                if live is None or not live.compares:
                    del self._comparing[name]  # it begins again when the upstream is used again
                    continue
                self._comparing[name] = now + live.upstream.ejection.interval_seconds
                self._compare(live)
        for name, due in tuple(self._warming.items()):
            if due <= now:
                del self._warming[name]
                if name in self._upstreams:
                    self._rebuild(self._upstreams[name])
        for pool in tuple(self._pools):
            pool.sweep(now)
            if pool.empty and pool.retired:
                self._pools.discard(pool)

    def _retire_some(self) -> None:
        """Lets go of endpoints that have left the document, `CHECKED_IN_A_SWEEP` at a time."""
        assert self._snapshot is not None
        keys, self._to_check = self._to_check[:CHECKED_IN_A_SWEEP], self._to_check[CHECKED_IN_A_SWEEP:]
        name, present = "", set[tuple[str, str, str]]()
        for key in keys:
            if key[0] != name:  # endpoints of an upstream stand together
                name, upstream = key[0], self._snapshot.upstreams.get(key[0])
                present = {_key(upstream, endpoint) for endpoint in upstream.endpoints} if upstream else set()
            if key in present:
                continue
            live = self._known.pop(key)
            self._ejected.discard(live)
            if live.pool is not None:
                live.pool.retire()

    def follow(self, other: "Health") -> None:
        """Takes over what others told `other` of regions and endpoints."""
        self.set_verdict(other._withdrawn, other._suspect, other._shares)
        self.set_down(other._down)

    def retire(self) -> None:
        """No new exchange comes: each connection ends with the exchange that is on it, also one that is opened later,
        by an exchange that waited for its body or a limit meanwhile."""
        self._retired = True
        for pool in self._pools:
            pool.retire()

    @property
    def idle(self) -> bool:
        """Whether it holds no connection."""
        return all(pool.empty for pool in self._pools)

    async def close(self) -> None:
        """Ends all connections."""
        await asyncio.gather(*(pool.close() for pool in self._pools))

    def _endpoint(self, upstream: Upstream, endpoint: Endpoint, since: float) -> LiveEndpoint:
        key = _key(upstream, endpoint)
        live = self._known.get(key)
        if live is None:
            live = self._known[key] = LiveEndpoint(upstream.name)
            live.state.since = since
        elif live.pool is not None:
            live.pool.settle(upstream)
        return live

    def _take_probes(self, upstream: LiveUpstream) -> None:
        down = self._down.get(upstream.upstream.name, frozenset())
        for endpoint, live in zip(upstream.upstream.endpoints, upstream.endpoints, strict=True):
            down_before, live.state.probed_down = live.state.probed_down, endpoint.address in down
            if down_before and not live.state.probed_down:
                live.state.since = self._now

    def _rebuild(self, upstream: LiveUpstream) -> None:
        """Also of the same upstream in the present snapshot, if an exchange of an older one has learned something."""
        present = self._upstreams.get(upstream.upstream.name, upstream)
        for one in (upstream,) if present is upstream else (upstream, present):
            one.state.tiers = build_tiers(
                one.upstream, one.state, self._region, self._withdrawn, self._suspect, self._shares, self._now
            )
        seconds = present.upstream.slow_start_seconds
        if seconds and any(slow_part(present.upstream, one.since, self._now) < 1.0 for one in present.state.endpoints):
            self._warming[present.upstream.name] = self._now + seconds / SLOW_STEPS


def _key(upstream: Upstream, endpoint: Endpoint) -> tuple[str, str, str]:
    """One that now speaks another protocol is another service at the same address."""
    return upstream.name, endpoint.address, upstream.protocol


def _ejected_of(upstream: LiveUpstream) -> int:
    return sum(endpoint.outlier.state is State.EJECTED for endpoint in upstream.endpoints)
