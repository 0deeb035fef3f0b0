"""Copies of requests to another upstream, whose answers are dropped (traffic_words.Mirror).

Invariants:
- A copy begins when its request is over, so that it never slows or fails it, and is an exchange of its own: balanced,
  tried and timed by its upstream's words, and cut by nothing that its request does.
- At most `COPIES_MAX` are under way; those beyond are dropped and counted. What is held of a body is what a further try
  may need (gateway/body); a request that had more, or never reached its upstream, has no copy.
"""

from dataclasses import replace

from meridian.gateway.body import RequestBody
from meridian.gateway.exchange import Exchange
from meridian.gateway.tries import FOREVER
from meridian.wire.events import Headers

COPIES_MAX = 100  # of one worker: with 64 KiB of body each 6 MiB at most, and no storm on a slow upstream


class Nobody:
    """The client of a copy: takes everything and hears nothing. A stream.DownstreamStream."""

    writable = True

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """Drops it, as do all others."""

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """See respond."""

    def upgrade(self, headers: Headers) -> None:
        """There is none: see begin."""

    def inform(self, status: int, headers: Headers) -> None:
        """See respond."""

    def send_data(self, data: bytes, *, end: bool) -> None:
        """See respond."""

    def send_trailers(self, headers: Headers) -> None:
        """See respond."""

    def reset(self, reason: str) -> None:
        """See respond."""

    def consumed(self, count: int) -> None:
        """There is no more body to come."""

    def pause_body(self) -> None:
        """See consumed."""

    def resume_body(self) -> None:
        """See consumed."""

    def flush(self) -> None:
        """See respond."""


NOBODY = Nobody()


class Copy(Exchange):
    """One copy. It is counted as such and nowhere else: not among requests, in no log and no trace."""

    __slots__ = ()

    def send(self) -> None:
        """Begins: what a route does before the upstream was done for the request."""
        if self._timeouts.bounded:
            self._bound()
        self._upstream.load.requests += 1
        self._try(FOREVER)

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        assert not self._ended
        self._ended = True
        self.deadline = FOREVER
        worker = self.worker
        worker.exchanges.discard(self)
        worker.mirroring -= 1
        if self._retried:
            self._upstream.load.retrying -= 1
        if self._hedge is not None:
            self._hedge.cancel()
        for limit in self._limits:
            limit.cancel()
        del self.stream
        _count(self, "failed" if why else "answered")


def begin(exchange: Exchange) -> None:
    """An exchange of a route with a mirror is over: it may be copied."""
    worker, live, body = exchange.worker, exchange.live, exchange._body
    assert live is not None and live.mirror is not None
    if not exchange._tries or not exchange._request_ended or (body is not None and body.kept is None):
        return
    if exchange.head.protocol:  # what two have said to each other is no request
        return
    if live.mirror.share < 1.0 and worker.draw() >= live.mirror.share:
        return
    if worker.mirroring >= COPIES_MAX:
        _count(exchange, "dropped")
        return
    worker.mirroring += 1
    other = exchange.installed.routes[live.route.name].others[live.mirror.upstream]
    copy = Copy(worker, exchange.head, NOBODY, exchange.peer)
    copy.installed = replace(exchange.installed, counts=None)  # no part of a trial
    copy.live, copy._timeouts = other, other.timeouts
    assert other.upstream is not None, "a mirror names one"
    copy._upstream = other.upstream
    copy.client, copy.request_id, copy._consumer = exchange.client, exchange.request_id, exchange._consumer
    copy._facts, copy._fields, copy._said = exchange._facts, exchange._fields, exchange._said
    copy._target, copy._sent_target = exchange._target, exchange._sent_target
    copy._sent_authority, copy._traceparent = exchange._sent_authority, exchange._traceparent
    if body is not None:
        copy._body = RequestBody()
        copy._body.kept, copy._body.byte_count, copy._body.trailers = body.kept, body.byte_count, body.trailers
    copy._request_ended = True
    worker.loop.call_soon(copy.send)


def _count(exchange: Exchange, outcome: str) -> None:
    exchange.worker.metrics.counter(
        "meridian_mirrored_total", "Copies of requests; dropped: too many were under way.",
        route=exchange.route_name, outcome=outcome,
    ).value += 1  # fmt: skip
