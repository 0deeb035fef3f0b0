"""At most N under way at any moment, for each key: one worker's part.

Invariant: what this worker has under way is at most what its slices give. There are no loans: a borrower may hold one
for as long as an exchange lasts, and when it dies nobody could say when its exchanges have ended. A worker's own end
with its process, so its slices are free when it is reaped; a slice that is given up is free when `settled`.
"""

from collections.abc import Mapping

from meridian.core.metering.portions import NEVER, NOTHING, Portion, digest

AGAIN_SECONDS = 1.0  # what a client is told to wait: nobody knows when an exchange ends
KEYS_MAX = 100_000  # with something under way: ten for each connection that a worker takes


class Concurrency:
    """A worker's meter for one limit."""

    def __init__(self, limit: str, amount: int, keys_max: int = KEYS_MAX) -> None:
        """Has no slices yet."""
        self.limit = limit
        self.amount = amount
        self.refused_for_room = 0
        self._keys_max = keys_max
        self._portion = NOTHING
        self._active: dict[str, int] = {}

    def look(self, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: returns how many more may be under way, NEVER, and seconds until one may be, if that is
        known (0.0: now)."""
        active = self._active.get(key, 0)
        own = self._own(key)
        if active < own and (active or len(self._active) < self._keys_max):
            return float(own - active), NEVER, 0.0
        if active < own:
            self.refused_for_room += 1
        return 0.0, NEVER, AGAIN_SECONDS if own else NEVER

    def admit(self, key: str, now: float) -> float:
        """One more is under way: returns 0.0, or the seconds until it may be."""
        wait = self.look(key, now)[2]
        if wait == 0.0:
            self._active[key] = self._active.get(key, 0) + 1
        return wait

    def carry(self, key: str, count: int) -> None:
        """So many are under way that a predecessor admitted and has not ended."""
        self._active[key] = self._active.get(key, 0) + count

    def under_way(self) -> Mapping[str, int]:
        """How many, by key."""
        return self._active

    def release(self, key: str) -> None:
        """One of those that were admitted has ended."""
        left = self._active[key] - 1
        if left:
            self._active[key] = left
        else:
            del self._active[key]

    def take(self, portion: Portion) -> None:
        """Replaces the slices. What is under way beyond them ends by itself."""
        self._portion = portion

    def settled(self) -> bool:
        """Whether all that is under way fits the slices: only then may slices that were given up go to somebody."""
        return all(active <= self._own(key) for key, active in self._active.items())

    def change(self, amount: int) -> None:
        """Another N."""
        self.amount = amount

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._active)

    def active(self, key: str) -> int:
        """How many are under way."""
        return self._active.get(key, 0)

    def _own(self, key: str) -> int:
        return self._portion.own(self.amount, digest(self.limit, key))
