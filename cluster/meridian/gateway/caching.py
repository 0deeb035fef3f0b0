"""The stage that answers from the cache, and the recorder that stands before a client while its answer is fetched.

    look up -> fresh: answer
            -> stale, but may be used: answer, and refresh behind the client's back (gateway/headless)
            -> somebody fetches it already: wait, then look again
            -> else: fetch, and record what comes

Invariants:
- What is recorded is what the upstream said, before anything of this client, route or moment was added to it; what is
  served gets all of that anew.
- Only a whole answer is kept: one that was cut, or is larger than `answer_bytes_max`, is not.
- One client's failure is no other's: who waits for a fetch that comes to nothing fetches itself, one after the other,
  and nobody waits for what was not kept lately, nor longer than `WAIT_SECONDS`.
"""

from asyncio import TimerHandle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from meridian.core import caching
from meridian.core.caching import Use
from meridian.gateway import answers
from meridian.gateway.cache import Entry, Flight, Key
from meridian.telemetry.metrics import Metrics
from meridian.wire.events import Headers

if TYPE_CHECKING:
    from meridian.gateway.stages import Stages
    from meridian.gateway.stream import DownstreamStream

WAIT_SECONDS = 5.0  # for another's fetch (nginx's proxy_cache_lock_timeout): longer and it had better be asked twice
PASS_SECONDS = 120.0  # that an answer which was not kept keeps nobody waiting (Varnish's hit-for-miss)
_CACHED = (b"GET", b"HEAD")
_FAILED = frozenset({500, 502, 503, 504})


def look_up(exchange: "Stages") -> bool:
    """The stage. False: answered, or waiting."""
    head, worker = exchange.head, exchange.worker
    terms = exchange._live.route.cache
    assert terms is not None
    cache, key = exchange.installed.cache, key_of(exchange)
    if head.protocol:  # what two say to each other is no answer
        return True
    if head.method not in _CACHED:
        _record(exchange, Recorder(exchange, key, b"method", purges=True))
        return True
    asked = caching.directives(head.headers)
    if b"no-store" in asked or any(name == b"range" for name, _ in head.headers):
        _record(exchange, Recorder(exchange, key, b"bypass"))
        return True
    entry, is_varied = cache.find(key, head.headers)
    now = worker.clock()
    if entry is not None:
        use = caching.judge(entry.fresh, now - entry.since, asked)
        if use is not Use.ASK:
            if use is Use.REFRESH and key not in cache.flights:
                worker.refresh(exchange, entry)
            serve(exchange, entry, b"hit")
            return False
    if b"only-if-cached" in asked:
        exchange._answer(answers.NOT_CACHED)
        return False
    if head.method == b"HEAD" and entry is None:
        _record(exchange, Recorder(exchange, key, b"uri-miss"))
        return True
    flight = cache.flights.get(key)
    if flight is not None and not exchange._waited and not cache.passes(key, now):
        _wait(exchange, flight)
        return False
    why = b"stale" if entry is not None else b"vary-miss" if is_varied else b"uri-miss"
    fetch(exchange, key, why, entry)
    return True


def fetch(exchange: "Stages", key: Key, why: bytes, entry: Entry | None) -> None:
    """The upstream is asked for the whole answer, or whether the one that is kept still holds."""
    cache = exchange.installed.cache
    flight, keeps = None, exchange.head.method == b"GET"
    if keeps and key not in cache.flights and not cache.passes(key, exchange.worker.clock()):
        flight = cache.flights[key] = Flight()
    fields = caching.without_conditions(exchange._fields)
    exchange._fields = fields + caching.conditions(entry.headers) if entry is not None else fields
    _record(exchange, Recorder(exchange, key, why, entry, flight, keeps=keeps))


def _record(exchange: "Stages", recorder: "Recorder") -> None:
    exchange.stream = exchange._recorder = recorder


def _wait(exchange: "Stages", flight: Flight) -> None:
    timer = exchange._pause = exchange.worker.loop.call_later(WAIT_SECONDS, _look_again, exchange, True)
    flight.waiting.append(partial(_landed, exchange, timer))


def _landed(exchange: "Stages", timer: TimerHandle) -> None:
    """The fetch that it waited for is over."""
    if exchange._pause is timer:  # else it waits no longer
        timer.cancel()
        _look_again(exchange, False)


def _look_again(exchange: "Stages", gave_up: bool) -> None:
    exchange._pause = None
    exchange._waited = gave_up
    exchange._stage -= 1
    exchange._walk()


def key_of(exchange: "Stages") -> Key:
    """What an answer is kept for: who asks is a part of it, where that is asked. So is TLS: many services send who
    comes without it elsewhere, and must not send those who come with it there, too."""
    return exchange.route_name, exchange._consumer, exchange.head.authority, exchange._target, exchange.peer.tls


def serve(exchange: "Stages", entry: Entry, said: bytes) -> None:
    """An answer that is kept, as this client is to get it; the exchange ends with it."""
    stream = exchange.stream
    status = say(exchange, stream, entry, said)
    count(exchange.worker.metrics, exchange.route_name, "hit")
    exchange._end(status, "")
    stream.flush()


def say(exchange: "Stages", stream: "DownstreamStream", entry: Entry, said: bytes) -> int:
    """Sends it; returns the status. `said` is for Cache-Status (RFC 9211)."""
    head, age = exchange.head, exchange.worker.clock() - entry.since + entry.fresh.age
    left = entry.fresh.lifetime - age
    headers = [field for field in entry.headers if field[0] not in (b"age", b"content-length")]
    headers.append((b"age", b"%d" % age))
    exchange._complete(headers)
    headers.append((b"cache-status", b"meridian; %b; ttl=%d" % (said, left)))
    if entry.status == 200 and caching.not_modified(head.headers, entry.headers):
        stream.respond(304, headers, end=True)
        return 304
    if entry.status != 204:
        headers.append((b"content-length", b"%d" % len(entry.body)))
    if head.method == b"HEAD" or entry.status == 204:
        stream.respond(entry.status, headers, end=True)
    else:
        exchange._response_bytes = len(entry.body)
        stream.answer(entry.status, headers, entry.body)
    return entry.status


def count(metrics: Metrics, route: str, result: str) -> None:
    """Counts what became of a request in the cache."""
    metrics.counter(
        "meridian_cache_requests_total", "Requests of routes with a cache: hit, or why the upstream was asked.",
        route=route, result=result,
    ).value += 1  # fmt: skip


class Recorder:
    """Stands before a client's stream and records what the upstream sends. A stream.DownstreamStream."""

    __slots__ = (
        "_entry", "_exchange", "_flight", "_forwarded", "_fresh", "_keeps", "_key", "_pieces", "_purges",
        "_purges_before", "_raw", "_size", "_stream", "_why",
    )  # fmt: skip

    def __init__(
        self, exchange: "Stages", key: Key, why: bytes, entry: Entry | None = None, flight: Flight | None = None,
        *, keeps: bool = False, purges: bool = False,
    ) -> None:  # fmt: skip
        """`why` the upstream is asked (RFC 9211 section 2.2). `entry` is kept, and what its upstream is asked about;
        `keeps`: what comes may be kept; `purges`: what is kept is no longer true (section 4.4)."""
        self._exchange = exchange
        self._stream = exchange.stream
        self._key = key
        self._why = why
        self._entry = entry
        self._flight = flight
        self._keeps = keeps
        self._purges = purges
        self._raw: tuple[int, Headers] | None = None  # as the upstream sent it
        self._fresh: caching.Freshness | None = None
        self._pieces: list[bytes] | None = None
        self._size = 0
        self._forwarded = True  # to the client
        self._purges_before = exchange.installed.cache.purges

    def note(self, status: int, headers: Headers) -> None:
        """The head as the upstream sent it."""
        self._raw = (status, headers.copy())

    def close(self) -> None:
        """The exchange is over, however."""
        if self._flight is not None:
            flight, self._flight = self._flight, None
            for again in self._exchange.installed.cache.land(self._key, flight):
                self._exchange.worker.loop.call_soon(again)  # not within this one's end

    def bears(self) -> bool:
        """Whether what is kept may be used because the upstream fails; then it is sent."""
        entry, exchange = self._entry, self._exchange
        if entry is None:
            return False
        asked = caching.directives(exchange.head.headers)
        if not caching.bears_errors(entry.fresh, exchange.worker.clock() - entry.since, asked):
            return False
        exchange._response_status = say(exchange, self._stream, entry, b"hit; detail=stale-if-error")
        self._forwarded = False
        return True

    # The exchange's calls

    @property
    def writable(self) -> bool:
        """See stream.DownstreamStream, as all of these."""
        return self._stream.writable

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """Keeps it, or uses what is kept."""
        raw = self._raw
        if raw is None:  # the gateway's own answer
            self._stream.respond(status, headers, end=end)
            return
        count(self._exchange.worker.metrics, self._exchange.route_name, self._why.decode())
        if self._entry is not None and (self._holds(raw) or (raw[0] in _FAILED and self.bears())):
            return
        self._begin(raw)
        said = b"fwd=%b; fwd-status=%d" % (self._why, raw[0]) + (b"; stored" if self._fresh is not None else b"")
        headers.append((b"cache-status", b"meridian; " + said))
        if self._keeps and raw[0] == 200 and caching.not_modified(self._exchange.head.headers, raw[1]):
            without = [field for field in headers if field[0] != b"content-length"]
            self._stream.respond(304, without, end=True)
            self._exchange._response_status = 304
            self._forwarded = False
        else:
            self._stream.respond(status, headers, end=end)
        if end:
            self._complete()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """See respond."""
        if self._raw is None:
            self._stream.answer(status, headers, body)
        else:
            self.respond(status, headers, end=False)
            self.send_data(body, end=True)

    def send_data(self, data: bytes, *, end: bool) -> None:
        """Records it."""
        if self._pieces is not None and data:
            self._size += len(data)
            terms = self._exchange._live.route.cache
            if terms is not None and self._size > terms.answer_bytes_max:
                self._let_pass()
            else:
                self._pieces.append(data)
        if self._forwarded:
            self._stream.send_data(data, end=end)
        if end:
            self._complete()

    def send_trailers(self, headers: Headers) -> None:
        """An answer with trailers is passed on and not kept."""
        self._pieces = self._fresh = None
        if self._forwarded:
            self._stream.send_trailers(headers)

    def upgrade(self, headers: Headers) -> None:
        """Passes it on."""
        self._stream.upgrade(headers)

    def inform(self, status: int, headers: Headers) -> None:
        """Passes it on."""
        self._stream.inform(status, headers)

    def reset(self, reason: str) -> None:
        """It was cut: nothing of it is kept."""
        self._pieces = self._fresh = None
        if self._forwarded:
            self._stream.reset(reason)

    def consumed(self, count: int) -> None:
        """Passes it on."""
        self._stream.consumed(count)

    def pause_body(self) -> None:
        """Passes it on."""
        self._stream.pause_body()

    def resume_body(self) -> None:
        """Passes it on."""
        self._stream.resume_body()

    def flush(self) -> None:
        """Passes it on."""
        self._stream.flush()

    # What becomes of it

    def _holds(self, raw: tuple[int, Headers]) -> bool:
        """The upstream says that what is kept still holds: then it is sent."""
        entry, exchange = self._entry, self._exchange
        if entry is None or raw[0] != 304:
            return False
        headers = caching.updated(entry.headers, raw[1])
        fresh = self._judge(entry.status, headers)
        now = exchange.worker.clock()
        new = replace(entry, headers=headers, fresh=fresh or replace(entry.fresh, lifetime=0.0), since=now)
        if fresh is not None:
            exchange.installed.cache.replace(self._key, entry, new)
        else:
            exchange.installed.cache.remove(self._key)
        exchange._response_status = say(exchange, self._stream, new, b"hit; fwd=stale; fwd-status=304")
        self._forwarded = False
        self._keeps = False
        return True

    def _begin(self, raw: tuple[int, Headers]) -> None:
        """Decides whether it is kept."""
        exchange = self._exchange
        if self._purges and 200 <= raw[0] < 400:
            exchange.installed.cache.remove(self._key)
        if not self._keeps:
            return
        self._fresh = self._judge(*raw)
        if self._fresh is None:
            self._let_pass()
        else:
            self._pieces = []

    def _judge(self, status: int, headers: Headers) -> caching.Freshness | None:
        exchange = self._exchange
        terms = exchange._live.route.cache
        assert terms is not None
        return caching.freshness(exchange.head.headers, status, headers, terms, exchange.worker.unix_seconds())

    def _let_pass(self) -> None:
        """It is not kept: nobody need wait for it, now or soon."""
        exchange, self._pieces, self._fresh = self._exchange, None, None
        cache = exchange.installed.cache
        if self._raw is not None and self._raw[0] < 500:  # a failure passes: what comes next may be kept
            cache.let_pass(self._key, exchange.worker.clock() + PASS_SECONDS)
        self.close()

    def _complete(self) -> None:
        """All of it has come."""
        if self._fresh is None or self._pieces is None or self._raw is None:
            return
        if self._exchange.installed.cache.purges != self._purges_before:
            self.close()
            return
        exchange, (status, headers) = self._exchange, self._raw
        names = caching.vary_of(headers) or ()
        entry = Entry(
            status, headers, b"".join(self._pieces), self._fresh, exchange.worker.clock(), names,
            caching.variant(names, exchange.head.headers), caching.tags_of(headers),
        )  # fmt: skip
        self._fresh = self._pieces = None
        exchange.installed.cache.put(self._key, entry)
        self.close()
