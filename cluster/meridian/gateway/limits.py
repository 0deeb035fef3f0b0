"""The token buckets of one worker, by limit. They outlive snapshots: a level belongs to the limit's name, so that no
new document hands out a second burst."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from meridian.core.limiting import Buckets, Share, joined, share
from meridian.core.snapshot import Limit


class Decision(NamedTuple):
    """What the limits of one exchange say. `limit` is the one that refused or, if all admit, the nearest to refusing.

    `remaining` is what this worker could still admit at once, in whole tokens; `reset_seconds` when its bucket is full;
    `retry_after_seconds` when a token is there if nothing changes (0.0 if admitted, inf if never).
    """

    admitted: bool
    limit: str
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


class Limits:
    """Until told otherwise the worker is the only spender (`meridian serve`)."""

    def __init__(self) -> None:
        """Holds nothing yet."""
        self._spenders = 1
        self._indexes: tuple[int, ...] = (0,)
        self._limits: Mapping[str, Limit] = {}
        self._buckets: dict[tuple[str, str], Buckets] = {}

    def replace(self, limits: Mapping[str, Limit], now: float) -> None:
        """Takes the limits of a new snapshot. Another key function makes it another limit, which starts empty."""
        old, self._limits = self._limits, limits
        buckets = {}
        for name, limit in limits.items():
            kept = self._buckets.get((name, limit.key))
            if kept is None:
                kept = Buckets(self._share(limit, now))
            elif old.get(name) != limit:
                kept.resize(self._share(limit, now))
            buckets[name, limit.key] = kept
        self._buckets = buckets

    def set_shares(self, spenders: int, indexes: tuple[int, ...], now: float) -> None:
        """This worker spends the parts `indexes` of `spenders` equal parts of every limit from `now` on."""
        assert all(0 <= index < spenders for index in indexes) and len(set(indexes)) == len(indexes)
        if (spenders, indexes) == (self._spenders, self._indexes):
            return
        self._spenders, self._indexes = spenders, indexes
        for limit in self._limits.values():
            self._buckets[limit.name, limit.key].resize(self._share(limit, now))

    def decide(self, asked: Sequence[tuple[Limit, str]], now: float) -> Decision:
        """Takes one token under each of the limits asked for, as (limit, key), or none at all if one of them refuses.

        `asked` names at least one limit. The admission is at the moment of `now`: read the clock immediately before.
        """
        nearest: Decision | None = None
        for limit, key in asked:
            left, reset, wait = self.buckets(limit).look(key, now)
            if wait > 0.0:
                return Decision(False, limit.name, 0, reset, wait)
            if nearest is None or left - 1 < nearest.remaining:
                nearest = Decision(True, limit.name, int(left) - 1, reset, 0.0)
        assert nearest is not None
        for limit, key in asked:
            # Two limits of one route never share a bucket, so that what was seen above is still there.
            wait = self.buckets(limit).admit(key, now)
            assert wait == 0.0
        return nearest

    def buckets(self, limit: Limit) -> Buckets:
        """The buckets of a limit of the present snapshot."""
        return self._buckets[limit.name, limit.key]

    def _share(self, limit: Limit, now: float) -> Share:
        parts = [share(limit.rate_per_second, limit.burst, self._spenders, index, now) for index in self._indexes]
        return joined(parts, now)
