"""A second try beside one that is late (core/hedging): the first good answer wins, the other try is ended.

Invariants:
- At most one beside the first try, of a request that may be repeated and has come whole, out of the upstream's budget.
- Both are tries like any other: each is over exactly once. An endpoint that lost a race has shown nothing.
- What the client gets is from one of them: until the head of a good answer comes, nothing of the second is passed on.
"""

from math import inf

from meridian.gateway.deadlines import Deadlines
from meridian.gateway.dropping import drop
from meridian.gateway.pool import PoolFullError
from meridian.gateway.tracing import Trace
from meridian.gateway.tries import FOREVER
from meridian.gateway.upstream import UpstreamStream
from meridian.wire.events import Event, Reset, ResponseHead
from meridian.wire.http1_parts import MalformedError

_OUTPACED = "outpaced"
"""Why a try ended that another was quicker than."""


class Hedging(Deadlines):
    """The part of an exchange that hedges."""

    __slots__ = ()

    def _arm_hedge(self) -> None:
        """When the first try begins."""
        live, hedge, latencies = self._upstream, self._upstream.upstream.hedge, self._upstream.load.latencies
        assert hedge is not None and latencies is not None
        if self.head.method not in self._live.retry.methods or len(live.endpoints) < 2:
            return
        seconds = latencies.late_after(hedge)
        if seconds < inf:
            self._hedge = self.worker.loop.call_later(seconds, self._begin_hedge)

    def _begin_hedge(self) -> None:
        """The first try is late."""
        self._hedge = None
        live, began = self._upstream, self._try_began
        if not self._request_ended or self._tries != 1 or live.load.active >= live.requests_max:
            return
        self._tried = (self._index,)
        endpoint = self._choose_for_request()
        began_beside, self._try_began = self._try_began, began
        if endpoint is None or not live.state.is_good(endpoint.index) or not self._take_room("hedge"):
            return
        self._tries += 1
        live.tries.value += 1
        live.health.chosen(live, endpoint.index)
        beside = self._hedge = Beside(self, endpoint.index, began_beside)
        pool = live.endpoints[endpoint.index].pool or live.health.pool(live, endpoint.index)
        try:
            connection = pool.take(beside, idle_seconds_max=FOREVER)
        except PoolFullError as full:
            beside.fail(None, full.why)
            return
        if connection is not None:
            beside.on_connected(connection)

    def _outpaced(self, beside: "Beside", events: list[Event]) -> None:
        """The second try is answered first."""
        live = self._upstream
        if live.load.latencies is not None:  # it took so long at least: else what is late would seem rare
            live.load.latencies.observe(self.worker.clock() - self._try_began)
        self._leave_upstream(reuse=False)
        self._try_over(None, _OUTPACED)
        self._take_over(beside)
        self.on_events(events)

    @property
    def _is_hedged(self) -> bool:
        """See Tries."""
        return isinstance(self._hedge, Beside)

    def _taken_over(self) -> bool:
        """See Tries. A second try that has no connection yet has nothing to go on with: it is given up."""
        beside, self._hedge = self._hedge, None
        if isinstance(beside, Beside) and beside.connection is not None:
            self._take_over(beside)
            return True
        if beside is not None:
            beside.cancel()
        return False

    def _take_over(self, beside: "Beside") -> None:
        connection = beside.connection
        assert connection is not None
        self._hedge = None
        self._index, self._try_began, self._connection = beside.index, beside.began, connection
        if self._trace is not None and beside.trace is not None:
            self._trace.take_try(beside.trace)
        connection.hand_to(self)
        self._wait_for_upstream()


class Beside:
    """The second try; a pool.Waiter."""

    __slots__ = ("_exchange", "_number", "began", "connection", "index", "trace")

    def __init__(self, exchange: Hedging, index: int, began: float) -> None:
        """On the endpoint of this index."""
        self._exchange = exchange
        self._number = exchange._tries
        self.index = index
        self.began = began
        self.connection: UpstreamStream | None = None
        self.trace: Trace | None = exchange._trace.beside() if exchange._trace is not None else None

    def on_connected(self, connection: UpstreamStream) -> None:
        """See pool.Waiter."""
        exchange, self.connection = self._exchange, connection
        traceparent = self.trace.begin_try() if self.trace is not None else exchange._traceparent
        try:
            exchange._begin_on(connection, self, self.index, traceparent)
        except MalformedError:  # as the first try has found out already, if it came so far
            self.fail(None, "bad_field")
            return
        if exchange._body is not None:
            for piece in exchange._body.kept or ():
                connection.send_data(piece, end=False)
            exchange._send_request_end(connection, exchange._body)
        connection.flush()

    def on_connect_failed(self, error: Exception) -> None:
        """See pool.Waiter."""
        self._exchange._hedge = None
        self._over(False, "upstream_refused")

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User."""
        exchange = self._exchange
        head = next((event for event in events if isinstance(event, ResponseHead)), None)
        if head is None:
            connection = self.connection
            if isinstance(events[-1], Reset) and connection is not None:
                # As of a first try: one that was kept, or did not process it, says nothing of the endpoint.
                blameless = connection.unprocessed or (connection.silent and connection.reused)
                self.fail(None if blameless else False, "upstream_lost")
        elif head.status >= 500 or head.status in exchange._live.retry.statuses:
            # The first try may still do better; if it does not, its failure is the answer.
            connection, self.connection = self.connection, None
            assert connection is not None
            exchange._hedge = None
            exchange._upstream.health.answered(exchange._upstream, self.index, head.status, exchange.worker.clock())
            self._over(True, None, head.status)
            drop(connection, events)
        else:
            self._counted("won")
            exchange._outpaced(self, events)

    def on_upstream_writable(self) -> None:
        """See upstream.User: all was sent."""

    def cancel(self) -> None:
        """The first try needs it no more."""
        self._counted("lost")
        self.fail(None, _OUTPACED)

    def fail(self, succeeded: bool | None, why: str) -> None:
        """It comes to nothing."""
        exchange, connection = self._exchange, self.connection
        exchange._hedge = self.connection = None
        if connection is not None:
            connection.abort()
        else:
            exchange._upstream.health.pool(exchange._upstream, self.index).forget(self)
        self._over(succeeded, why)

    def _over(self, succeeded: bool | None, why: str | None, status: int | None = None) -> None:
        exchange = self._exchange
        live = exchange._upstream
        live.health.over(live, self.index, succeeded, exchange.worker.coarse_now)
        if succeeded is False:
            self._counted("failed")
        if self.trace is not None:
            endpoint = live.upstream.endpoints[self.index].address
            self.trace.end_try(exchange.head.method, endpoint, self._number, status, why)

    def _counted(self, how: str) -> None:
        self._exchange._upstream.health.hedged(self._exchange._upstream, how)
