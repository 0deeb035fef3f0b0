"""Exchanges without a client: copies for a mirror (gateway/mirroring), and what is fetched for the cache alone.

Invariant: they are exchanges as any to their upstream, and nothing to anybody else: no client waits, no log, trace or
count of requests has them, and each kind has a limit.
"""

from dataclasses import replace

from meridian.gateway import caching
from meridian.gateway.cache import Entry
from meridian.gateway.exchange import Exchange
from meridian.gateway.tries import FOREVER
from meridian.gateway.worker import LiveRoute
from meridian.wire.events import Headers

REFRESHES_MAX = 100  # of one worker; each is of another key, and what is not refreshed is asked for in time


class Nobody:
    """The client of a copy: takes everything and hears nothing. A stream.DownstreamStream."""

    writable = True

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """Drops it, as do all others."""

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """See respond."""

    def upgrade(self, headers: Headers) -> None:
        """There is none: see mirroring.begin, and the cache takes no such request."""

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


class Headless(Exchange):
    """See the module's head."""

    __slots__ = ()

    def over(self, why: str) -> None:
        """It has ended; `why` is empty if it was answered."""
        raise NotImplementedError

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        assert not self._ended
        self._ended = True
        self.deadline = FOREVER
        self.worker.exchanges.discard(self)
        if self._retried:
            self._upstream.load.retrying -= 1
        if self._hedge is not None:
            self._hedge.cancel()
        for limit in self._limits:
            limit.cancel()
        if self._recorder is not None:
            self._recorder.close()
        if self._source is not None:
            self._source.close()
        del self.stream
        self.over(why)

    def follow(self, exchange: Exchange, live: LiveRoute) -> None:
        """Becomes what `exchange` was, on the way that `live` is."""
        self.installed = replace(exchange.installed, counts=None)  # no part of a trial
        self.live, self._timeouts = live, live.timeouts
        if live.upstream is not None:  # else it is found anew (gateway/forward_proxy)
            self._upstream = live.upstream
        self.client, self.request_id, self._consumer = exchange.client, exchange.request_id, exchange._consumer
        self._facts, self._fields, self._said = exchange._facts, exchange._fields, exchange._said
        self._target, self._sent_target = exchange._target, exchange._sent_target
        self._sent_authority, self._traceparent = exchange._sent_authority, exchange._traceparent
        self._stage = exchange._stage
        self._request_ended = True


class Refresh(Headless):
    """An answer that is fetched while a stale one is used."""

    __slots__ = ()

    def over(self, why: str) -> None:
        """See Headless."""
        self.worker.refreshing -= 1

    def begin(self, entry: Entry) -> None:
        """Goes on where the exchange was answered."""
        if self._timeouts.bounded:
            self._bound()
        caching.fetch(self, caching.key_of(self), b"stale", entry)
        self._walk()


def refresh(exchange: Exchange, entry: Entry) -> None:
    """`exchange` is answered with `entry`, which is stale: the next is fetched."""
    worker = exchange.worker
    if worker.refreshing >= REFRESHES_MAX:
        return
    worker.refreshing += 1
    head = replace(exchange.head, method=b"GET", has_body=False, body_length=None, expects_continue=False)
    fetching = Refresh(worker, head, NOBODY, exchange.peer)
    assert exchange.live is not None
    fetching.follow(exchange, exchange.live)
    worker.loop.call_soon(fetching.begin, entry)
