"""The token buckets of one worker, by limit. They outlive snapshots: a level belongs to the limit's name, so that no
new document hands out a second burst."""

from collections.abc import Mapping

from meridian.core.limiting import Buckets, Share, joined, share
from meridian.core.snapshot import Limit


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

    def buckets(self, limit: Limit) -> Buckets:
        """The buckets of a limit of the present snapshot."""
        return self._buckets[limit.name, limit.key]

    def _share(self, limit: Limit, now: float) -> Share:
        parts = [share(limit.rate_per_second, limit.burst, self._spenders, index, now) for index in self._indexes]
        return joined(parts, now)
