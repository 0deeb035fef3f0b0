"""What would become of a request, told by the worker that would serve it: the functions that serve are asked, in their
order, and nothing is spent, counted, sent or changed.

What depends on the moment (a limit's tokens, requests under way) is as it is now; what is left to chance is told as
chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from meridian.core.balancing import Ask as BalanceAsk
from meridian.core.balancing import choose
from meridian.core.caching import Use, directives, judge, not_modified
from meridian.core.fields import header
from meridian.core.files import Files, with_slash
from meridian.core.forward_proxy import split_authority
from meridian.core.limit_keys import key_of
from meridian.core.matching import Ask
from meridian.core.route_explaining import consider, describe
from meridian.core.routing import NoRoute, Route, route
from meridian.core.snapshot import Limit
from meridian.core.templates import Facts
from meridian.core.traffic import RequestChanges, Targets, UnfitError
from meridian.gateway import affinity, answers, files, forwarding
from meridian.gateway.answers import Failure
from meridian.gateway.disk import FolderError, NoFileError
from meridian.gateway.forwarding import GONE, ListenerFacts
from meridian.gateway.stages import PERMANENT, changed, https_url, split_key, stages_of
from meridian.gateway.state import LiveUpstream
from meridian.gateway.stream import Peer
from meridian.gateway.worker import Installed, LiveRoute, Worker
from meridian.wire.events import Headers

BY_CHANCE = frozenset({"random", "least_request", "ewma"})


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is not sent. `client` is the address that would connect; `port` the one that it would dial."""

    method: bytes
    tls: bool
    port: int
    authority: bytes
    target: bytes
    headers: Headers
    client: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way. `topic`: client, path, route, rewrite, upstream, files or answer."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route, what it takes, and why it takes this request or not."""

    route: str
    match: str
    takes: bool
    why: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a stage of the route would say."""

    stage: str
    refuses: bool
    text: str


@dataclass(frozen=True, slots=True)
class EndpointNow:
    """An endpoint as balancing sees it. `tier` counts from 1 in the order in which tiers are tried; `share` is the part
    of first tries that it gets by weight, from 0 to 1. `next`: it would take this request."""

    address: str
    region: str
    state: str
    tier: int
    share: float
    active: int
    next: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """See the module's head. `status` is 0 where the upstream answers; `why` is empty unless that is a failure."""

    worker: int
    config_version: int
    candidate_version: int  # that is tried beside it; 0: none
    verdict_version: int
    verdict_fallback: int
    steps: tuple[Step, ...]
    routes: tuple[Candidate, ...]
    stages: tuple[Said, ...]
    upstream: str
    balance: str
    endpoints: tuple[EndpointNow, ...]
    status: int
    why: str


def explain(worker: Worker, question: Question) -> Explanation:
    """What this worker would do with a request now."""
    return _Telling(worker, question).tell()


class _Telling:
    """One explanation in the making."""

    def __init__(self, worker: Worker, question: Question) -> None:
        self.worker = worker
        self.question = question
        self.installed: Installed = worker.installed
        self.steps: list[Step] = []
        self.routes: tuple[Candidate, ...] = ()
        self.stages: list[Said] = []
        self.live: LiveRoute | None = None
        self.live_upstream: LiveUpstream | None = None
        self.endpoints: tuple[EndpointNow, ...] = ()
        self.moved = (0, b"")  # status and location of a redirect; status alone of what is kept, or a file
        self.forward: Route | None = None  # of a forward proxy
        self.sent = question.target  # what an upstream would be asked for

    def tell(self) -> Explanation:
        client, consumer = self._client(), ""
        if self.moved[0]:
            return self._end(None)
        if self.forward is not None:
            return self._end(self._pass(self.forward, client))
        try:
            target = forwarding.normalise(self.question.target)
        except forwarding.BadTargetError:
            return self._end(answers.BAD_TARGET)
        if target != self.question.target:
            self._step("path", f"its dot segments are resolved: it is routed as {_text(target)}")
        failure = self._route(target, client)
        if failure is None and self.live is not None:
            failure, consumer = self._gate(self.live)
            if self.live.gate is not None and failure is not None:
                self._limits(self.live.limits_before, client, "")
        if failure is None and self.live is not None:
            failure = self._limits(self.live.limits, client, consumer)
            failure = failure or self._lead(self.live, target, client, consumer)
        return self._end(failure)

    def _step(self, topic: str, text: str) -> None:
        self.steps.append(Step(topic, text))

    def _client(self) -> str:
        question = self.question
        listeners = self.installed.snapshot.listeners
        if question.method == b"CONNECT":  # a forward proxy's, whatever its port: the URL is that of the destination
            proxy = next((one for one in listeners if one.forward is not None), None)
            if proxy is not None:
                self.forward = proxy.forward
                self._step("client", f"{question.client}, on listener {proxy.name!r}, a forward proxy")
                return question.client
        fits = [one for one in listeners if one.tls is question.tls and one.forward is None]
        listener = next((one for one in fits if one.port == question.port), fits[0] if fits else None)
        if listener is None:
            self._step("client", f"no listener of this document serves {'https' if question.tls else 'http'}")
            return question.client
        if listener.port != question.port:
            told = f"told as of {listener.name!r}, on {listener.port}"
            self._step("client", f"no such listener is on port {question.port}; {told}")
        facts = self.installed.listeners.get(listener.name, GONE)
        peer = Peer(question.client, 0, listener.port, listener.name, question.tls, "h1")
        client = forwarding.client_address(peer, forwarding.split(question.headers)[1], facts)
        self._step("client", _about_client(peer, client, facts))
        if facts.https_port is not None:
            self.moved = PERMANENT, https_url(question.authority, question.target, facts.https_port)
        return client

    def _route(self, target: bytes, client: str) -> Failure | None:
        question, table = self.question, self.installed.snapshot.table
        ask = Ask(target, question.headers, client)
        considered = consider(table, question.method, question.authority, target, ask)
        self.routes = tuple(Candidate(one.route.name, describe(one.route), one.takes, one.why) for one in considered)
        found = route(table, question.method, question.authority, target, question.headers, client)
        if isinstance(found, NoRoute):
            if found.allowed:
                allowed = _text(b", ".join(sorted(found.allowed)))
                self._step("route", f"none takes {_text(question.method)} here, only {allowed}")
                return answers.METHOD_NOT_ALLOWED
            self._step("route", "none takes it")
            return answers.NO_ROUTE
        self._step("route", f"{found.name!r} takes it: {describe(found)}")
        self.live = self.worker.live_route(self.installed, found, stages_of(found))
        return None

    def _gate(self, live: LiveRoute) -> tuple[Failure | None, str]:
        if live.gate is None:
            return None, ""
        stage = f"authenticate {live.route.authenticator}"
        found = live.gate.identify(self.question.headers)
        if found is None:
            self.stages.append(Said(stage, True, "the request does not show who asks, or shows what is not known"))
            return answers.UNAUTHENTICATED, ""
        text = f"the consumer is {found.consumer!r}" if found.consumer else "it shows nobody, and need not"
        self.stages.append(Said(stage, False, text))
        return None, found.consumer

    def _limits(self, limits: Sequence[Limit], client: str, consumer: str) -> Failure | None:
        refused: Failure | None = None
        question, name = self.question, self.live.route.name if self.live is not None else ""
        for limit in limits:
            key = key_of(
                limit.key, client=client, consumer=consumer, route=name, authority=question.authority,
                headers=question.headers,
            )  # fmt: skip
            text, refuses = self.worker.admission.peek(limit, key)
            if refuses and not limit.dry_run:
                refused = refused or answers.limited(limit.status)
            self.stages.append(Said(f"limit {limit.name}", refuses and not limit.dry_run, text))
        return refused

    def _lead(self, live: LiveRoute, target: bytes, client: str, consumer: str) -> Failure | None:
        """What the route does with a request that it may have."""
        question, traffic = self.question, live.route.traffic
        scheme = b"https" if question.tls else b"http"
        facts = Facts(
            client, scheme, question.authority, question.method, target, b"-", live.route.name, consumer,
            question.headers,
        )  # fmt: skip
        if traffic.redirect is not None:
            self.moved = traffic.redirect.status, traffic.redirect.to.as_url(facts)
            return None
        if traffic.fault is not None:
            fault = traffic.fault
            delay = f"waits {fault.delay_seconds:g} s, {fault.delay_share:.0%} of the requests"
            abort = f"{fault.status or 'is reset'}, {fault.abort_share:.0%} of them"
            self.stages.append(Said("fault", False, f"by chance: {delay}; {abort}"))
        if live.route.cache is not None and (kept := self._kept(live, target, consumer)):
            self.moved = kept, b""
            return answers.NOT_CACHED if kept == answers.NOT_CACHED.status else None
        upstream, self.sent = live.upstream, target
        if traffic.targets is not None:
            upstream = self._aim(live, traffic.targets, client, target)
        if traffic.request is not None and (failure := self._change(traffic.request, target, facts)) is not None:
            return failure
        if traffic.mirror is not None:
            text = f"{traffic.mirror.share:.0%} of the requests, once they are answered"
            self.stages.append(Said(f"mirror {traffic.mirror.upstream}", False, text))
        if live.route.files is not None:
            return self._file(live.route.files, target)
        return self._upstream(upstream, target, client) if upstream is not None else None

    def _kept(self, live: LiveRoute, target: bytes, consumer: str) -> int:
        """The status of the answer that the cache gives, of NOT_CACHED if none may be fetched, 0 if one is."""
        question, cache = self.question, self.installed.cache
        asked = directives(question.headers)
        if question.method not in (b"GET", b"HEAD") or b"no-store" in asked or header(question.headers, b"range"):
            self.stages.append(Said("cache", False, "such a request goes past it"))
            return 0
        key = (live.route.name, consumer, question.authority, target, question.tls)
        entry, is_varied = cache.look(key, question.headers)
        if entry is None:
            text = "kept is only what answers others (Vary)" if is_varied else "nothing is kept that answers it"
            self.stages.append(Said("cache", b"only-if-cached" in asked, text))
            return answers.NOT_CACHED.status if b"only-if-cached" in asked else 0
        resident = self.worker.clock() - entry.since
        use, left = judge(entry.fresh, resident, asked), entry.fresh.lifetime - entry.fresh.age - resident
        asks = use is Use.ASK
        text = f"an answer is kept, fresh for {left:.0f} s; " + ("its upstream is asked" if asks else "it is used")
        self.stages.append(Said("cache", False, text))
        if asks:
            return answers.NOT_CACHED.status if b"only-if-cached" in asked else 0
        return 304 if entry.status == 200 and not_modified(question.headers, entry.headers) else entry.status

    def _aim(self, live: LiveRoute, targets: Targets, client: str, target: bytes) -> LiveUpstream | None:
        headers = self.question.headers
        key = None
        if targets.split_on is not None:
            key = split_key(live.route, targets.split_on, client, target, headers)
        chosen, why = targets.told(headers, key)
        self._step("upstream", why)
        return live.others[chosen].upstream

    def _change(self, changes: RequestChanges, target: bytes, facts: Facts) -> Failure | None:
        try:
            sent, authority, fields = changed(changes, target, facts.authority, self.question.headers, facts)
        except (UnfitError, forwarding.BadTargetError):
            return answers.BAD_FIELD
        self.sent = sent
        if (sent, authority) != (target, facts.authority):
            self._step("rewrite", f"the upstream is asked for {_text(sent)} of host {_text(authority)}")
        names = sorted({name for name, _ in set(fields) ^ set(self.question.headers)})
        if names:
            self._step("rewrite", f"changed are the fields {_text(b', '.join(names))}")
        return None

    def _pass(self, found: Route, client: str) -> Failure | None:
        """What a forward proxy would say; no name is resolved."""
        question, proxy = self.question, found.forward
        assert proxy is not None
        self.live = self.worker.live_route(self.installed, found, stages_of(found))
        failure, consumer = self._gate(self.live)
        failure = failure or self._limits(self.live.limits, client, consumer)
        where = split_authority(question.authority, 443 if question.tls else 80)
        if failure is not None:
            return answers.PROXY_UNAUTHENTICATED if failure is answers.UNAUTHENTICATED else failure
        if where is None:
            return answers.BAD_TARGET
        if not proxy.takes(client):
            return answers.FORWARD_CLIENT
        if not proxy.may_be(*where):
            return answers.FORWARD_REFUSED
        self._step("upstream", f"{where[0]}, port {where[1]}, if its address is one that may be reached")
        return None

    def _file(self, wanted: Files, target: bytes) -> Failure | None:
        """What is on the disk now. It is asked as an exchange's thread would, but on the loop: operators ask rarely."""
        method, headers = self.question.method, self.question.headers
        if method not in files.METHODS:
            return answers.METHOD_NOT_ALLOWED
        try:
            found, said = files.look(wanted, self.sent, method, headers)
        except FolderError:
            self.moved = PERMANENT, with_slash(target)
            return None
        except NoFileError:
            self._step("files", f"nothing below {_text(wanted.root)} is shown for {_text(self.sent)}")
            return answers.NO_FILE
        except OSError as error:
            self._step("files", f"it cannot be read: {error.strerror} ({_text(wanted.root)})")
            return files.failure_of(error)
        found.close()
        coding = f", as {_text(found.stored.coding)}" if found.stored.coding else ""
        self._step("files", f"{_text(wanted.root)}/{_text(found.name)}{coding}, {found.stored.size} bytes")
        self.moved = said.status, b""
        refused = {412: answers.PRECONDITION_FAILED, 416: answers.RANGE_NOT_SATISFIABLE}
        return refused.get(said.status)

    def _upstream(self, live: LiveUpstream, target: bytes, client: str) -> Failure | None:
        self.live_upstream = live
        upstream, state = live.upstream, live.state
        next_one, how = self._next(live, target, client)
        self._step("upstream", f"{upstream.name!r}, by {upstream.balance}: {how}")
        begun = {endpoint.index: (0, 0.0) for endpoint in upstream.endpoints}  # tier, and share of first tries
        for number, tier in reversed(tuple(enumerate(state.tiers, 1))):
            takes = tier.takes if number == 1 or state.tiers[0].takes < 1.0 else 0.0
            for endpoint, weight in zip(tier.endpoints, tier.weights, strict=True):
                begun[endpoint.index] = (number, takes * weight / tier.cumulative[-1])
        self.endpoints = tuple(
            EndpointNow(
                endpoint.address, endpoint.region or "", live.health.state_of(endpoint, one), begun[endpoint.index][0],
                round(begun[endpoint.index][1], 4), one.state.active, endpoint.index == next_one,
            )
            for endpoint, one in zip(upstream.endpoints, live.endpoints, strict=True)
        )  # fmt: skip
        if live.load.active >= live.requests_max:
            return answers.UPSTREAM_FULL["requests"]
        return None

    def _next(self, live: LiveUpstream, target: bytes, client: str) -> tuple[int, str]:
        """The index of the endpoint that would be chosen, -1 where chance decides; and why."""
        upstream, headers = live.upstream, self.question.headers
        if upstream.sticky is not None:
            named = affinity.named_by(upstream.sticky, headers)
            if named is not None and live.state.is_good(named):
                return named, "the one that its cookie names"
            if named is not None:
                return -1, "its cookie names one that cannot be used now, so any other"
        # On a copy: a turn of the round robin is somebody's.
        state = replace(live.state, endpoints=[replace(one) for one in live.state.endpoints], load=replace(live.load))
        key = affinity.key_of(upstream.hash_on, client, target, headers) if upstream.table is not None else None
        several = len(state.tiers[0].endpoints) > 1 or state.tiers[0].takes < 1.0
        if several and key is None and (upstream.balance in BY_CHANCE or upstream.table is not None):
            return -1, _CHANCE.get(upstream.balance, "it has nothing to be hashed by, so any, by weight")
        found = choose(upstream, state, self.worker.draw, (), BalanceAsk(key, self.worker.clock()))
        assert found is not None, "nothing was tried"
        if key is not None:
            return found.index, f"by the hash of its {upstream.hash_on}"
        return found.index, "whose turn is next" if several else "the only one of its tier"

    def _end(self, failure: Failure | None) -> Explanation:
        worker, trial = self.worker, self.worker.trial
        status, why = (failure.status, failure.why) if failure is not None else (self.moved[0], "")
        if failure is not None:
            self._step("answer", f"{failure.status} ({failure.why}), by the gateway itself")
        elif self.moved[0]:
            kept = "from the disk" if self.live is not None and self.live.route.files is not None else "from the cache"
            where = f"to {_text(self.moved[1])}" if self.moved[1] else kept
            self._step("answer", f"{self.moved[0]}, {where}")
        else:
            self._step("answer", "what the upstream answers")
        upstream = self.live_upstream.upstream if self.live_upstream is not None else None
        return Explanation(
            worker.number, self.installed.snapshot.version,
            trial.candidate.snapshot.version if trial is not None else 0,
            worker.verdict_version, worker.verdict_fallback, tuple(self.steps), self.routes, tuple(self.stages),
            upstream.name if upstream is not None else "", upstream.balance if upstream is not None else "",
            self.endpoints, status, why,
        )  # fmt: skip


_CHANCE = {
    "random": "any, by weight",
    "least_request": "of two drawn by weight the one with fewer requests under way",
    "ewma": "of two drawn by weight the one that is expected to be quicker",
}


def _about_client(peer: Peer, client: str, facts: ListenerFacts) -> str:
    if client != peer.address:
        field = "Forwarded" if facts.by_forwarded else "X-Forwarded-For"
        return f"{client}, named in {field} by {peer.address}, which {peer.listener!r} trusts"
    return f"{ip_address(client)}, on listener {peer.listener!r}"


def _text(value: bytes) -> str:
    return value.decode("latin-1")
