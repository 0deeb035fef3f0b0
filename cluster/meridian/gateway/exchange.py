"""The walk of one request, from its head to the last byte of its answer. Read it from the top.

    identify -> route -> limit -> try (choose, connect, send) -> pump -> end
                                   ^---- before the first byte of a response a failure may come back here

The exchange is driven by events of two connections and awaits nothing: on the common path there is no task, no
future, no lock and no timer of its own (the worker's sweep looks at `deadline`).

Invariants:
- It takes one snapshot, once, and ends on it.
- Its end is counted exactly once, as one `Outcome`, whatever happened.
- What it holds of bodies is bounded: one batch from either side, plus what a retry may need (REPLAY_BYTES_MAX).
- A response that was cut at its upstream is cut for the client too: never a clean end.
"""

from meridian.core.balancing import choose
from meridian.core.outliers import FRESH
from meridian.core.routing import NoRoute, route
from meridian.gateway import answers, forwarding
from meridian.gateway.answers import CLIENT_GONE_STATUS, Failure
from meridian.gateway.forwarding import ListenerFacts
from meridian.gateway.outcome import Outcome
from meridian.gateway.pool import PoolFullError
from meridian.gateway.state import LiveUpstream
from meridian.gateway.stream import DownstreamStream, Peer
from meridian.gateway.tracing import Trace
from meridian.gateway.upstream import UpstreamConnection
from meridian.gateway.worker import LiveRoute, Sweepable, Worker
from meridian.telemetry import context
from meridian.wire.events import Data, End, Event, Headers, Informational, RequestHead, Reset, ResponseHead, Trailers
from meridian.wire.http1_parts import MalformedError

REPLAY_BYTES_MAX = 64 * 1024
"""A request body up to this size is kept until the response begins, so that it can be sent again."""

SILENCE_SECONDS = 60.0
"""How long a body may stand still at the client's end, sent or taken: longer than any loss that TCP recovers from,
short enough that a worker's connections cannot be held by clients that do nothing."""

QUEUE_SECONDS = 1.0
"""Beyond the connect timeout, how long an exchange waits for a connection of a full pool."""

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2
_IDLE_SECONDS_MAX = 1.0  # see _try
_FOREVER = float("inf")
_FRESH_ONLY = -1.0


class Exchange(Sweepable):
    """See the module's head; to its client a stream.Exchange, to its upstream a pool.Waiter."""

    __slots__ = (
        "_bodiless", "_connection", "_ended", "_facts", "_fields", "_first_byte", "_index", "_kept", "_kept_bytes",
        "_now", "_request_ended", "_response_bytes", "_response_status", "_response_trailers", "_retried", "_said",
        "_silence_seconds", "_started", "_target", "_trace", "_trace_id", "_traceparent", "_trailers", "_tried",
        "_tries", "_uncredited", "_upstream", "_waiting", "client", "head", "installed", "live", "peer",
        "request_bytes", "request_id", "stream", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, head: RequestHead, stream: DownstreamStream, peer: Peer) -> None:
        """`start` begins the walk."""
        self.worker = worker
        self.installed = worker.installed
        self.head = head
        self.stream = stream
        self.peer = peer
        self.deadline = _FOREVER
        self.live: LiveRoute | None = None
        self._upstream: LiveUpstream  # once there is a route
        self.client = peer.address
        self.request_id = b""
        self.request_bytes = 0
        self._facts = self.installed.listeners.get(peer.listener) or ListenerFacts.gone(peer.local_port)
        self._fields: Headers  # that go on as they came
        self._said: dict[bytes, bytes]  # those that are ours to say, as the client said them
        self._target = head.target
        self._trace: Trace | None = None
        self._trace_id = b""
        self._traceparent: bytes | None = None
        self._started = worker.clock()
        self._first_byte = 0.0
        self._now = 0.0  # when the head of the response came, if that was in this batch
        self._connection: UpstreamConnection | None = None
        self._waiting = False  # for a connection
        self._index = -1  # of the endpoint that takes the present try
        self._tried: tuple[int, ...] = ()
        self._tries = 0
        self._retried = False
        self._kept: list[bytes] | None = [] if head.has_body else None  # of the body: not sent yet, or for a retry
        self._kept_bytes = 0
        self._uncredited = 0
        self._trailers: Headers | None = None
        self._request_ended = not head.has_body
        self._response_status = 0  # sent to the client
        self._response_trailers: Headers | None = None
        self._bodiless = False
        self._response_bytes = 0
        self._silence_seconds = SILENCE_SECONDS
        self._ended = False
        worker.exchanges.add(self)

    # Steps before the upstream, in order

    def start(self) -> None:
        """Walks as far as it goes without waiting."""
        self._identify()
        if self._route() and self._limit():
            self._try(_FOREVER)

    def _identify(self) -> None:
        """Who asks, and under which names the request will be found again."""
        worker, facts = self.worker, self._facts
        self._fields, self._said = forwarding.split(self.head.headers)
        given = None
        if facts.trusted:
            self.client = forwarding.client_address(self.peer, self._said, facts)
            given = forwarding.request_id(self.peer, self._said, facts)
        self.request_id = given or worker.next_request_id()
        came = self._said.get(b"traceparent")
        ratio = self.installed.snapshot.trace_ratio
        if came is None and ratio == 0.0:
            return
        parent = context.parse(came) if came is not None else None
        if parent is not None and not parent.sampled:
            self._trace_id, self._traceparent = parent.trace_id, context.format(parent)
            return
        span = context.start(parent, ratio, worker.draw_bytes)
        self._trace_id = span.trace_id
        if span.sampled:
            self._trace = Trace(worker, parent, span)
        else:
            self._traceparent = context.format(span)

    def _route(self) -> bool:
        """Which route takes it. False: answered."""
        head = self.head
        try:
            self._target = forwarding.normalise(head.target)
        except forwarding.BadTargetError:
            self._answer(answers.BAD_TARGET)
            return False
        found = route(self.installed.snapshot.table, head.method, head.authority, self._target)
        if isinstance(found, NoRoute):
            if found.allowed:
                self._answer(answers.METHOD_NOT_ALLOWED, [(b"allow", b", ".join(sorted(found.allowed)))])
            else:
                self._answer(answers.NO_ROUTE)
            return False
        self.live = live = self.installed.routes.get(found.name) or self.worker.live_route(self.installed, found)
        self._upstream = live.upstream
        return True

    def _limit(self) -> bool:
        """Whether every limit of the route admits it. False: answered."""
        for limit, buckets in self.live.limits:  # type: ignore[union-attr] # routed
            key = self.client if limit.key == "client_ip" else self._live.route.name
            wait = buckets.admit(key, self.worker.clock())
            if wait > 0.0:
                extra = [(b"retry-after", b"%d" % max(1, -int(-wait // 1)))] if wait != _FOREVER else []
                self._answer(answers.LIMITED, extra)
                return False
        return True

    # The upstream: choose, connect, send

    def _try(self, idle_seconds_max: float) -> bool:
        """One try on one endpoint. False: no endpoint is left to be tried, or its pool is full (then answered)."""
        live = self._upstream
        endpoint = choose(live.upstream, live.state, self.worker.draw, self._tried)
        if endpoint is None:
            return False
        self._index = endpoint.index
        self._tries += 1
        live.tries.value += 1
        self.worker.health.chosen(live, endpoint.index)
        if idle_seconds_max == _FOREVER and self.head.method not in _IDEMPOTENT:
            # Not to be repeated if the endpoint closes the connection under it: so not on one that is likely to be.
            idle_seconds_max = _IDLE_SECONDS_MAX
        try:
            connection = self.worker.health.pool(live, endpoint.index).take(self, idle_seconds_max=idle_seconds_max)
        except PoolFullError:
            self._try_over(None, answers.UPSTREAM_BUSY.why)
            self._answer(answers.UPSTREAM_BUSY)
            return False
        if connection is not None:
            self._send(connection)
        else:
            self._waiting = True
            self.deadline = self.worker.coarse_now + live.upstream.connect_timeout_seconds + QUEUE_SECONDS
        return True

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

    def _send(self, connection: UpstreamConnection) -> None:
        """The head, and what has come of the body."""
        head = self.head
        traceparent = self._trace.begin_try() if self._trace is not None else self._traceparent
        headers = forwarding.request_headers(
            head, self._fields, self._said, self.peer, self._facts, self.request_id, traceparent
        )
        authority = head.authority or self._upstream.upstream.endpoints[self._index].address.encode()
        self._connection = connection
        try:
            connection.begin(
                self, head.method, authority, self._target, headers,
                body_length=head.body_length, has_body=head.has_body,
            )  # fmt: skip
        except MalformedError:
            self._leave_upstream(reuse=True)
            self._try_over(None, answers.BAD_FIELD.why)
            self._answer(answers.BAD_FIELD)
            return
        if head.has_body:
            for piece in self._kept or ():
                connection.send_data(piece, end=False)
            if self._request_ended:
                self._send_request_end(connection)
            self._credit(connection)
        connection.flush()
        self._wait_for_upstream()

    def _send_request_end(self, connection: UpstreamConnection) -> None:
        if self._trailers:
            connection.send_trailers(self._trailers)
        else:
            connection.send_data(b"", end=True)

    def _credit(self, connection: UpstreamConnection) -> None:
        """After body was sent: the client may send as much again, unless the upstream is slower."""
        connection.flush()
        if self._kept_bytes > REPLAY_BYTES_MAX:
            self._kept = None
        if not connection.writable:
            self.stream.pause_body()
        elif self._uncredited:
            self.stream.consumed(self._uncredited)
            self._uncredited = 0
            if not self._request_ended:
                self.stream.resume_body()

    def _wait_for_upstream(self) -> None:
        """Sets the deadline: whose turn is it?"""
        if self._request_ended:
            self._silence_seconds = self._upstream.upstream.response_timeout_seconds
        self.deadline = self.worker.coarse_now + self._silence_seconds

    # The request's body: client to upstream

    def on_body(self, data: bytes) -> None:
        """See stream.Exchange."""
        size = len(data)
        if self._ended:
            return
        self.request_bytes += size
        self._uncredited += size
        connection = self._connection
        if self._kept is not None:
            self._kept.append(data)
            self._kept_bytes += size
        if connection is None:
            self.stream.pause_body()
            return
        connection.send_data(data, end=False)
        self._credit(connection)
        self.deadline = self.worker.coarse_now + self._silence_seconds

    def on_trailers(self, headers: Headers) -> None:
        """See stream.Exchange."""
        self._trailers = headers

    def on_body_end(self) -> None:
        """See stream.Exchange."""
        if self._request_ended or self._ended:
            return
        self._request_ended = True
        connection = self._connection
        if connection is not None:
            self._send_request_end(connection)
            connection.flush()
            self._wait_for_upstream()

    def on_upstream_writable(self) -> None:
        """See upstream.User."""
        if self._connection is not None:
            self._credit(self._connection)
            self.deadline = self.worker.coarse_now + self._silence_seconds

    # The response: upstream to client

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User. The last piece and the end go out together."""
        stream = self.stream
        data: bytes | None = None
        self._now = 0.0
        for event in events:
            kind = type(event)
            if kind is Data:
                if data is not None:
                    stream.send_data(data, end=False)
                data = event.data  # type: ignore[union-attr] # mypy does not narrow by `kind is`, isinstance costs more
                self._response_bytes += len(data)
            elif kind is End:
                self._on_response_end(data)
                return
            elif isinstance(event, ResponseHead):
                self._on_response_head(event)
            elif isinstance(event, Trailers):
                self._response_trailers = event.headers
            elif isinstance(event, Informational):
                stream.inform(event.status, event.headers)
            elif isinstance(event, Reset):
                if data is not None:
                    stream.send_data(data, end=False)
                self._on_upstream_lost(event.reason)
                return
        if data is not None:
            stream.send_data(data, end=False)
        stream.flush()
        if self._ended:  # the flush may find that the client is gone
            return
        if not stream.writable and self._connection is not None:
            self._connection.pause_reading()
        self.deadline = self.worker.coarse_now + self._silence_seconds

    def _on_response_head(self, head: ResponseHead) -> None:
        """The first byte: from here on there is no way back."""
        self._first_byte = self._now = self.worker.clock()
        self._response_status = head.status
        self._silence_seconds = self._upstream.upstream.response_timeout_seconds
        headers = forwarding.response_headers(head.headers, self.peer, self._facts)
        if self._upstream.endpoints[self._index].outlier is not FRESH:
            self.worker.health.answered(self._upstream, self._index, self.worker.coarse_now)
        self._bodiless = not head.has_body
        self.stream.respond(head.status, headers, end=self._bodiless)

    def _on_response_end(self, data: bytes | None) -> None:
        """All of it has come. The connection goes back first: a pipelined request may want it."""
        stream = self.stream
        if self._response_trailers and not self._bodiless:
            if data is not None:
                stream.send_data(data, end=False)
            stream.send_trailers(self._response_trailers)
        elif not self._bodiless:
            stream.send_data(data or b"", end=True)
        self._leave_upstream(reuse=True)
        self._try_over(True, None)
        self._end(self._response_status, "", self._now)
        stream.flush()

    def on_writable(self) -> None:
        """See stream.Exchange."""
        if self._connection is not None:
            self._connection.resume_reading()
            self.deadline = self.worker.coarse_now + self._silence_seconds

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
        replayable = self._kept is not None or not self.head.has_body
        if replayable and self._tries <= self._upstream.upstream.retries and worker.may_retry():
            if not self._retried:
                self._retried = True
                worker.retrying += 1
            if self._try(_FOREVER if elsewhere else _FRESH_ONLY) or self._ended:
                return
        self._answer(failure)

    def expire(self, now: float) -> None:
        """The deadline has passed. Whose turn it was decides what that means."""
        self.deadline = _FOREVER
        connection = self._connection
        if self._waiting:
            self._leave_upstream(reuse=False)
            self._try_over(None, answers.UPSTREAM_BUSY.why)
            self._answer(answers.UPSTREAM_BUSY)
        elif connection is None:
            return
        elif self._response_status:
            client_is_slow = not self.stream.writable
            self._leave_upstream(reuse=False)
            self._try_over(None if client_is_slow else False, answers.UPSTREAM_TIMEOUT.why)
            self._cut("the client does not read" if client_is_slow else "the upstream fell silent")
        elif not self._request_ended and connection.writable:
            self._leave_upstream(reuse=False)
            self._try_over(None, answers.BODY_TIMEOUT.why)
            self._answer(answers.BODY_TIMEOUT)
        else:
            self._leave_upstream(reuse=False)
            self._try_over(False, answers.UPSTREAM_TIMEOUT.why)
            self._answer(answers.UPSTREAM_TIMEOUT)

    def on_reset(self, reason: str) -> None:
        """See stream.Exchange: the client is gone, and its upstream need not go on."""
        if self._ended:
            return
        self._leave_upstream(reuse=False)
        self._try_over(None, "client_gone")
        self._end(self._response_status or CLIENT_GONE_STATUS, "client_gone")

    # Endings

    @property
    def _live(self) -> LiveRoute:
        assert self.live is not None
        return self.live

    def _leave_upstream(self, *, reuse: bool) -> None:
        """The connection goes back to its pool, or ends; a place in the queue is given up."""
        connection, self._connection = self._connection, None
        if self._waiting:
            self._waiting = False
            self.worker.health.pool(self._upstream, self._index).forget(self)
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
        self.worker.health.over(live, self._index, succeeded, self.worker.coarse_now)
        if self._trace is not None:
            endpoint = live.upstream.endpoints[self._index].address
            self._trace.end_try(self.head.method, endpoint, self._tries, self._response_status or None, why)

    def _cut(self, reason: str) -> None:
        """The client must see that its response is not whole."""
        self.stream.reset(reason)
        self._end(self._response_status, "cut")

    def _answer(self, failure: Failure, extra: Headers | None = None) -> None:
        """The gateway's own answer."""
        stream = self.stream
        headers, body = answers.answer(failure, self.request_id, extra or [])
        if self.head.method == b"HEAD":
            stream.respond(failure.status, headers, end=True)
        else:
            stream.respond(failure.status, headers, end=False)
            stream.send_data(body, end=True)
            self._response_bytes = len(body)
        self._end(failure.status, failure.why)
        stream.flush()

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        """Always last, and once: the one `Outcome`. `now` if the clock was just read."""
        assert not self._ended
        self._ended = True
        self.deadline = _FOREVER
        worker, head, live = self.worker, self.head, self.live
        worker.exchanges.discard(self)
        del self.stream  # which knows this exchange: as a cycle both would have to wait for the collector
        if self._retried:
            worker.retrying -= 1
        endpoint = ""
        if live is not None and self._index >= 0:
            endpoint = live.upstream.upstream.endpoints[self._index].address
        started = self._started
        outcome = Outcome(
            self.peer, self.client, head.method, head.authority, self._target, head.version, self.request_id,
            self._trace_id, status, why, live.route.name if live else "", live.route.upstream if live else "",
            endpoint, self._tries, started, (now or worker.clock()) - started,
            self._first_byte - started if self._first_byte else 0.0, self.request_bytes, self._response_bytes,
            self.installed.snapshot.version, worker.verdict_version,
        )  # fmt: skip
        worker.count(outcome, live)
        if self._trace is not None:
            pattern = (live.route.path or live.route.path_prefix or "/") if live else ""
            self._trace.end(outcome, head, pattern)
