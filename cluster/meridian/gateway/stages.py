"""The steps of an exchange before its upstream: who asks, which route takes it, and the stages of that route.

Stages stand in one list, `ORDER`, which is the order in which they run, whatever the order of words in a document. A
route has those of them that it needs, found once for each snapshot: a route without any costs its requests nothing.
A stage lets the exchange go on, or answers it, or keeps it and calls `_walk` later.
"""

from collections.abc import Callable
from functools import partial
from zlib import crc32

from meridian.core.hashing import fraction_of
from meridian.core.limit_keys import host_of, key_of
from meridian.core.routing import NoRoute, Route, route
from meridian.core.snapshot import Limit
from meridian.core.templates import Facts
from meridian.core.traffic import RequestChanges, UnfitError
from meridian.gateway import affinity, answers, files, forward_proxy, forwarding, grpc
from meridian.gateway.admission import Verdict
from meridian.gateway.answers import Failure
from meridian.gateway.caching import Recorder, look_up
from meridian.gateway.forwarding import GONE, ListenerFacts
from meridian.gateway.hedging import Hedging
from meridian.gateway.stream import Peer
from meridian.gateway.tracing import begin_trace
from meridian.gateway.tries import FOREVER
from meridian.gateway.worker import LiveRoute
from meridian.wire.events import Headers

HTTPS_PORT = 443  # that a URL need not name
PERMANENT = 308  # and with the same method


class Stages(Hedging):
    """The third of an exchange that comes before the upstream; gateway/exchange sets all of this when it begins."""

    __slots__ = (
        "_consumer", "_facts", "_fields", "_first_byte", "_held", "_recorder", "_response_bytes", "_said",
        "_sent_authority", "_sent_target", "_silence_seconds", "_stage", "_told", "_trace_id", "_waited", "peer",
        "request_id",
    )  # fmt: skip

    peer: Peer
    request_id: bytes
    _facts: ListenerFacts
    _fields: Headers  # that go on as they came
    _said: dict[bytes, bytes]  # those that are ours to say, as the client said them
    _consumer: str
    _told: Headers  # of limits
    _held: tuple[tuple[Limit, str], ...]  # of limits, until the end
    _trace_id: bytes
    _stage: int  # the next one
    _recorder: Recorder | None  # what stands before the client, where what it gets may be kept
    _waited: bool  # in vain for another's fetch
    _response_bytes: int  # of the body, so far
    _first_byte: float  # when the head of the response came; 0.0: not yet
    _silence_seconds: float  # that nothing may come or be taken
    _sent_authority: bytes  # those for the upstream
    _sent_target: bytes

    def _redirect_to(self, location: bytes, status: int) -> None:
        raise NotImplementedError

    def _break(self, failure: Failure) -> None:
        raise NotImplementedError

    def _may_upgrade(self) -> bool:
        raise NotImplementedError

    def _complete(self, headers: Headers) -> None:
        raise NotImplementedError

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        raise NotImplementedError

    @property
    def route_name(self) -> str:
        """See worker.Sweepable."""
        return self.live.route.name if self.live is not None else ""

    def start(self) -> None:
        """Walks as far as it goes without waiting."""
        self._identify()
        if self._facts.https_port is not None:
            self._to_https(self._facts.https_port)
        elif self.head.early and not forwarding.may_be_early(self.head):
            self._answer(answers.TOO_EARLY)
        elif (self.head.body_length or 0) > self._facts.guards.body_bytes_max:
            self._answer(answers.TOO_LARGE)
        elif self._route() if self._facts.forward is None else self._pass(self._facts.forward):
            self._walk()

    def _identify(self) -> None:
        """Who asks, and under which names the request will be found again."""
        worker, installed, peer = self.worker, self.installed, self.peer
        facts = self._facts = installed.listeners.get(peer.listener, GONE)
        self._fields, self._said = forwarding.split(self.head.headers)
        given = None
        if facts.trusted:
            self.client = forwarding.client_address(peer, self._said, facts)
            given = forwarding.request_id(peer, self._said, facts)
        self.request_id = given or worker.next_request_id()
        ratio = installed.snapshot.trace_ratio
        if ratio != 0.0 or b"traceparent" in self._said:
            traced = begin_trace(worker, self._said.get(b"traceparent"), ratio)
            self._trace, self._trace_id, self._traceparent = traced.trace, traced.trace_id, traced.traceparent

    def _route(self) -> bool:
        """Which route takes it. False: answered."""
        head = self.head
        try:
            self._target = forwarding.normalise(head.target)
        except forwarding.BadTargetError:
            self._answer(answers.BAD_TARGET)
            return False
        found = route(
            self.installed.snapshot.table, head.method, head.authority, self._target, head.headers, self.client
        )
        if isinstance(found, NoRoute):
            if found.allowed:
                self._answer(answers.METHOD_NOT_ALLOWED, [(b"allow", b", ".join(sorted(found.allowed)))])
            else:
                self._answer(answers.NO_ROUTE)
            return False
        return self._take(found) and (not head.protocol or self._may_upgrade())

    def _pass(self, found: Route) -> bool:
        """The request is for others, through this proxy: its path is theirs to read. False: answered."""
        if not self.head.authority:
            self._answer(answers.NOT_FORWARDED)
            return False
        self._target, self._fields = self.head.target, forwarding.passing(self.head.headers)
        return self._take(found)

    def _take(self, found: Route) -> bool:
        """This route, unless there is too much to do. False: answered."""
        self._sent_target, self._sent_authority = self._target, self.head.authority
        self._lead_to(
            self.installed.routes.get(found.name) or self.worker.live_route(self.installed, found, stages_of(found))
        )
        overload = self.worker.overload
        if overload is not None and overload.sheds(found.priority, len(self.worker.exchanges), self.worker.draw):
            self._shed()
            return False
        return True

    def _lead_to(self, live: LiveRoute) -> None:
        """The route, and which of its upstreams."""
        self.live = live
        self._timeouts = live.timeouts
        if self._limits:  # of another upstream that it might have gone to
            for limit in self._limits:
                limit.cancel()
            self._limits = ()
        if live.timeouts.bounded:
            self._bound()
        if (upstream := live.upstream) is None:
            return
        self._upstream = upstream
        if upstream.upstream.protocol == "h2" and (seconds := grpc.timeout_seconds(self.head.headers)) is not None:
            self._limit_to(seconds, answers.DEADLINE, "deadline")

    def _to_https(self, port: int) -> None:
        """All of a listener's requests are sent to the one with TLS."""
        if not self.head.authority:
            self._answer(answers.BAD_TARGET)
        else:
            self._redirect_to(https_url(self.head.authority, self.head.target, port), PERMANENT)

    def _shed(self) -> None:
        """It is not served, because there is more to do than this worker can."""
        worker = self.worker
        priority = self._live.route.priority.name.lower()
        worker.metrics.counter(
            "meridian_requests_shed_total", "Requests turned away because the worker had too much to do.",
            priority=priority,
        ).value += 1  # fmt: skip
        self._answer(answers.SHED, [answers.retry_after(worker.draw())])

    def _walk(self) -> None:
        """From the next stage on, as far as it goes without waiting; after the last one comes the upstream."""
        stages = self._live.stages
        while self._stage < len(stages):
            self._stage += 1
            if not stages[self._stage - 1](self):
                return
        self._upstream.load.requests += 1
        self._try(FOREVER)

    # The stages, in their order

    def _admit(self) -> bool:
        """Who asks, and whether every limit of the route admits that."""
        live = self._live
        if live.gate is not None:
            found = live.gate.identify(self.head.headers, self.peer.names)
            if found is None:
                # Limits that stand before the question count those who cannot answer it, too.
                self._limit(live.limits_before, self._challenge)
                return False
            self._consumer = found.consumer
            if found.spent_field:  # the secret was for us
                self._fields = [field for field in self._fields if field[0] != found.spent_field]
        self._limit(live.limits, self._walk)
        return False

    def _tell_client(self) -> bool:
        """DNS steers by who asks. Who that is has been decided here, by the proxies that the listener trusts."""
        self._fields = [*self._fields, (b"x-real-ip", self.client.encode())]
        return True

    def _limit(self, limits: tuple[Limit, ...], then: Callable[[], None]) -> None:
        """Calls `then` if all of them admit it: now, or when the owners of keys have answered."""
        if not limits:
            then()
            return
        head, route_name, admission = self.head, self._live.route.name, self.installed.admission
        asked = [
            (limit, key_of(
                limit.key, client=self.client, consumer=self._consumer, route=route_name, authority=head.authority,
                headers=head.headers,
            ))
            for limit in limits
        ]  # fmt: skip
        if admission.consults(asked):
            admission.consult(asked, partial(self._decided, then))
        else:
            self._decided(then, admission.decide(asked))

    def _decided(self, then: Callable[[], None], verdict: Verdict) -> None:
        """What the limits say."""
        if self._ended:  # the client left while owners were asked
            self.installed.admission.release(verdict.held)
            return
        self._told, self._held = verdict.told, verdict.held
        if verdict.refused_by is None:
            then()
        else:
            self._answer(answers.limited(verdict.refused_by.status))

    def _challenge(self) -> None:
        assert self._live.gate is not None
        if (challenge := self._live.gate.challenge) and self._live.route.forward is not None:
            self._answer(answers.PROXY_UNAUTHENTICATED, [(b"proxy-authenticate", challenge)])
        elif challenge:
            self._answer(answers.UNAUTHENTICATED, [(b"www-authenticate", challenge)])
        else:
            self._answer(answers.UNKNOWN_CERTIFICATE if self.peer.names else answers.NO_CERTIFICATE)

    def _redirect(self) -> bool:
        """The route's answer is where to ask instead."""
        redirect = self._live.route.traffic.redirect
        assert redirect is not None
        self._redirect_to(redirect.to.as_url(self._known()), redirect.status)
        return False

    def _disturb(self) -> bool:
        """Faults that the document wants."""
        fault, draw = self._live.route.traffic.fault, self.worker.draw
        assert fault is not None
        aborts = fault.abort_share > 0.0 and draw() < fault.abort_share
        if fault.delay_share > 0.0 and draw() < fault.delay_share:
            self._pause = self.worker.loop.call_later(fault.delay_seconds, self._after_delay, aborts)
            return False
        if aborts:
            self._abort()
        return not aborts

    def _after_delay(self, aborts: bool) -> None:
        self._pause = None
        if aborts:
            self._abort()
        else:
            self._walk()

    def _abort(self) -> None:
        fault = self._live.route.traffic.fault
        assert fault is not None
        if fault.status:
            self._answer(answers.fault(fault.status))
        else:
            self._break(answers.FAULT)

    def _aim(self) -> bool:
        """Which of the route's upstreams takes it."""
        route, headers = self._live.route, self.head.headers
        targets = route.traffic.targets
        assert targets is not None
        key = None
        if targets.split_on is not None:
            key = split_key(route, targets.split_on, self.client, self._target, headers)
        self._lead_to(self._live.others[targets.choose(headers, key, self.worker.draw)])
        return True

    def _change(self) -> bool:
        """Path, host and fields as the upstream is to see them."""
        changes = self._live.route.traffic.request
        assert changes is not None
        try:
            self._sent_target, self._sent_authority, self._fields = changed(
                changes, self._target, self.head.authority, self._fields, self._known()
            )
        except (UnfitError, forwarding.BadTargetError):
            self._answer(answers.BAD_FIELD)
            return False
        return True

    def _known(self) -> Facts:
        """What variables stand for."""
        head = self.head
        return Facts(
            self.client, b"https" if self.peer.tls else b"http", head.authority, head.method, self._target,
            self.request_id, self._live.route.name, self._consumer, head.headers,
        )  # fmt: skip


def https_url(authority: bytes, target: bytes, port: int) -> bytes:
    """Where the same thing is found over TLS."""
    host = host_of(authority)
    where = b"https://" + (host if port == HTTPS_PORT else b"%b:%d" % (host, port))
    return where + (b"/" if target == b"*" else target)


def split_key(route: Route, split_on: str, client: str, target: bytes, headers: Headers) -> float | None:
    """Where in a split a request belongs, in [0, 1): by another hash for every route, so that not the same hundredth of
    all clients tries whatever is new. None: it has nothing to be told apart by."""
    found = affinity.key_of(split_on, client, target, headers)
    return fraction_of(found, crc32(route.name.encode())) if found is not None else None


def changed(
    changes: RequestChanges, target: bytes, authority: bytes, fields: Headers, facts: Facts
) -> tuple[bytes, bytes, Headers]:
    """Target, host and fields for the upstream. Raises UnfitError or forwarding.BadTargetError."""
    rewriting, edits = changes.rewriting, changes.edits
    if rewriting is not None:
        target = forwarding.normalise(rewriting.target(target, facts))  # a new path may have dot segments
        authority = rewriting.authority(authority, facts)
    return target, authority, edits.apply(fields, facts) if edits is not None else fields


Stage = Callable[[Stages], bool]
"""Whether the exchange goes on at once."""

ORDER: tuple[tuple[str, Callable[[Route], bool], Stage], ...] = (
    # Nothing is done for those who may not ask; what they are told says nothing of what lies behind.
    ("admit", lambda found: bool(found.limits) or found.authenticator is not None, Stages._admit),
    ("redirect", lambda found: found.traffic.redirect is not None, Stages._redirect),
    # Faults are of the service as its clients see it, so whoever is refused sees none.
    ("disturb", lambda found: found.traffic.fault is not None, Stages._disturb),
    ("may_reach", lambda found: found.forward is not None, forward_proxy.may_reach),
    # What is kept was changed on its way to the upstream, and is changed anew on its way to each client.
    ("cache", lambda found: found.cache is not None, look_up),
    ("aim", lambda found: found.traffic.targets is not None, Stages._aim),
    ("change", lambda found: found.traffic.request is not None, Stages._change),
    ("tell_client", lambda found: found.dns, Stages._tell_client),
    # Where others have an upstream; the path is what `change` has made of it.
    ("files", lambda found: found.files is not None, files.serve),
    ("reach", lambda found: found.forward is not None, forward_proxy.reach),
)
"""Name, which routes need it, and what it does."""


def stages_of(found: Route) -> tuple[Stage, ...]:
    """The stages of a route."""
    return tuple(run for _, needed, run in ORDER if needed(found))
