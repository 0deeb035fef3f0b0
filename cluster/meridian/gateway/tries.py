"""The tries of one exchange: choose an endpoint, get a connection, and what to do when that comes to nothing.

Invariants:
- Every try that was begun is over exactly once, and says of its endpoint what it has shown: that it answers, that it
  fails, or nothing (the client was at fault, or a kept connection was stale).
- Nothing is tried again once a response has begun for the client, nor a request that may not be repeated, nor one
  whose body is no longer whole, nor beyond the upstream's budget (core/retrying).
"""

from asyncio import TimerHandle
from ssl import SSLError
from typing import TYPE_CHECKING

from meridian.core.balancing import Ask, choose, observe
from meridian.core.outliers import FRESH
from meridian.core.retrying import BLAMELESS, IDEMPOTENT, Cause, Timeouts
from meridian.core.snapshot import Endpoint
from meridian.gateway import affinity, answers
from meridian.gateway.answers import Failure
from meridian.gateway.body import RequestBody
from meridian.gateway.dropping import drop
from meridian.gateway.pool import PoolFullError
from meridian.gateway.source import Source
from meridian.gateway.state import LiveUpstream
from meridian.gateway.stream import DownstreamStream
from meridian.gateway.tracing import Trace
from meridian.gateway.upstream import UpstreamStream, User
from meridian.gateway.upstream_tls import tls_failure
from meridian.gateway.worker import Installed, LiveRoute, Worker
from meridian.wire.events import Event, Headers, RequestHead, ResponseHead

if TYPE_CHECKING:
    from meridian.gateway.hedging import Beside

QUEUE_SECONDS = 1.0
"""Beyond the connect timeout, how long an exchange waits for a connection of a full pool."""

FOREVER = float("inf")
_IDLE_SECONDS_MAX = 1.0  # see _try
_FRESH_ONLY = -1.0


class Tries:
    """The half of an exchange that deals with endpoints, a pool.Waiter; gateway/exchange is the other, and sets all
    of this when it begins."""

    __slots__ = (
        "_body", "_connection", "_ended", "_hedge", "_index", "_limits", "_pause", "_request_ended", "_response_status",
        "_retried", "_source", "_target", "_timeouts", "_trace", "_traceparent", "_tried", "_tries", "_try_began",
        "_upstream", "_waiting", "client", "deadline", "head", "installed", "live", "started", "stream", "worker",
    )  # fmt: skip

    __deletable__ = ("stream",)  # which the compiler wants to know (scripts/compile)

    worker: Worker
    deadline: float  # as worker.Sweepable has it, and the next two
    installed: Installed
    started: float
    head: RequestHead
    stream: DownstreamStream
    live: LiveRoute | None
    client: str  # its address
    _target: bytes  # as it is routed
    _upstream: LiveUpstream  # once there is a route, as is the next
    _timeouts: Timeouts
    _trace: Trace | None
    _body: RequestBody | None  # None: the request has none
    _request_ended: bool
    _connection: UpstreamStream | None
    _source: Source | None  # where no upstream answers
    _waiting: bool  # for a connection
    _index: int  # of the endpoint that takes the present try, -1 before the first
    _tried: tuple[int, ...]
    _tries: int
    _try_began: float  # where the upstream is not plain
    _retried: bool
    _pause: TimerHandle | None  # before a further try
    _limits: tuple[TimerHandle, ...]  # of what may not last longer
    _traceparent: bytes | None
    _hedge: "TimerHandle | Beside | None"  # until a second try may begin, or that try
    _response_status: int  # of the upstream's final head, once it came
    _ended: bool

    # What the other half does

    def _send(self, connection: UpstreamStream) -> None:
        raise NotImplementedError

    def _begin_on(self, connection: UpstreamStream, user: User, index: int, traceparent: bytes | None) -> None:
        raise NotImplementedError

    def _send_request_end(self, connection: UpstreamStream, body: RequestBody) -> None:
        raise NotImplementedError

    def _wait_for_upstream(self) -> None:
        raise NotImplementedError

    def _arm_hedge(self) -> None:
        raise NotImplementedError

    @property
    def _is_hedged(self) -> bool:
        """Whether a second try is under way."""
        raise NotImplementedError

    def _taken_over(self) -> bool:
        """Whether another try is under way that takes the place of the one which is over."""
        raise NotImplementedError

    def _answer(self, failure: Failure, extra: Headers | None = None) -> None:
        raise NotImplementedError

    def _cut(self, reason: str, by: str = "") -> None:
        raise NotImplementedError

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User."""
        raise NotImplementedError

    def on_upstream_writable(self) -> None:
        """See upstream.User."""
        raise NotImplementedError

    # One try

    @property
    def _live(self) -> LiveRoute:
        assert self.live is not None
        return self.live

    def _try(self, idle_seconds_max: float) -> None:
        """One try on one endpoint; answered where it takes no more."""
        worker, live = self.worker, self._upstream
        if live.load.active >= live.requests_max and self._is_full():
            return
        if live.is_plain:
            endpoint = choose(live.upstream, live.state, worker.draw, self._tried)
        else:
            endpoint = self._choose_for_request()
        assert endpoint is not None, "_go_again leaves one that was not tried"
        index = self._index = endpoint.index
        self._tries += 1
        live.tries.value += 1
        live.health.chosen(live, index)
        if idle_seconds_max == FOREVER and self.head.method not in IDEMPOTENT:
            # Not to be repeated if the endpoint closes the connection under it: so not on one that is likely to be.
            idle_seconds_max = _IDLE_SECONDS_MAX
        pool = live.endpoints[index].pool or live.health.pool(live, index)
        try:
            connection = pool.take(self, idle_seconds_max=idle_seconds_max)
        except PoolFullError as full:
            self._try_over(None, full.why)
            self._trip(full.why)
            return
        if connection is not None:
            self._send(connection)
        else:
            self._waiting = True
            self.deadline = worker.coarse_now + live.upstream.connect_timeout_seconds + QUEUE_SECONDS

    def _trip(self, what: str) -> None:
        """No more of this upstream is taken at the moment."""
        live = self._upstream
        live.health.tripped(live, what)
        self._answer(answers.UPSTREAM_FULL[what], [answers.retry_after(self.worker.draw())])

    def _is_full(self) -> bool:
        """Whether the upstream takes no more requests of this priority: then it is answered."""
        load, adaptive = self._upstream.load, self._upstream.load.adaptive
        if load.active >= self._upstream.upstream.breakers.requests_max:
            self._trip("requests")
        elif adaptive is not None and load.active >= adaptive.allowed_to(self._live.route.priority):
            self._trip("concurrency")
        else:
            return False
        return True

    def _choose_for_request(self) -> Endpoint | None:
        """Where the algorithm wants to know more than who is there: of the request, or the time."""
        live, upstream, headers = self._upstream, self._upstream.upstream, self.head.headers
        self._try_began = now = self.worker.clock()
        if upstream.hedge is not None and not self._tries:
            self._arm_hedge()
        if upstream.sticky is not None:
            named = affinity.named_by(upstream.sticky, headers)
            if named is not None and named not in self._tried and live.state.is_good(named):
                return upstream.endpoints[named]
        key = None
        if upstream.table is not None:
            key = affinity.key_of(upstream.hash_on, self.client, self._target, headers)
        return choose(upstream, live.state, self.worker.draw, self._tried, Ask(key, now))

    def _on_first_byte(self, head: ResponseHead, now: float) -> None:
        """A response has begun of an upstream that is not plain, or of an endpoint that is not fresh."""
        live, index, upstream = self._upstream, self._index, self._upstream.upstream
        if not live.is_plain:
            seconds = now - self._try_began
            if live.load.adaptive is not None and head.status < 500 and head.status != 429:  # refusals are quick
                live.load.adaptive.observe(seconds, live.load.active)
            if live.load.latencies is not None:
                live.load.latencies.observe(seconds)
                if self._hedge is not None:
                    self._hedge.cancel()
                    self._hedge = None
            if live.is_timed:
                observe(live.endpoints[index].state, seconds, now)
            if live.compares:
                sample = live.endpoints[index].sample
                sample.answers += 1
                sample.seconds += seconds
                sample.errors += head.status >= 500
            if upstream.sticky is not None and affinity.named_by(upstream.sticky, self.head.headers) != index:
                head.headers.append(affinity.set_cookie(upstream.sticky, index))
        live.health.answered(live, index, head.status, now)

    def on_connected(self, connection: UpstreamStream) -> None:
        """See pool.Waiter."""
        self._waiting = False
        self._send(connection)

    def on_connect_failed(self, error: Exception) -> None:
        """See pool.Waiter. Nothing was sent, so any request may go elsewhere."""
        self._waiting = False
        failure = answers.UPSTREAM_REFUSED
        if isinstance(error, TimeoutError):
            failure = answers.CONNECT_TIMEOUT
            self._upstream.health.too_late(self._upstream, "connect")
        elif isinstance(error, SSLError):
            failure = tls_failure(error)
        self._try_over(False, failure.why)
        self._again_or(failure, Cause.CONNECT)

    def _leave_upstream(self, *, reuse: bool) -> bool:
        """The connection goes back to its pool, or ends; a place in the queue is given up, and so is a pause. True: a
        try is to be told that it is over."""
        connection, self._connection = self._connection, None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        elif self._waiting:
            self._waiting = False
            self._upstream.health.pool(self._upstream, self._index).forget(self)
            return True
        elif connection is not None:
            if reuse:
                connection.release()
            else:
                connection.abort()
            return True
        return False

    def _try_over(self, succeeded: bool | None, why: str | None) -> None:
        """Once for each try. None: it says nothing of the endpoint. A 5xx is a success here: the endpoint answers."""
        live = self._upstream
        live.health.over(live, self._index, succeeded, self.worker.coarse_now)
        if self._trace is not None:
            endpoint = live.upstream.endpoints[self._index].address
            self._trace.end_try(self.head.method, endpoint, self._tries, self._response_status or None, why)

    # What goes wrong

    def _on_upstream_lost(self, reason: str) -> None:
        """The upstream closed, reset, or sent what is no HTTP."""
        connection = self._connection
        assert connection is not None
        silent, stale, malformed = connection.silent, connection.reused, connection.malformed
        self._leave_upstream(reuse=False)
        failure = connection.fault or (answers.UPSTREAM_MALFORMED if malformed else answers.UPSTREAM_LOST)
        if self._response_status:
            self._try_over(False, failure.why)
            self._cut(reason)
        elif connection.unprocessed:
            self._try_over(None, failure.why)
            self._again_or(failure, Cause.UNPROCESSED)
        elif malformed:
            self._try_over(False, failure.why)
            if self._hedge is None or not self._taken_over():
                self._answer(failure)
        else:
            # A connection that was kept alive may have been closed at any time: that says nothing of the endpoint.
            cause = Cause.STALE if silent and stale else Cause.RESET
            self._try_over(None if cause in BLAMELESS else False, failure.why)
            self._again_or(failure, cause)

    def expire(self, now: float) -> None:
        """The deadline has passed. Whose turn it was decides what that means."""
        self.deadline = FOREVER
        if self._source is not None:
            self._source.expire()
            return
        waiting, connection, live = self._waiting, self._connection, self._upstream
        if connection is None and not waiting:
            return
        client_is_slow = not self.stream.writable
        self._leave_upstream(reuse=False)
        if waiting:
            self._try_over(None, answers.UPSTREAM_BUSY.why)
            self._answer(answers.UPSTREAM_BUSY, [answers.retry_after(self.worker.draw())])
        elif self._response_status and client_is_slow:
            self._try_over(None, answers.UPSTREAM_TIMEOUT.why)
            self._cut("the client does not read", "_client")
        elif self._response_status:
            live.health.too_late(live, "idle")
            self._try_over(False, answers.UPSTREAM_TIMEOUT.why)
            self._cut("the upstream fell silent", "_idle")
        elif not (self._request_ended or self.head.protocol) and connection is not None and connection.writable:
            self._try_over(None, answers.BODY_TIMEOUT.why)
            self._answer(answers.BODY_TIMEOUT)
        else:
            failure = answers.TRY_TIMEOUT if self._timeouts.per_try else answers.UPSTREAM_TIMEOUT
            if live.load.adaptive is not None:
                live.load.adaptive.observe(self.worker.clock() - self._try_began, live.load.active)
            live.health.too_late(live, "try" if self._timeouts.per_try else "response")
            # What the upstream says is not read while the client takes nothing: that does not speak against it.
            self._try_over(None if client_is_slow else False, failure.why)
            self._again_or(failure, Cause.TIMEOUT)

    def _answered_badly(self, head: ResponseHead, events: list[Event]) -> bool:
        """Whether this response is worth another try: then nobody sees it. `events` is the batch that it came in."""
        hedged = self._is_hedged
        if head.status not in self._live.retry.statuses or not (hedged or self._may_go_again(Cause.STATUS)):
            return False
        worker, live = self.worker, self._upstream
        if not live.is_plain or live.endpoints[self._index].outlier is not FRESH:
            self._on_first_byte(head, worker.clock())
        connection, self._connection = self._connection, None
        assert connection is not None
        drop(connection, events)
        self._response_status = head.status  # for the span of the try
        self._try_over(True, None)
        self._response_status = 0
        if not hedged or not self._taken_over():
            self._go_again(Cause.STATUS, _retry_after(head.headers))
        return True

    # The one way back

    def _again_or(self, failure: Failure, cause: Cause) -> None:
        """Another try if policy, body and budget allow it, else the failure is the answer."""
        if self._hedge is not None and self._taken_over():
            return
        if self._may_go_again(cause):
            self._go_again(cause)
        else:
            self._answer(failure)

    def _may_go_again(self, cause: Cause) -> bool:
        """Takes room for a further try, if there is to be one."""
        return self._live.retry.allows(cause, self.head.method, self._tries) and self._take_room(cause.value)

    def _take_room(self, what: str) -> bool:
        live, body = self._upstream, self._body
        if body is not None and body.kept is None:
            return False
        if not live.health.allows_another(live, what, self.worker.coarse_now, retrying=self._retried):
            return False
        if not self._retried:
            self._retried = True
            live.load.retrying += 1
        return True

    def _go_again(self, cause: Cause, asked_seconds: float = 0.0) -> None:
        """At once or after a pause; elsewhere while an endpoint is left that was not tried, unless the connection alone
        was at fault."""
        if cause is not Cause.STALE and self._index not in self._tried:
            self._tried = (*self._tried, self._index)
        rests = len(self._tried) >= len(self._upstream.endpoints)
        if rests:  # all were tried: from the beginning, but for the last one
            self._tried = (self._index,) if len(self._upstream.endpoints) > 1 else ()
        blameless = cause in BLAMELESS
        idle_seconds_max = _FRESH_ONLY if blameless else FOREVER
        pause = self._live.retry.pause_seconds(
            self._tries, self.worker.draw, at_once=blameless or not rests, asked_seconds=asked_seconds
        )
        if pause:
            self.deadline = FOREVER
            self._pause = self.worker.loop.call_later(pause, self._resume, idle_seconds_max)
        else:
            self._try(idle_seconds_max)

    def _resume(self, idle_seconds_max: float) -> None:
        """The pause is over."""
        self._pause = None
        self._try(idle_seconds_max)


def _retry_after(headers: Headers) -> float:
    """What an upstream asks for, in seconds (RFC 9110 section 10.2.3). A date is taken for longer than any pause: it
    says whole seconds, and by the upstream's clock."""
    for name, value in headers:
        if name == b"retry-after":
            return float(value) if value.isdigit() and len(value) <= 9 else FOREVER
    return 0.0
