"""The tries of one exchange: choose an endpoint, get a connection, and what to do when that comes to nothing.

Invariants:
- Every try that was begun is over exactly once, and says of its endpoint what it has shown: that it answers, that it
  fails, or nothing (the client was at fault, or a kept connection was stale).
- Nothing is tried again once a byte of a response has come, nor a request that may not be repeated, nor one whose
  body is no longer whole, nor beyond the worker's budget.
"""

from meridian.core.balancing import Ask, choose, observe
from meridian.core.snapshot import Endpoint
from meridian.gateway import affinity, answers
from meridian.gateway.answers import Failure
from meridian.gateway.body import RequestBody
from meridian.gateway.pool import PoolFullError
from meridian.gateway.state import LiveUpstream
from meridian.gateway.stream import DownstreamStream
from meridian.gateway.tracing import Trace
from meridian.gateway.upstream import UpstreamConnection
from meridian.gateway.worker import LiveRoute, Sweepable, Worker
from meridian.wire.events import Event, Headers, RequestHead, ResponseHead

QUEUE_SECONDS = 1.0
"""Beyond the connect timeout, how long an exchange waits for a connection of a full pool."""

FOREVER = float("inf")
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2
_IDLE_SECONDS_MAX = 1.0  # see _try
_FRESH_ONLY = -1.0


class Tries(Sweepable):
    """The half of an exchange that deals with endpoints, a pool.Waiter; gateway/exchange is the other, and sets all
    of this when it begins."""

    __slots__ = (
        "_body", "_connection", "_ended", "_index", "_request_ended", "_response_status", "_retried", "_target",
        "_trace", "_tried", "_tries", "_try_began", "_upstream", "_waiting", "client", "head", "live", "stream",
        "worker",
    )  # fmt: skip

    worker: Worker
    head: RequestHead
    stream: DownstreamStream
    live: LiveRoute | None
    client: str  # its address
    _target: bytes  # as it is routed
    _upstream: LiveUpstream  # once there is a route
    _trace: Trace | None
    _body: RequestBody | None  # None: the request has none
    _request_ended: bool
    _connection: UpstreamConnection | None
    _waiting: bool  # for a connection
    _index: int  # of the endpoint that takes the present try, -1 before the first
    _tried: tuple[int, ...]
    _tries: int
    _try_began: float  # where the upstream is not plain
    _retried: bool
    _response_status: int  # of the upstream's final head, once it came
    _ended: bool

    # What the other half does

    def _send(self, connection: UpstreamConnection) -> None:
        raise NotImplementedError

    def _answer(self, failure: Failure, extra: Headers | None = None) -> None:
        raise NotImplementedError

    def _cut(self, reason: str) -> None:
        raise NotImplementedError

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User."""
        raise NotImplementedError

    def on_upstream_writable(self) -> None:
        """See upstream.User."""
        raise NotImplementedError

    # One try

    def _try(self, idle_seconds_max: float) -> bool:
        """One try on one endpoint. False: no endpoint is left to be tried, or its pool is full (then answered)."""
        worker, live = self.worker, self._upstream
        if live.load.active >= live.requests_max:
            self._trip("requests")
            return False
        if live.is_plain:
            endpoint = choose(live.upstream, live.state, worker.draw, self._tried)
        else:
            endpoint = self._choose_for_request()
        if endpoint is None:
            return False
        index = self._index = endpoint.index
        self._tries += 1
        live.tries.value += 1
        live.health.chosen(live, index)
        if idle_seconds_max == FOREVER and self.head.method not in _IDEMPOTENT:
            # Not to be repeated if the endpoint closes the connection under it: so not on one that is likely to be.
            idle_seconds_max = _IDLE_SECONDS_MAX
        pool = live.endpoints[index].pool or live.health.pool(live, index)
        try:
            connection = pool.take(self, idle_seconds_max=idle_seconds_max)
        except PoolFullError as full:
            self._try_over(None, full.why)
            self._trip(full.why)
            return False
        if connection is not None:
            self._send(connection)
        else:
            self._waiting = True
            self.deadline = worker.coarse_now + live.upstream.connect_timeout_seconds + QUEUE_SECONDS
        return True

    def _trip(self, what: str) -> None:
        """No more of this upstream is taken at the moment."""
        live = self._upstream
        live.health.tripped(live, what)
        self._answer(answers.UPSTREAM_FULL[what], [answers.proxy_status(what)])

    def _choose_for_request(self) -> Endpoint | None:
        """Where the algorithm wants to know more than who is there: of the request, or the time."""
        live, upstream, headers = self._upstream, self._upstream.upstream, self.head.headers
        self._try_began = now = self.worker.clock()
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

    def on_connected(self, connection: UpstreamConnection) -> None:
        """See pool.Waiter."""
        self._waiting = False
        self._send(connection)

    def on_connect_failed(self, error: Exception) -> None:
        """See pool.Waiter. Nothing was sent, so any request may go elsewhere."""
        self._waiting = False
        failure = answers.UPSTREAM_TIMEOUT if isinstance(error, TimeoutError) else answers.UPSTREAM_REFUSED
        self._try_over(False, failure.why)
        self._again_or(failure, elsewhere=True)

    def _leave_upstream(self, *, reuse: bool) -> None:
        """The connection goes back to its pool, or ends; a place in the queue is given up."""
        connection, self._connection = self._connection, None
        if self._waiting:
            self._waiting = False
            self._upstream.health.pool(self._upstream, self._index).forget(self)
        elif connection is None:
            return
        elif reuse:
            connection.release()
        else:
            connection.abort()

    def _try_over(self, succeeded: bool | None, why: str | None) -> None:
        """Once for each try. None: it says nothing of the endpoint. A 5xx is a success here: the endpoint answers."""
        if self.live is None or self._index < 0:
            return
        live = self._upstream
        if succeeded is False:
            live.failures.value += 1
            if live.compares:
                sample = live.endpoints[self._index].sample
                sample.answers += 1
                sample.errors += 1
            if live.is_timed:  # else one that refuses at once would look like the quickest
                now = self.worker.coarse_now
                observe(live.endpoints[self._index].state, live.upstream.connect_timeout_seconds, now)
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
        failure = answers.UPSTREAM_MALFORMED if malformed else answers.UPSTREAM_LOST
        if self._response_status:
            self._try_over(False, failure.why)
            self._cut(reason)
        elif silent and self.head.method in _IDEMPOTENT:
            # A connection that was kept alive may have been closed at any time: that says nothing of the endpoint.
            self._try_over(None if stale else False, failure.why)
            self._again_or(failure, elsewhere=not stale)
        else:
            self._try_over(None if silent and stale else False, failure.why)
            self._answer(failure)

    def _again_or(self, failure: Failure, *, elsewhere: bool) -> None:
        """The one way back: another try if tries, body and budget allow it, else the failure is the answer."""
        worker = self.worker
        if elsewhere:
            self._tried = (*self._tried, self._index)
        replayable = self._body is None or self._body.kept is not None
        if replayable and self._tries <= self._upstream.upstream.retries and worker.may_retry():
            if not self._retried:
                self._retried = True
                worker.retrying += 1
            if self._try(FOREVER if elsewhere else _FRESH_ONLY) or self._ended:
                return
        self._answer(failure)

    def expire(self, now: float) -> None:
        """The deadline has passed. Whose turn it was decides what that means."""
        self.deadline = FOREVER
        waiting, connection = self._waiting, self._connection
        if connection is None and not waiting:
            return
        client_is_slow = not self.stream.writable
        self._leave_upstream(reuse=False)
        if waiting:
            self._try_over(None, answers.UPSTREAM_BUSY.why)
            self._answer(answers.UPSTREAM_BUSY)
        elif self._response_status:
            self._try_over(None if client_is_slow else False, answers.UPSTREAM_TIMEOUT.why)
            self._cut("the client does not read" if client_is_slow else "the upstream fell silent")
        elif not self._request_ended and connection is not None and connection.writable:
            self._try_over(None, answers.BODY_TIMEOUT.why)
            self._answer(answers.BODY_TIMEOUT)
        else:  # what the upstream says is not read while the client takes nothing: that does not speak against it
            self._try_over(None if client_is_slow else False, answers.UPSTREAM_TIMEOUT.why)
            self._answer(answers.UPSTREAM_TIMEOUT)
