"""The walk of one request, from its head to the last byte of its answer. Read it from the top.

    identify -> route -> stages -> try (choose, connect, send) -> pump -> end
    (gateway/stages)                ^---- before the first byte of a response a failure may come back (gateway/tries)

The exchange is driven by events of two connections and awaits nothing: on the common path there is no task, no
future, no lock and no timer of its own (the worker's sweep looks at `deadline`).

Invariants:
- It takes one snapshot, once, and ends on it.
- Its end is counted exactly once, and reported as one `Outcome`, whatever happened.
- What it holds of bodies is bounded: one batch from either side, plus what a retry may need (gateway/body).
- A response that was cut at its upstream is cut for the client too: never a clean end.
"""

from meridian.core.outliers import FRESH
from meridian.gateway import answers, forwarding, grpc
from meridian.gateway.answers import CLIENT_GONE_STATUS, Failure
from meridian.gateway.body import RequestBody
from meridian.gateway.outcome import Outcome, is_ordinary
from meridian.gateway.stream import DownstreamStream, Peer
from meridian.gateway.tries import FOREVER
from meridian.gateway.upgrades import Upgrades
from meridian.gateway.upstream import UpstreamStream, User
from meridian.gateway.worker import Worker
from meridian.wire.events import (
    TUNNEL,
    Data,
    End,
    Event,
    Headers,
    Informational,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
)
from meridian.wire.http1_parts import MalformedError

SILENCE_SECONDS = 60.0
"""How long a body may stand still at the client's end, sent or taken: longer than any loss that TCP recovers from,
short enough that a worker's connections cannot be held by clients that do nothing."""


class Exchange(Upgrades):
    """See the module's head; to its client a stream.Exchange, to its upstream a pool.Waiter (gateway/tries)."""

    __slots__ = (
        "_now", "_pace", "_paced_until", "_response_trailers",
    )  # fmt: skip

    def __init__(self, worker: Worker, head: RequestHead, stream: DownstreamStream, peer: Peer) -> None:
        """`start` begins the walk."""
        self.worker = worker
        self.installed = worker.installed if worker.trial is None else worker.trial.take(worker.draw)
        self.head = head
        self.stream = stream
        self.peer = peer
        self.deadline = FOREVER
        self.live = None
        self.client = peer.address
        self._stage = 0
        self._recorder = None
        self._waited = False
        self._target = self._sent_target = head.target
        self._sent_authority = head.authority
        self._consumer = ""
        self._told = []
        self._held = ()
        self._trace = None
        self._trace_id = b""
        self._traceparent = None
        self.started = worker.clock()
        self._first_byte = 0.0
        self._now = 0.0  # when the head of the response came, if that was in this batch
        self._connection = self._source = None
        self._waiting = False
        self._index = -1
        self._tried = ()
        self._tries = 0
        self._retried = False
        self._pause = None
        self._hedge = None
        self._limits = ()
        self._body = RequestBody() if head.has_body else None
        self._request_ended = not head.has_body
        self._pace = 0  # bytes a second that a body has to come at, see _count_pace
        self._paced_until = FOREVER
        self._response_status = 0
        self._response_trailers: Headers | None = None
        self._response_bytes = 0
        self._silence_seconds = SILENCE_SECONDS
        self._frames = None
        self._key = b""
        self._ended = False
        worker.exchanges.add(self)

    # The upstream: choose, connect, send

    def _send(self, connection: UpstreamStream) -> None:
        """The head, and what has come of the body."""
        traceparent = self._trace.begin_try() if self._trace is not None else self._traceparent
        self._connection = connection
        try:
            self._begin_on(connection, self, self._index, traceparent)
        except MalformedError as error:
            failure = answers.BAD_FIELD if error.status == 400 else answers.UPSTREAM_NO_UPGRADE
            self._leave_upstream(reuse=True)
            self._try_over(None, failure.why)
            self._answer(failure)
            return
        if self._body is not None and not self.head.protocol:
            self._pace = 0 if grpc.is_call(self.head.headers) else self._facts.guards.bytes_per_second_min
            self._send_body(connection, self._body)
        connection.flush()
        self._wait_for_upstream()

    def _begin_on(self, connection: UpstreamStream, user: User, index: int, traceparent: bytes | None) -> None:
        """The head alone. Raises MalformedError."""
        head = self.head
        if self._live.route.forward is not None:
            headers, lines = self._fields, forwarding.passing_lines(head)
        else:
            headers, lines = forwarding.request_fields(
                head, self._fields, self._said, self.peer, self._facts, self.request_id, traceparent, self._consumer
            )
        if head.protocol:
            headers = self._ask_to_upgrade(headers)
        authority = self._sent_authority or self._upstream.upstream.endpoints[index].address.encode()
        connection.begin(user, head, authority, self._sent_target, headers, lines)

    def _send_body(self, connection: UpstreamStream, body: RequestBody) -> None:
        """What has come of it so far."""
        for piece in body.kept or ():
            connection.send_data(piece, end=False)
        if self._request_ended:
            self._send_request_end(connection, body)
        self._credit(connection, body)

    def _send_request_end(self, connection: UpstreamStream, body: RequestBody) -> None:
        if body.trailers:
            connection.send_trailers(body.trailers)
        else:
            connection.send_data(b"", end=True)

    def _credit(self, connection: UpstreamStream, body: RequestBody) -> None:
        """After body was sent: the client may send as much again, unless the upstream is slower."""
        connection.flush()
        body.went()
        if not connection.writable:
            self.stream.pause_body()
        elif body.uncredited:
            self.stream.consumed(body.take_credit())
            if not self._request_ended:
                self.stream.resume_body()
            self.stream.flush()  # over HTTP/2 credit is a frame, and it may be the upstream's turn

    def _wait_for_upstream(self) -> None:
        """Sets the deadline: whose turn is it?"""
        if self._request_ended or self.head.protocol:
            self._silence_seconds = self._timeouts.answer
        self.deadline = self.worker.coarse_now + self._silence_seconds
        if self._pace and not self._request_ended:
            self._wait_for_body()

    def _wait_for_body(self) -> None:
        """It is the client's turn, with as much patience as for who has just begun."""
        self._paced_until = self.worker.coarse_now + self._facts.guards.slow_seconds
        self.deadline = min(self.deadline, self._paced_until)

    def _count_pace(self, count: int) -> None:
        """Bytes that have come are worth the time that they may take; who is quick may then pause as long as any."""
        now = self.worker.coarse_now
        self._paced_until = max(self._paced_until, now) + count / self._pace
        self.deadline = self._paced_until = min(self._paced_until, now + self._silence_seconds)

    # The request's body: client to upstream

    def on_body(self, data: bytes) -> None:
        """See stream.Exchange."""
        body, connection = self._body, self._connection
        if self._ended or body is None:
            return
        body.came(data)
        if body.byte_count > self._facts.guards.body_bytes_max and not self.head.protocol:
            self._refuse_body()
            return
        if connection is None or self._is_upgrading:
            if self._source is not None and self._response_status:
                self._source.on_body(data)
            else:
                self.stream.pause_body()
            return
        connection.send_data(data, end=False)
        self._credit(connection, body)
        if self._pace and not self._response_status and connection.writable:
            self._count_pace(len(data))
        else:
            self.deadline = self.worker.coarse_now + self._silence_seconds

    def _refuse_body(self) -> None:
        """It said no length, or has a length that is not true."""
        if self._leave_upstream(reuse=False):
            self._try_over(None, answers.TOO_LARGE.why)
        if self._response_status:
            self._cut("the body is too large", "_body")
        else:
            self._answer(answers.TOO_LARGE)

    def on_trailers(self, headers: Headers) -> None:
        """See stream.Exchange."""
        if self._body is not None:
            self._body.trailers = headers

    def on_body_end(self) -> None:
        """See stream.Exchange."""
        if self._request_ended or self._ended:
            return
        self._request_ended = True
        connection = self._connection
        if connection is not None and self._body is not None and not self._is_upgrading:
            self._send_request_end(connection, self._body)
            connection.flush()
            self._wait_for_upstream()
        elif self._source is not None and self._response_status:
            self._source.on_body_end()
        if self.live is not None and self._timeouts.bounded:
            self._bound_answer()

    def on_upstream_writable(self) -> None:
        """See upstream.User."""
        if self._connection is not None and self._body is not None:
            self._credit(self._connection, self._body)
            self.deadline = self.worker.coarse_now + self._silence_seconds
            if self._pace and not (self._request_ended or self._response_status):
                self._wait_for_body()

    # The response: upstream to client

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User. The head, the last piece and the end go out together where they came together."""
        head: ResponseHead | None = None
        data: bytes | None = None
        self._now = 0.0
        for event in events:
            kind = type(event)
            if kind is Data:
                if data is not None:
                    self._pass_on(head, data)
                    head = None
                data = event.data  # type: ignore[union-attr] # mypy does not narrow by `kind is`, isinstance costs more
                self._response_bytes += len(data)
                if self._frames is not None:
                    self._frames.feed(data)
            elif kind is ResponseHead:
                if event.status >= 400 and self._answered_badly(event, events):  # type: ignore[union-attr, arg-type] # "
                    return
                head = event  # type: ignore[assignment] # as above
                if head.status == 101:  # type: ignore[union-attr] # as above
                    if not self._upgrade(event):  # type: ignore[arg-type] # as above
                        return
                    head = None
                else:
                    self._on_response_head(event)  # type: ignore[arg-type] # as above
            elif kind is End:
                self._on_response_end(head, data)
                return
            elif isinstance(event, Trailers):
                self._response_trailers = event.headers
            elif isinstance(event, Informational):
                self.stream.inform(event.status, event.headers)
            elif isinstance(event, Reset):
                self._pass_on(head, data)
                self._on_upstream_lost(event.reason)
                return
        stream = self.stream
        self._pass_on(head, data)
        stream.flush()
        if self._ended:  # the flush may find that the client is gone
            return
        if not stream.writable and self._connection is not None:
            self._connection.pause_reading()
        self.deadline = self.worker.coarse_now + self._silence_seconds

    def _on_response_head(self, head: ResponseHead) -> None:
        """The first byte: from here on there is no way back."""
        worker, live = self.worker, self._upstream
        self._first_byte = self._now = worker.clock()
        self._response_status = head.status
        self._silence_seconds = self._timeouts.idle
        if self._recorder is not None:
            self._recorder.note(head.status, head.headers)
        self._complete(head.headers)
        if not live.is_plain or live.endpoints[self._index].outlier is not FRESH:
            self._on_first_byte(head, self._now)

    def _complete(self, headers: Headers) -> None:
        """The fields of an answer as this client is to get them."""
        forwarding.complete_response(headers, self.worker.date, self.peer, self._facts)
        if self._told:
            headers.extend(self._told)
        if self._live.response is not None:
            headers[:] = self._live.response.apply(headers, self._known())

    def _pass_on(self, head: ResponseHead | None, data: bytes | None) -> None:
        """More is to follow."""
        if head is not None:
            self.stream.respond(head.status, head.headers, end=False)
        if data is not None:
            self.stream.send_data(data, end=False)

    def _on_response_end(self, head: ResponseHead | None, data: bytes | None) -> None:
        """All of it has come. The connection goes back first: a pipelined request may want it."""
        stream = self.stream
        if head is not None and not head.has_body:
            stream.respond(head.status, head.headers, end=True)
        elif self._response_trailers:
            self._pass_on(head, data)
            stream.send_trailers(self._response_trailers)
        elif head is not None:
            stream.answer(head.status, head.headers, data or b"")
        else:
            stream.send_data(data or b"", end=True)
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.release()
        if self._trace is None:
            self._upstream.health.over(self._upstream, self._index, True, self.worker.coarse_now)
        else:
            self._try_over(True, None)
        self._end(self._response_status, "", self._now)
        stream.flush()

    def on_blocked(self) -> None:
        """See stream.Exchange."""
        if self._connection is not None:
            self._connection.pause_reading()

    def on_writable(self) -> None:
        """See stream.Exchange."""
        if self._connection is not None:
            self._connection.resume_reading()
            self.deadline = self.worker.coarse_now + self._silence_seconds
        elif self._source is not None:
            self._source.resume()

    def on_reset(self, reason: str, why: str = "client_gone") -> None:
        """See stream.Exchange: the client is gone, and its upstream need not go on."""
        if self._ended:
            return
        if self._leave_upstream(reuse=False):
            self._try_over(None, why)
        said_goodbye = self._frames is not None and self._frames.closed
        if self.head.protocol == TUNNEL and self._response_status:  # which has no other end
            said_goodbye = True
        self._end(self._response_status or CLIENT_GONE_STATUS, "" if said_goodbye else why)

    # Endings

    def abandon(self) -> None:
        """It failed to begin: nothing of it may stay behind."""
        self.worker.exchanges.discard(self)
        self.installed.admission.release(self._held)
        self._held = ()
        if self._recorder is not None:
            self._recorder.close()
        for limit in self._limits:
            limit.cancel()

    def _cut(self, reason: str, by: str = "") -> None:
        """The client must see that its response is not whole. `by`: see answers.CUT."""
        self.stream.reset(reason)
        self._end(self._response_status, answers.CUT + by)

    def _answer(self, failure: Failure, extra: Headers | None = None) -> None:
        """The gateway's own answer."""
        stream = self.stream
        if failure.status >= 500 and self._recorder is not None and self._recorder.bears():
            self._end(self._response_status, "")
            stream.flush()
            return
        extra = [*(extra or []), *self._told, *answers.proxy_status(failure), *self._own_fields()]
        status = failure.status
        if grpc.is_call(self.head.headers):
            stream.respond(200, grpc.answer(failure, self.request_id, self.worker.date, extra), end=True)
        else:
            headers, body = answers.answer(failure, self.request_id, self.worker.date, extra)
            self._say(status, headers, body)
        self._end(status, failure.why)
        stream.flush()

    def _redirect_to(self, location: bytes, status: int) -> None:
        """The client is sent elsewhere."""
        headers, body = answers.redirect(location, status, self.worker.date, [*self._told, *self._own_fields()])
        stream = self.stream
        self._say(status, headers, body)
        self._end(status, "")
        stream.flush()

    def _break(self, failure: Failure) -> None:
        """The client gets no answer at all."""
        self.stream.reset(failure.why)
        self._end(failure.status, failure.why)

    def _say(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer of the gateway's own."""
        if self.head.method == b"HEAD":
            self.stream.respond(status, headers, end=True)
        else:
            self.stream.answer(status, headers, body)
            self._response_bytes = len(body)

    def _own_fields(self) -> Headers:
        """What clients are to be told whatever the answer is."""
        return [self._facts.hsts] if self._facts.hsts is not None and self.peer.tls else []

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        """Always last, and once. `now` if the clock was just read."""
        assert not self._ended
        self._ended = True
        self.deadline = FOREVER
        worker, live = self.worker, self.live
        worker.exchanges.discard(self)
        if self._held:
            self.installed.admission.release(self._held)
        if live is not None and live.mirror is not None:
            worker.mirror(self)
        if self._recorder is not None:
            self._recorder.close()
        if self._source is not None:
            self._source.close()
        del self.stream  # which knows this exchange: as a cycle both would have to wait for the collector
        if self._retried:
            self._upstream.load.retrying -= 1
        if self._hedge is not None:
            self._hedge.cancel()
        if self._limits:
            for limit in self._limits:
                limit.cancel()
        seconds = (now or worker.clock()) - self.started
        body = self._body
        worker.count(live, status, seconds, body.byte_count if body is not None else 0, self._response_bytes)
        if (counts := self.installed.counts) is not None:
            counts.count(live.route.name if live is not None else "", status, why, seconds)
        if self._trace is None and worker.quiet and is_ordinary(status, self._tries):
            return
        outcome = self._outcome(status, why, seconds)
        worker.report.on_outcome(outcome)
        if self._trace is not None:
            route = live.route if live is not None else None
            pattern = (route.path or route.path_regex or route.path_prefix or "/") if route is not None else ""
            self._trace.end(outcome, self.head, pattern)

    def _outcome(self, status: int, why: str, seconds: float) -> Outcome:
        """All that there is to say of it."""
        worker, head, live, started = self.worker, self.head, self.live, self.started
        endpoint = upstream = ""
        if live is not None and live.upstream is not None:
            upstream = self._upstream.upstream.name
            if self._index >= 0:
                endpoint = self._upstream.upstream.endpoints[self._index].address
        return Outcome(
            self.peer, self.client, head.method, head.authority, self._target, head.version, self.request_id,
            self._trace_id, status, why, live.route.name if live else "", upstream,
            endpoint, self._tries, started, seconds, self._first_byte - started if self._first_byte else 0.0,
            self._body.byte_count if self._body is not None else 0, self._response_bytes,
            self.installed.snapshot.version, worker.verdict_version, worker.verdict_fallback,
        )  # fmt: skip
