"""Keeps the store's files in order, on the one node that `acts` says; decisions are in core/upkeep.

Each round it forgets history that no watch needs any more, removes old versions of the document, makes the members'
files small when a quota is near and that is safe, and takes the alarm NOSPACE back when there is room again. An
operator may ask for all of it at once (`defragment`).

Several nodes doing it at a time do no harm but one: two members silent at once. Hence the one node.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from meridian.core import upkeep
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.port import Housekept, Store, StoreError, StoreHealth, StoreUnavailable

PRUNE_ROUNDS = 5  # old versions lie for minutes at most; looking for them reads all records
WELL_SECONDS = 30.0  # until a member answers again after its file was made small
LOOK_SECONDS = 0.2
# Once in this long by itself: if a file is as large again, room was not what was missing.
AUTOMATIC_SECONDS = 3600.0

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Defragmented:
    """One member's file before and after, in bytes."""

    endpoint: str
    before_bytes: int
    after_bytes: int


class Upkeep:
    """`acts()` says whether it is this node's turn; `quota_bytes` is of members that do not tell theirs."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Callable[[], float],
        acts: Callable[[], bool],
        *,
        quota_bytes: int,
        window_seconds: float = upkeep.WINDOW_SECONDS,
        round_seconds: float = upkeep.SAMPLE_SECONDS,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._acts = acts
        self._quota_bytes = quota_bytes
        self._window_seconds = window_seconds
        self._round_seconds = round_seconds
        self._window = upkeep.Window()
        self._rounds = 0
        self._again_at = clock()
        self._busy = asyncio.Lock()

    def warnings(self, health: StoreHealth) -> tuple[str, ...]:
        """Returns what an operator should know of the members, each with the remedy."""
        return upkeep.warnings(health.members, self._quota_bytes)

    async def run(self) -> None:
        """Does a round after the other until cancelled."""
        while True:
            await asyncio.sleep(self._round_seconds)
            try:
                await self._round()
            except StoreError as error:
                _log.info("upkeep of the store waits for its next round: %s", error)

    async def defragment(self) -> tuple[Defragmented, ...]:
        """Forgets what may be forgotten, then makes the members' files small, one at a time.

        Raises StoreUnavailable when not all members are well, before or in between: nothing is left half done on a
        member. Two at once on one node wait for each other.
        """
        if not isinstance(self._store, Housekept):
            raise StoreUnavailable("this store has no files that could be made small")
        async with self._busy:
            await self._compact()
            await documents.prune(self._store, self._keys)
            done = []
            for endpoint in upkeep.in_turn((await self._store.health()).members):
                before = await self._well()
                await self._store.defragment(endpoint)
                after = await self._well()
                sizes = [{m.endpoint: m.db_bytes for m in health.members}[endpoint] for health in (before, after)]
                done.append(Defragmented(endpoint, *sizes))
                _log.info("defragmented %s: %d bytes before, %d after", endpoint, *sizes)
            await self._disarm(self._store)
            return tuple(done)

    async def _round(self) -> None:
        listing = await self._store.list(self._keys.leader(), keys_only=True, limit=1)
        self._window = upkeep.sampled(self._window, listing.revision, self._clock(), self._window_seconds)
        if not self._acts():
            return
        await self._compact()
        if self._rounds % PRUNE_ROUNDS == 0:
            removed = await documents.prune(self._store, self._keys)
            if removed:
                _log.info("removed %d keys of old versions", removed)
        self._rounds += 1
        if isinstance(self._store, Housekept):
            await self._make_room(self._store)

    async def _compact(self) -> None:
        revision = upkeep.to_compact(self._window, self._clock(), self._window_seconds)
        if revision is not None:
            await self._store.compact(revision)
            self._window = upkeep.Window(self._window.samples, revision)

    async def _make_room(self, store: Housekept) -> None:
        members = (await self._store.health()).members
        if upkeep.needs_room(members, self._quota_bytes) and self._clock() >= self._again_at:
            self._again_at = self._clock() + AUTOMATIC_SECONDS
            await self.defragment()
        else:
            await self._disarm(store)

    async def _disarm(self, store: Housekept) -> None:
        if upkeep.may_disarm((await self._store.health()).members, self._quota_bytes):
            await store.disarm()
            _log.warning("the store has room again: its alarm NOSPACE was taken back")

    async def _well(self) -> StoreHealth:
        """Waits until all members are well. Raises StoreUnavailable when they are not in time."""
        gives_up_at = self._clock() + WELL_SECONDS
        while True:
            health = await self._store.health()
            why = upkeep.why_not_defragment(health.members)
            if why is None:
                return health
            if self._clock() >= gives_up_at:
                raise StoreUnavailable(f"no member's file is made small while one is not well: {why}")
            await asyncio.sleep(LOOK_SECONDS)
