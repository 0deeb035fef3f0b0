"""The steps of an exchange before its upstream: who asks, which route takes it, and the stages of that route.

Stages stand in one list, `ORDER`, which is the order in which they run, whatever the order of words in a document. A
route has those of them that it needs, found once for each snapshot: a route without any costs its requests nothing.
A stage lets the exchange go on, or answers it, or keeps it and calls `_walk` later.
"""

from collections.abc import Callable
from functools import partial

from meridian.core.limit_keys import key_of
from meridian.core.routing import NoRoute, Route, route
from meridian.core.snapshot import Limit
from meridian.gateway import answers, forwarding, grpc
from meridian.gateway.admission import Verdict
from meridian.gateway.forwarding import GONE, ListenerFacts
from meridian.gateway.hedging import Hedging
from meridian.gateway.stream import Peer
from meridian.gateway.tracing import begin_trace
from meridian.gateway.tries import FOREVER
from meridian.wire.events import Headers


class Stages(Hedging):
    """The third of an exchange that comes before the upstream; gateway/exchange sets all of this when it begins."""

    __slots__ = (
        "_consumer", "_facts", "_fields", "_held", "_said", "_stage", "_told", "_trace_id", "peer",
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

    def start(self) -> None:
        """Walks as far as it goes without waiting."""
        self._identify()
        if self._route():
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
        self.live = live = self.installed.routes.get(found.name) or self.worker.live_route(
            self.installed, found, stages_of(found)
        )
        self._upstream = live.upstream
        self._timeouts = live.timeouts
        if live.timeouts.bounded:
            self._bound()
        if live.upstream.upstream.protocol == "h2" and (seconds := grpc.timeout_seconds(head.headers)) is not None:
            self._limit_to(seconds, answers.DEADLINE, "deadline")
        return True

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
            found = live.gate.identify(self.head.headers)
            if found is None:
                # Limits that stand before the question count those who cannot answer it, too.
                self._limit(live.limits_before, self._challenge)
                return False
            self._consumer = found.consumer
            if found.spent_field:  # the secret was for us
                self._fields = [field for field in self._fields if field[0] != found.spent_field]
        self._limit(live.limits, self._walk)
        return False

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
        self._answer(answers.UNAUTHENTICATED, [(b"www-authenticate", self._live.gate.challenge)])


Stage = Callable[[Stages], bool]
"""Whether the exchange goes on at once."""

ORDER: tuple[tuple[str, Callable[[Route], bool], Stage], ...] = (
    # Nothing is done for those who may not ask; what they are told says nothing of what lies behind.
    ("admit", lambda found: bool(found.limits) or found.authenticator is not None, Stages._admit),
)
"""Name, which routes need it, and what it does."""


def stages_of(found: Route) -> tuple[Stage, ...]:
    """The stages of a route."""
    return tuple(run for _, needed, run in ORDER if needed(found))
