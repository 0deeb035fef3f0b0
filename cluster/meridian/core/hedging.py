"""When a try is late: what part of an upstream's recent answers began sooner.

Times are counted in buckets that grow by a tenth, so that a percentile is right to a tenth, whatever the scale, and an
answer costs one addition. When `KEPT` are counted all counts are halved: the last thousand or two matter.
"""

from dataclasses import dataclass, field
from math import inf, log

LEAST_SECONDS = 0.0001  # 0.1 ms: nothing over a socket is quicker
GROWTH = 1.1
BUCKETS = 146  # up to LEAST_SECONDS * GROWTH ** 145 = 100 s
KEPT = 2000
SEEN_MIN = 100
"""Answers before anything is said: of fewer, a 95th percentile is made of less than five."""
_LOOKED_UP_EACH = 50  # answers: so often a percentile is found anew


@dataclass(frozen=True, slots=True)
class Hedge:
    """See retry_words.Hedge; `part` is that of the percentile, below 1."""

    part: float
    seconds_min: float


@dataclass(slots=True)
class Latencies:
    """Times to the head of a response. Belongs to an upstream's name and outlives snapshots."""

    counts: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    total: float = 0.0
    seen: int = 0  # of all times, halved or not
    _found: float = inf  # the last percentile
    _of: tuple[float, int] = (0.0, -1)  # which, and at how many seen

    def observe(self, seconds: float) -> None:
        """Takes one."""
        place = int(log(max(seconds, LEAST_SECONDS) / LEAST_SECONDS) / _LOG_GROWTH)
        self.counts[min(place, BUCKETS - 1)] += 1.0
        self.total += 1.0
        self.seen += 1
        if self.total >= KEPT:
            self.counts = [count / 2 for count in self.counts]
            self.total = sum(self.counts)

    def late_after(self, hedge: Hedge) -> float:
        """After so many seconds a try is late; infinite while too little is known."""
        if self.seen < SEEN_MIN:
            return inf
        turn = self.seen // _LOOKED_UP_EACH
        if self._of != (hedge.part, turn):
            self._of, self._found = (hedge.part, turn), self._percentile(hedge.part)
        return max(self._found, hedge.seconds_min)

    def _percentile(self, part: float) -> float:
        """The upper end of the bucket that it is in."""
        left = part * self.total
        for place, count in enumerate(self.counts):
            left -= count
            if left < 0.0:
                return float(LEAST_SECONDS * GROWTH ** (place + 1))
        return inf


_LOG_GROWTH = log(GROWTH)
