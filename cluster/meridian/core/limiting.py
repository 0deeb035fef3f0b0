"""Local token buckets for a fixed share of a limit. In every window W a bucket admits at most rate * W + burst.

All nodes together stay within R*W + B (invariant 2) because the shares of all spenders sum to at most the whole:
`share` cuts R and B into parts of whole tokens. Two rules keep a restart or an eviction from handing out a second
burst: a key that was not seen before accrues from the moment the share was given (`since`), and a key is forgotten
only when it is full again. While the table is full of keys that are not, a new key is refused.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

KEYS_MAX = 1_000_000  # 200 bytes each: what a node may spend on idle keys
KEYS_SETTLED_MAX = 10_000  # of a resize: more would hold the loop for over 10 ms
CLOCK_DRIFT_MAX = 0.01  # clocks whose rates differ by so much are inside invariant 2: nobody may accrue faster


@dataclass(frozen=True, slots=True)
class Share:
    """What one spender may spend of a limit, from `since` (monotonic seconds) on. A burst of 0 admits nothing."""

    rate_per_second: float
    burst: int
    since: float


def share(rate_per_second: float, burst: int, spenders: int, index: int, since: float) -> Share:
    """The part of spender `index` of `spenders`. Parts sum to exactly `burst` and to at most the rate, by a clock
    that runs up to 1 % fast."""
    assert 0 <= index < spenders
    tokens = burst // spenders + (1 if index < burst % spenders else 0)
    return Share(rate_per_second / (1 + CLOCK_DRIFT_MAX) * tokens / burst, tokens, since)


def joined(shares: Sequence[Share], since: float) -> Share:
    """What one spender may spend that holds all of `shares`."""
    return Share(sum(share.rate_per_second for share in shares), sum(share.burst for share in shares), since)


class Buckets:
    """Levels of one limit's keys in one worker, oldest use first. Pure but for its own table: time is an argument."""

    def __init__(self, share: Share) -> None:
        """Starts with every key empty as of `share.since`."""
        self.share = share
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, key: str, now: float) -> float:
        """Takes one token: returns 0.0 if admitted, else seconds until one is there (inf if never)."""
        share = self.share
        if share.burst == 0:
            return float("inf")
        found = self._levels.pop(key, None)
        if found is None and len(self._levels) >= KEYS_MAX:
            wait = self._seconds_until_room(now)
            if wait > 0.0:
                return wait
        level, at = found or (0.0, share.since)
        level = min(float(share.burst), level + max(0.0, now - at) * share.rate_per_second)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / share.rate_per_second
        self._levels[key] = (level - 1.0 if wait == 0.0 else level, max(now, at))
        return wait

    def look(self, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: returns the level, seconds until it is full, and seconds until one token is there."""
        share = self.share
        if share.burst == 0:
            return 0.0, 0.0, float("inf")
        found = self._levels.get(key)
        if found is None and len(self._levels) >= KEYS_MAX:
            wait = self._seconds_until_room(now)
            if wait > 0.0:
                return 0.0, wait, wait
        level, at = found or (0.0, share.since)
        level = min(float(share.burst), level + max(0.0, now - at) * share.rate_per_second)
        reset = (share.burst - level) / share.rate_per_second
        return level, reset, 0.0 if level >= 1.0 else (1.0 - level) / share.rate_per_second

    def resize(self, share: Share) -> None:
        """Takes a new share: levels are clamped to it and accrue at the new rate from `share.since`.

        Too many keys to settle at once are forgotten instead: all start empty, which costs each at most one burst
        and cannot admit too much.
        """
        old = self.share
        if len(self._levels) > KEYS_SETTLED_MAX:
            self._levels.clear()
        rate = min(old.rate_per_second, share.rate_per_second)
        for key, (level, at) in self._levels.items():
            level = min(float(old.burst), level + max(0.0, share.since - at) * rate)
            self._levels[key] = (min(level, float(share.burst)), max(at, share.since))
        self.share = share

    def _seconds_until_room(self, now: float) -> float:
        """Forgets the key unused for longest if it is full again (0.0), else says when it will be."""
        level, at = next(iter(self._levels.values()))
        missing = self.share.burst - level - (now - at) * self.share.rate_per_second
        if missing > 0.0:
            return missing / self.share.rate_per_second
        self._levels.popitem(last=False)
        return 0.0
