"""The store, and the regional store where there is one: whether they answer, and whether their files are in order."""

import asyncio
from collections.abc import Callable

from meridian.control.upkeep import Defragmented, Upkeep
from meridian.core.capacity import smoothed
from meridian.store.keys import Keys
from meridian.store.port import Store, StoreHealth

HEALTH_SECONDS = 1.0
LOST_SECONDS = 3.0  # without the store before limits that ask for it leave their floor; an election takes up to 2 s

_UNKNOWN = StoreHealth(False, False, "", "not asked yet")


class Stores:
    """`health` of the global store; `regional_health` of this region's, None where one store serves all.

    `writes_per_second` is what this node makes the stores write, smoothed. `lost` is true after LOST_SECONDS without a
    store that can be written to; `turned()` is called when that changes. `leads()` and `is_oldest()` say whose turn the
    upkeep of the global and of the regional store is.
    """

    def __init__(
        self,
        store: Store,
        regional: Store,
        keys: Keys,
        clock: Callable[[], float],
        *,
        quota_bytes: int,
        leads: Callable[[], bool],
        is_oldest: Callable[[], bool],
        turned: Callable[[], None],
    ) -> None:
        self.health = _UNKNOWN
        self.regional_health = _UNKNOWN if regional is not store else None
        self.writes_per_second = 0.0
        self.lost = False
        self._store, self._regional, self._clock, self._turned = store, regional, clock, turned
        self._reached_at = self._looked_at = clock()
        self._writes = 0
        self._upkeep = Upkeep(store, keys, clock, leads, quota_bytes=quota_bytes)
        self._regional_upkeep = (
            Upkeep(regional, keys, clock, is_oldest, quota_bytes=quota_bytes) if regional is not store else None
        )

    async def run(self) -> None:
        """Looks at the stores and after them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._upkeep.run())
            if self._regional_upkeep is not None:
                tasks.create_task(self._regional_upkeep.run())

    async def defragment(self) -> tuple[Defragmented, ...]:
        """Makes the files of the stores small, one member at a time. Raises StoreError."""
        done = await self._upkeep.defragment()
        return done if self._regional_upkeep is None else (*done, *await self._regional_upkeep.defragment())

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know of the stores' members, each with the remedy."""
        found = self._upkeep.warnings(self.health)
        if self._regional_upkeep is None or self.regional_health is None:
            return found
        return (*found, *self._regional_upkeep.warnings(self.regional_health))

    async def _follow(self) -> None:
        while True:
            self.health = await self._store.health()
            if self.regional_health is not None:
                self.regional_health = await self._regional.health()
            self._look(self._clock())
            self._measure(self._clock())
            await asyncio.sleep(HEALTH_SECONDS)

    def _look(self, now: float) -> None:
        if self.health.reachable and self.health.leader:
            self._reached_at = now
        lost = now - self._reached_at > LOST_SECONDS
        if lost != self.lost:
            self.lost = lost
            self._turned()

    def _measure(self, now: float) -> None:
        writes = self.health.writes + (self.regional_health.writes if self.regional_health is not None else 0)
        seconds = now - self._looked_at
        if seconds > 0.0:
            self.writes_per_second = smoothed(self.writes_per_second, (writes - self._writes) / seconds, seconds)
        self._looked_at, self._writes = now, writes
