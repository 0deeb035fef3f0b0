"""One node's client of the shared store, with etcd's failure modes.

What may happen to a request: it does not arrive; it takes seconds; one takes long while others do not; it is done and
its answer is lost; its answer is lost and it is done later, after a read-back even; no member knows a leader, and then
no lease ends either. To a watch: it lags, it ends, and the history that it would resume from is compacted meanwhile.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from meridian.store.embedded import EmbeddedStore
from meridian.store.port import (
    Batch,
    Compare,
    Item,
    Lease,
    LeaseLost,
    Listing,
    Op,
    OutcomeUnknown,
    Put,
    StoreHealth,
    StoreUnavailable,
    TxnResult,
)

if TYPE_CHECKING:
    from tests.simulation.world import Node, World

ATTEMPT_SECONDS = 1.0  # of the client of etcd: so long an answer is waited for
SLOW_SECONDS = (0.1, 3.0)  # a request is done long after it was sent,
SLOW_ANSWER_SECONDS = (0.1, 1.5)  # and known to be done long after it was
UNEVEN_CHANCE = 0.4
UNEVEN_SECONDS = (0.3, 0.9)  # less than an attempt, and than a node that starts waits for its orders
LANDS_LATE_SECONDS = (0.0, 2.5)  # after the client has given up
NEVER_LANDS_CHANCE = 0.5  # of these writes: the member that had it died, and the client is told no more than before
SEARCH_SECONDS = 6.0  # for a member, before a watch is given up
RECONNECT_SECONDS = 0.2

Answer = TypeVar("Answer")


def at_once(call: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs a call of the embedded store, which never waits, outside any task."""
    try:
        call.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    raise AssertionError("the embedded store has waited")


class SharedStore(EmbeddedStore):
    """The store of a world. Its leases end when it is asked, or when the world says so: a watch needs no timer."""

    async def _wait(self, changed: asyncio.Event) -> None:
        await changed.wait()


class FaultyStore:
    """A `Store` whose requests travel through `world`."""

    def __init__(self, world: "World", node: "Node") -> None:
        self._world = world
        self._node = node

    async def get(self, key: str) -> Item | None:
        await self._travel()
        item = await self._world.store.get(key)
        await self._return()
        return item

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        await self._travel()
        listing = await self._world.store.list(prefix, keys_only=keys_only, limit=limit)
        await self._return()
        return listing

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        await self._travel()
        if self._world.random.random() < self._world.late_writes:
            seconds = self._world.random.uniform(*LANDS_LATE_SECONDS) + ATTEMPT_SECONDS
            if self._world.random.random() >= NEVER_LANDS_CHANCE:
                self._world.later(seconds, self._land, when, then, otherwise)
            await asyncio.sleep(ATTEMPT_SECONDS)
            raise OutcomeUnknown("simulated: answer lost, and the write is still on its way")
        result = await self._world.store.txn(when, then, otherwise)
        self._world.wrote(self._node, when, then if result.succeeded else otherwise)
        await self._return(wrote=True)
        return result

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
        # A source of its own, so that a story does not depend on how many watches another prefix has.
        chance = random.Random(f"{self._world.seed} {self._node.name} {self._node.boot} {prefix} {after_revision}")
        async with aclosing(self._world.store.watch(prefix, after_revision=after_revision, era=era)) as batches:
            async for batch in batches:
                await asyncio.sleep(chance.uniform(*self._world.store_seconds))
                await self._reconnect()
                yield batch

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        await self._travel()
        lease = await self._world.store.grant_lease(ttl_seconds)
        await self._return()
        return lease

    async def keep_alive(self, lease_id: int) -> float:
        await self._travel()
        seconds = await self._world.store.keep_alive(lease_id)
        await self._return()
        return seconds

    async def revoke_lease(self, lease_id: int) -> None:
        await self._travel()
        self._world.revokes(self._node, lease_id)
        await self._world.store.revoke_lease(lease_id)
        await self._return()

    async def compact(self, revision: int) -> None:
        await self._travel()
        await self._world.store.compact(revision)
        await self._return()

    async def health(self) -> StoreHealth:
        up = self._reachable()
        return StoreHealth(up, up, "simulated", "")

    async def close(self) -> None:
        pass

    async def _travel(self) -> None:
        await asyncio.sleep(self._way_seconds(SLOW_SECONDS))
        if self._node.name in self._world.uneven and self._world.random.random() < UNEVEN_CHANCE:
            await asyncio.sleep(self._world.random.uniform(*UNEVEN_SECONDS))
        if not self._reachable():
            await asyncio.sleep(ATTEMPT_SECONDS)
            raise StoreUnavailable("simulated: no member answers")

    async def _return(self, *, wrote: bool = False) -> None:
        await asyncio.sleep(self._way_seconds(SLOW_ANSWER_SECONDS))
        lost = self._world.random.random() < self._world.lost_answers or self._node.name in self._world.unanswered
        if not self._reachable() or lost:
            await asyncio.sleep(ATTEMPT_SECONDS)
            raise OutcomeUnknown("simulated: answer lost") if wrote else StoreUnavailable("simulated: answer lost")

    def _way_seconds(self, when_slow: tuple[float, float]) -> float:
        slow = self._node.name in self._world.slow
        return self._world.random.uniform(*(when_slow if slow else self._world.store_seconds))

    def _reachable(self) -> bool:
        world = self._world
        return not (world.store_down or world.leaderless or self._node.name in world.cut_from_store)

    def _land(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> None:
        """A write that its sender has given up."""
        try:
            result = at_once(self._world.store.txn(when, then, otherwise))
        except LeaseLost:
            return
        self._world.wrote(self._node, when, then if result.succeeded else otherwise)

    async def _reconnect(self) -> None:
        """A watch that was cut resumes where it was, some time after the store can be reached again."""
        world, waited = self._world, 0.0
        while not self._reachable() or self._node.name in world.lagging or self._node.name in world.unanswered:
            await asyncio.sleep(RECONNECT_SECONDS)
            waited += RECONNECT_SECONDS
            if waited > SEARCH_SECONDS and not self._reachable():
                raise StoreUnavailable("simulated: no member for this watch")
