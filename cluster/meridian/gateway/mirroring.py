"""Copies of requests to another upstream, whose answers are dropped (traffic_words.Mirror).

Invariants:
- A copy begins when its request is over, so that it never slows or fails it, and is an exchange of its own: balanced,
  tried and timed by its upstream's words, and cut by nothing that its request does.
- At most `COPIES_MAX` are under way; those beyond are dropped and counted. What is held of a body is what a further try
  may need (gateway/body); a request that had more, or never reached its upstream, has no copy.
"""

from meridian.gateway.body import RequestBody
from meridian.gateway.exchange import Exchange
from meridian.gateway.headless import NOBODY, Headless
from meridian.gateway.tries import FOREVER

COPIES_MAX = 100  # of one worker: with 64 KiB of body each 6 MiB at most, and no storm on a slow upstream


class Copy(Headless):
    """One copy."""

    __slots__ = ()

    def over(self, why: str) -> None:
        """See Headless."""
        self.worker.mirroring -= 1
        _count(self, "failed" if why else "answered")

    def begin(self) -> None:
        """What a route does before its upstream was done for the request."""
        if self._timeouts.bounded:
            self._bound()
        self._upstream.load.requests += 1
        self._try(FOREVER)


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
    copy = Copy(worker, exchange.head, NOBODY, exchange.peer)
    copy.follow(exchange, exchange.installed.routes[live.route.name].others[live.mirror.upstream])
    if body is not None:
        copy._body = RequestBody()
        copy._body.kept, copy._body.byte_count, copy._body.trailers = body.kept, body.byte_count, body.trailers
    worker.loop.call_soon(copy.begin)


def _count(exchange: Exchange, outcome: str) -> None:
    exchange.worker.metrics.counter(
        "meridian_mirrored_total", "Copies of requests; dropped: too many were under way.",
        route=exchange.route_name, outcome=outcome,
    ).value += 1  # fmt: skip
