"""What all exchanges of one worker share. An exchange gets this one object and takes `installed` from it once."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Protocol

from meridian.core.authentication import Gate
from meridian.core.retrying import USUAL, Policy, Timeouts
from meridian.core.routing import Route
from meridian.core.shedding import Overload
from meridian.core.snapshot import Limit, Snapshot
from meridian.core.traffic import FieldEdits, Mirror
from meridian.gateway import disk
from meridian.gateway.admission import Admission
from meridian.gateway.cache import Cache
from meridian.gateway.forwarding import ListenerFacts
from meridian.gateway.limits import Limits
from meridian.gateway.meters import Meters
from meridian.gateway.outcome import Reports
from meridian.gateway.state import Health, LiveUpstream
from meridian.gateway.trial import Counts
from meridian.gateway.trial_limits import TrialAdmission
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.telemetry.metrics import REQUESTS, Counter, Histogram, Metrics

LOOKUPS = 16
"""Names that a forward proxy resolves at once: one that is not answered takes a thread for some seconds."""

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


@dataclass(frozen=True, slots=True)
class LiveRoute:
    """A route with all that its exchanges touch."""

    route: Route
    upstream: LiveUpstream | None  # None: it redirects, has files, or is yet to be found
    gate: Gate | None
    limits: tuple[Limit, ...]
    limits_before: tuple[Limit, ...]  # those of them that count also a request that cannot say who asks
    stages: tuple[Callable[[Any], bool], ...]  # see gateway/stages
    retry: Policy
    timeouts: Timeouts
    response: FieldEdits | None
    mirror: Mirror | None
    others: "Mapping[str, LiveRoute]"  # by upstream: the same route to each that it may lead or be copied to
    by_class: tuple[Counter, ...]  # answers, by the first digit of their status less one
    seconds: Histogram
    request_bytes: Counter
    response_bytes: Counter


@dataclass(frozen=True, slots=True)
class Installed:
    """One snapshot and what was made for it; replaced whole."""

    snapshot: Snapshot
    routes: dict[str, LiveRoute]
    listeners: dict[str, ListenerFacts]
    health: Health
    admission: Admission | TrialAdmission
    cache: Cache
    counts: Counts | None = None  # while a candidate is tried


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate beside the snapshot in force. `share` of the exchanges take it, by draw."""

    generation: int
    share: float
    current: Installed
    candidate: Installed

    def take(self, draw: Callable[[], float]) -> Installed:
        """What an exchange takes, once."""
        return self.candidate if draw() < self.share else self.current


class Sweepable(Protocol):
    """An exchange under way, as the sweep sees it."""

    deadline: float
    installed: "Installed"
    started: float

    @property
    def route_name(self) -> str:
        """Empty if it has none (yet)."""

    def expire(self, now: float) -> None:
        """The deadline has passed."""

    def go_away(self, by: str) -> None:
        """The gateway ends: what has no end of its own heeds it."""


class Worker:
    """See the module's head. `coarse_now` is the time of the last sweep, at most a sweep's period old."""

    def __init__(
        self, *, region: str, number: int, loop: asyncio.AbstractEventLoop, clock: Callable[[], float],
        unix_nanoseconds: Callable[[], int], draw: Callable[[], float], draw_bytes: Callable[[int], bytes],
        report: Reports, quiet: bool, metrics: Metrics, limits: Limits, meters: Meters, contexts: UpstreamContexts,
    ) -> None:  # fmt: skip
        """Needs `install` before use."""
        self.number = number
        self.clock = clock
        self.unix_nanoseconds = unix_nanoseconds
        self.draw = draw
        self.draw_bytes = draw_bytes
        self.report = report
        self.quiet = quiet  # ordinary exchanges are counted, not reported
        self.metrics = metrics
        self.coarse_now = clock()
        self.date = b""
        self._date_at = -1
        self.set_date()
        self.loop = loop
        self._region = region
        self._contexts = contexts
        self.health = Health(loop, region, metrics, clock, self.coarse_now, contexts)
        self.limits = limits
        self.meters = meters
        self.admission = Admission(limits, meters, metrics, clock, self.unix_seconds)
        self.installed: Installed
        self.trial: Trial | None = None
        self.overload: Overload | None = None
        self._retiring: list[Health] = []  # of candidates, until their last exchange is over
        self.verdict_version = self.verdict_fallback = 0
        self.disk = disk.threads()
        self.lookups = ThreadPoolExecutor(LOOKUPS, "lookup")  # of a forward proxy's names
        self.exchanges: set[Sweepable] = set()
        self.mirroring = self.refreshing = 0  # of them copies, and answers for the cache alone
        self.cache = Cache(0)
        self.refresh: Callable[[Any, Any], None] = lambda exchange, entry: None  # see gateway/headless
        self.mirror: Callable[[Any], None] = lambda exchange: None  # see gateway/mirroring
        self.no_route = self._counters("")
        self._id_prefix = draw_bytes(6).hex().encode()
        self._id_count = 0

    def install(self, snapshot: Snapshot) -> None:
        """Takes a snapshot: one assignment shows it. What its routes need is made when they are first used, so that
        this takes no longer for a document of ten thousand routes."""
        self.end_trial()
        self.health.replace(snapshot)
        now = self.clock()
        self.limits.replace({name: one for name, one in snapshot.limits.items() if one.kind == "rate"}, now)
        self.meters.replace(snapshot.limits, now, self.unix_seconds())
        self.cache.resize(snapshot.cache_bytes_max)
        self.installed = Installed(snapshot, {}, _facts(snapshot), self.health, self.admission, self.cache)
        self._forget_gone()
        bounds, overload = snapshot.overload, self.overload
        if bounds is None or overload is None:
            self.overload = Overload(bounds) if bounds is not None else None
        else:
            overload.bounds = bounds

    def begin_trial(self, candidate: Snapshot, share: float, generation: int) -> None:
        """Lets `share` of the exchanges take `candidate` from now on, and counts both apart from zero."""
        self.end_trial()
        health = Health(self.loop, self._region, self.metrics, self.clock, self.coarse_now, self._contexts)
        health.replace(candidate)
        health.follow(self.health)
        # A worker that lives on loans tries limits whole: those in force hold all the same.
        part = self.limits.part or 1.0
        known = self.installed.snapshot.limits
        admission = TrialAdmission(self.admission, known, part, share, self.clock, self.unix_seconds)
        current = replace(self.installed, counts=Counts())
        # What a candidate answers is for its exchanges alone, and it is tried whether it answers at all.
        cache = Cache(int(candidate.cache_bytes_max * share))
        tried = Installed(candidate, {}, _facts(candidate), health, admission, cache, Counts())
        self.trial = Trial(generation, share, current, tried)

    def end_trial(self) -> None:
        """New exchanges take the snapshot in force; those on the candidate end on it."""
        if self.trial is not None:
            self._retiring.append(self.trial.candidate.health)
            self.trial.candidate.health.retire()
            self.trial = None
            self._forget_gone()

    def _forget_gone(self) -> None:
        """Series of routes and upstreams that left the document leave too: names come and go, and series are few."""
        snapshot = self.installed.snapshot
        proxies = {one.forward.name for one in snapshot.listeners if one.forward is not None}
        self.metrics.forget("route", {"", *proxies, *(route.name for route in snapshot.table.routes)})
        self.metrics.forget("upstream", snapshot.upstreams)

    def healths(self) -> list[Health]:
        """Of the snapshot in force first, then of candidates that still have connections."""
        tried = [self.trial.candidate.health] if self.trial is not None else []
        return [self.health, *tried, *self._retiring]

    def waiting(self, counts: Counts) -> dict[str, list[float]]:
        """How long those have taken so far that are counted in `counts` and not over: seconds, by route. What never
        answers would not be seen otherwise."""
        now, found = self.clock(), dict[str, list[float]]()
        for exchange in self.exchanges:
            if exchange.installed.counts is counts:
                found.setdefault(exchange.route_name, []).append(now - exchange.started)
        return found

    def sweep(self, now: float) -> None:
        """Lets time pass for endpoints and connections."""
        for health in self.healths():
            health.sweep(now)
        if self._retiring:
            self._retiring = [health for health in self._retiring if not health.idle]

    def unix_seconds(self) -> float:
        """The time of day, for limits that go by the calendar."""
        return self.unix_nanoseconds() / 1e9

    def live_route(self, installed: Installed, route: Route, stages: tuple[Callable[[Any], bool], ...]) -> LiveRoute:
        """The live form of a route of `installed`, which is present (or tried) while an exchange takes its route."""
        live = installed.routes.get(route.name)
        if live is None:
            limits, traffic = installed.snapshot.limits, route.traffic
            upstream, retry, timeouts = _tried(installed, route, route.upstream)
            first = LiveRoute(
                route, upstream,
                _gate(installed, route),
                installed.admission.limits_of([limits[name] for name in route.limits]),
                installed.admission.limits_of([limits[name] for name in route.limits[: route.limits_before]]),
                stages, retry, timeouts, traffic.response, traffic.mirror, {}, *self._counters(route.name),
            )  # fmt: skip
            others = {}
            for name in traffic.upstreams():
                upstream, retry, timeouts = _tried(installed, route, name)
                others[name] = replace(first, upstream=upstream, retry=retry, timeouts=timeouts)
            live = installed.routes[route.name] = replace(first, others=others) if others else first
        return live

    def set_date(self) -> None:
        """Makes `date` say now; called by the sweep, so that it is at most a sweep's period late."""
        seconds = self.unix_nanoseconds() // 1_000_000_000
        if seconds != self._date_at:
            self._date_at = seconds
            self.date = formatdate(seconds, usegmt=True).encode()

    def next_request_id(self) -> bytes:
        """A name that no other request has: 48 bits of this process and a count. Not a secret."""
        self._id_count += 1
        return b"%b%08x" % (self._id_prefix, self._id_count)

    def count(
        self, route: LiveRoute | None, status: int, duration_seconds: float, request_body_bytes: int,
        response_body_bytes: int,
    ) -> None:  # fmt: skip
        """Counts an exchange that is over."""
        if route is None:
            by_class, seconds, request_bytes, response_bytes = self.no_route
        else:
            by_class, seconds = route.by_class, route.seconds
            request_bytes, response_bytes = route.request_bytes, route.response_bytes
        by_class[status // 100 - 1].value += 1
        seconds.observe(duration_seconds)
        request_bytes.value += request_body_bytes
        response_bytes.value += response_body_bytes

    def _counters(self, route: str) -> tuple[tuple[Counter, ...], Histogram, Counter, Counter]:
        """Of one route; the empty name stands for none."""
        metrics = self.metrics
        by_class = tuple(
            metrics.counter(REQUESTS, "Exchanges, by status.", route=route, status=status) for status in _CLASSES
        )
        return (
            by_class,
            metrics.histogram("meridian_request_seconds", "From the head of a request to its end.", route=route),
            metrics.counter("meridian_request_body_bytes_total", "Bodies from clients.", route=route),
            metrics.counter("meridian_response_body_bytes_total", "Bodies to clients.", route=route),
        )


def _facts(snapshot: Snapshot) -> dict[str, ListenerFacts]:
    https = next((one.port for one in snapshot.listeners if one.tls and not {"tcp", "udp"} & set(one.protocols)), None)
    return {one.name: ListenerFacts.of(one, https) for one in snapshot.listeners}


def _gate(installed: Installed, route: Route) -> Gate | None:
    if route.authenticator is None:
        return None
    gate = installed.snapshot.gates[route.authenticator]
    return gate if route.forward is None else gate.for_proxy()


def _tried(installed: Installed, route: Route, name: str) -> tuple[LiveUpstream | None, Policy, Timeouts]:
    """An upstream of a route, and how its tries go."""
    if not name:
        return None, USUAL, Timeouts()
    upstream = installed.health.upstream(name)
    retry = route.retry or upstream.upstream.retry
    return upstream, retry, upstream.upstream.timeouts.under(retry, route.timeout_seconds, route.stream_seconds_max)
