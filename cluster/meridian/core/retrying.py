"""Whether a request that came to nothing is sent once more, when, and how many requests of an upstream may be.

A further try costs the upstream a request that nobody asked for. Three things keep that from doing harm:
- **Meaning.** What may have been processed is sent again only if that does not matter: methods that are idempotent
  (RFC 9110 section 9.2.2), and others that the document names. What was not processed for sure may always go again.
- **Pauses.** The first further try goes to another endpoint at once. Later ones, and those that ask an endpoint again,
  wait for a time drawn from a range that doubles: all who failed together must not come back together.
- **A budget.** Of an upstream's requests at most a part, and a few more, are tried again. Where most tries fail,
  retries would otherwise multiply the load on what is left (retry storms).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import expm1, inf

MEMORY_SECONDS = 10.0
"""How long a budget remembers, the older the less: what is not spent within it is lost (Finagle's and Linkerd's)."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_DOUBLINGS_MAX = 16


class Cause(Enum):
    """What a try came to nothing by. Its value is its word in the document."""

    CONNECT = "connect"  # no connection came about: nothing was sent
    RESET = "reset"  # the connection ended before a response began
    STALE = "stale"  # so did one that was kept, without a word: it may have been closed before the request came
    TIMEOUT = "timeout"  # no response began in time
    STATUS = "status"  # the response has a status that the document names
    UNPROCESSED = "unprocessed"  # the endpoint says that it has not processed it (RFC 9113 section 8.7)


UNSENT = frozenset((Cause.CONNECT, Cause.UNPROCESSED))
"""Whatever the method, the request may go again."""

BLAMELESS = frozenset((Cause.STALE, Cause.UNPROCESSED))
"""They say nothing against the endpoint: it may be asked again at once, on another connection."""


@dataclass(frozen=True, slots=True)
class Policy:
    """See retry_words.Retry. `tries` are all, the first included."""

    tries: int = 3
    causes: frozenset[Cause] = frozenset((Cause.CONNECT, Cause.RESET, Cause.STALE, Cause.UNPROCESSED))
    statuses: frozenset[int] = frozenset()
    methods: frozenset[bytes] = IDEMPOTENT
    backoff_seconds: float = 0.025
    backoff_seconds_max: float = 0.25
    per_try_seconds: float = inf  # from a request that is sent to the head of its response

    def allows(self, cause: Cause, method: bytes, tries: int) -> bool:
        """Whether a request that was tried `tries` times and failed by `cause` may be sent again, budget aside."""
        return tries < self.tries and cause in self.causes and (cause in UNSENT or method in self.methods)

    def pause_seconds(self, tries: int, draw: Callable[[], float], *, at_once: bool, asked_seconds: float) -> float:
        """How long the next try waits, after `tries` of them. `at_once`: no endpoint is in need of a rest;
        `asked_seconds` is what the upstream asked for (Retry-After), 0.0 if nothing.

        Full jitter (Brooker, "Exponential Backoff and Jitter", 2015): any time up to the doubled base, so that the
        retries of many are spread evenly. What was asked for is kept to as far as `backoff_seconds_max` allows.
        """
        if at_once and tries == 1 and not asked_seconds:
            return 0.0
        reach = min(self.backoff_seconds * 2.0 ** min(tries - 1, _DOUBLINGS_MAX), self.backoff_seconds_max)
        return max(draw() * reach, min(asked_seconds, self.backoff_seconds_max))


USUAL = Policy()


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many further tries an upstream bears: a part of its requests, and so many a second besides."""

    ratio: float = 0.2
    per_second: float = 10.0


@dataclass(slots=True)
class Budget:
    """What was spent of an allowance, and on how many requests.

    Of the first `t` seconds with `n` requests, at most `ratio * n + per_second * (t + MEMORY_SECONDS)` tries are
    further ones, however they are spread. Both sums fade in time, by the same factor; looked at only when a further
    try is wanted, so that requests that go well cost nothing but being counted.
    """

    at: float = 0.0  # of the last look
    counted: int = 0  # requests until then
    requests: float = 0.0  # of them, those that are remembered
    retries: float = 0.0

    def take(self, allowance: Allowance, counted: int, now: float) -> bool:
        """Takes one further try if there is room for it. `counted`: all requests of the upstream so far."""
        ages = max(0.0, now - self.at) / MEMORY_SECONDS
        faded = -expm1(-ages)
        # What came since the last look is taken to have come evenly.
        came = (counted - self.counted) * (faded / ages if ages else 1.0)
        self.requests = self.requests * (1.0 - faded) + came
        self.retries *= 1.0 - faded
        self.at, self.counted = max(self.at, now), counted
        if self.retries + 1.0 > allowance.ratio * self.requests + allowance.per_second * MEMORY_SECONDS:
            return False
        self.retries += 1.0
        return True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an exchange may take, in seconds. What is infinite is not limited."""

    answer: float = 60.0  # of each try: silence from the end of the request to the head of the response
    idle: float = 60.0  # silence within the response
    total: float = inf  # from the end of the request to the end of the response, all tries together
    stream: float = inf  # of the whole exchange, whatever comes
    per_try: bool = False  # `answer` is the limit of a try rather than of the upstream's silence
    bounded: bool = False  # something ends also an exchange that is not silent

    def under(self, retry: Policy, total: float | None, stream: float | None) -> "Timeouts":
        """These, with the limit of a try, and with what a route has of its own."""
        total, stream = self.total if total is None else total, self.stream if stream is None else stream
        per_try, bounded = retry.per_try_seconds < self.answer, min(total, stream) < inf
        return Timeouts(min(self.answer, retry.per_try_seconds), self.idle, total, stream, per_try, bounded)
