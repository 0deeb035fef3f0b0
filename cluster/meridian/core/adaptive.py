"""How many requests at a time an upstream bears, learned from how long it takes.

Beyond what a service can do at once, requests only wait in it: latency grows, throughput does not. So the limit follows
the gradient between the time that a request takes when nothing waits (`baseline`) and the time that it takes now, as in
Envoy's adaptive concurrency and Netflix's concurrency-limits:

    limit = limit * gradient + sqrt(limit)        gradient = tolerance * baseline / now, between 1/2 and 1

- It grows only while it is used: an idle upstream tells nothing. At first it doubles, until the first sign of waiting.
- The baseline falls at once and rises slowly, and only while less than half of the limit is used. Where the limit is
  reached for long, nothing tells a service that has become slower from one that is full: then for two windows only half
  is let through, and what it takes then is the baseline. Else one that has become slower would be starved for good.
"""

from dataclasses import dataclass, field
from math import sqrt
from statistics import median

from meridian.core.shedding import Priority

WINDOW_SECONDS = 0.5
"""Over which answers are looked at: many times a round trip, short beside what clients wait."""
SAMPLES_MIN = 10
SAMPLES_MAX = 1000  # of a window; the median of more is no better
PROBE_AFTER = 20  # windows on end in which the limit held requests back, or they took too long
_PROBE_WINDOWS = 2  # the first of them drains what was under way
_GRADIENT_MIN = 0.5
_MORE = (-1.0, 0.0, 2.0)
"""Square roots of the limit that each priority has more. By the root, chance makes the number of requests under way
vary: so much room lets what is important in at almost any moment, and makes it wait but little."""
_RISE = 0.1  # of the way to what is seen, each window


@dataclass(frozen=True, slots=True)
class Adaptive:
    """See upstream_words.AdaptiveConcurrency."""

    least: int = 4
    most: int = 1000
    initial: int = 50
    tolerance: float = 1.5


@dataclass(slots=True)
class AdaptiveLimit:
    """Of one upstream in one worker; outlives snapshots."""

    limit: float
    baseline: float = 0.0  # seconds; 0.0 before the first window
    is_starting: bool = True
    peak: int = 0  # requests under way, the most of this window
    began: float = 0.0  # of this window
    held: int = 0  # windows on end that were full or slow
    probe: int = 0  # windows of a probe that are left
    samples: list[float] = field(default_factory=list)

    @property
    def allowed(self) -> float:
        """Requests at a time."""
        return self.limit / 2 if self.probe else self.limit

    def allowed_to(self, priority: Priority) -> float:
        """Requests at a time, as far as those of this priority are concerned."""
        allowed = self.allowed
        return max(1.0, allowed + _MORE[priority] * sqrt(allowed))

    def observe(self, seconds: float, active: int) -> None:
        """An answer has begun after so long, while so many requests were under way."""
        if active > self.peak:
            self.peak = active
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(seconds)

    def step(self, policy: Adaptive, now: float) -> bool:
        """Looks at the window, if it is over. True: `allowed` may have changed."""
        if now - self.began < WINDOW_SECONDS or len(self.samples) < SAMPLES_MIN:
            return False
        seen, peak, allowed = max(median(self.samples), 1e-6), self.peak, self.allowed
        self.samples, self.peak, self.began = [], 0, now
        if self.probe:
            self.probe -= 1
            if not self.probe:
                self.baseline = seen
            return True
        if not self.baseline or seen < self.baseline:
            self.baseline = seen
        elif peak < allowed / 2:
            self.baseline += (seen - self.baseline) * _RISE
        gradient = min(1.0, max(_GRADIENT_MIN, policy.tolerance * self.baseline / seen))
        self._move(policy, gradient, peak)
        if gradient < 1.0 or peak >= allowed:
            self.held += 1
        else:
            self.held = 0
        if self.held >= PROBE_AFTER:
            self.held, self.probe = 0, _PROBE_WINDOWS
        return True

    def _move(self, policy: Adaptive, gradient: float, peak: int) -> None:
        limit = self.limit
        if gradient < 1.0:
            self.is_starting = False
            limit = limit * gradient + sqrt(limit)
        elif peak >= limit / 2:
            limit = 2 * limit if self.is_starting else limit + sqrt(limit)
        self.limit = min(float(policy.most), max(float(policy.least), limit))
