"""Drives core/draining: the operator's orders in the store, this node's planned stop, and what the verdict says of it.

An order is a key named after a node or a region; every node obeys those that name it. It holds until it is removed,
over restarts too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from meridian.control.waiting import signalled
from meridian.core import draining
from meridian.core.verdicts import Standing, Verdict
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Delete, Put, Store

IDLE_SECONDS = 3600.0


class DrainRefused(Exception):
    """The order would leave nobody serving, or names nobody; the message says which, and the remedy."""


class Drains:
    """`announce(draining)` is called when this node's own saying changed, `resign()` once, when the verdict leaves it
    out, and `leave()` once, when it goes."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        name: str,
        region: str,
        clock: Callable[[], float],
        *,
        announce: Callable[[bool], None],
        resign: Callable[[], None],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._keys = keys
        self._own = {name, region}
        self._clock = clock
        self._announce = announce
        self._resign = resign
        self._leave = leave
        self._drain = draining.Drain()
        self._standing: Standing | None = None
        self.known = asyncio.Event()  # set once the orders have been read
        self._due = asyncio.Event()
        self._out = asyncio.Event()
        self._left = asyncio.Event()

    async def order(self, target: str, on: bool, verdict: Verdict, *, force: bool = False) -> None:
        """Writes or removes an order. Raises DrainRefused unless `force`, and StoreError if the store is away.

        Force writes the order of the last ones to leave. They say that they drain; DNS keeps one of them all the same
        (invariant 5), so that clients are told to go elsewhere by whoever ends the process, not by an empty answer.
        """
        key = self._keys.drain(target)
        if not on:
            await self._store.txn([], [Delete(key)])
        elif not force and (why := draining.refusal(verdict, target)) is not None:
            raise DrainRefused(why)
        else:
            await self._store.txn([], [Put(key, b"{}")])

    def judged(self, standing: Standing | None) -> None:
        """Takes what a new verdict says of this node; None if it does not name it."""
        self._standing = standing
        self._due.set()

    async def step_out(self) -> None:
        """Begins to leave, and returns when the verdict leaves this node out, or has been waited for long enough."""
        self._feed(draining.Stop())
        self._due.set()  # the standing may be such that it can go at once, and if not, the deadline counts from here
        await self._out.wait()

    async def stop(self) -> None:
        """Steps out, if that has not been done, and returns when this node has left."""
        await self.step_out()
        if self._feed(draining.Depart()):
            await self._leave()
            self._left.set()
        await self._left.wait()

    async def run(self) -> None:
        """Obeys until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_orders())
            while True:
                deadline = draining.deadline(self._drain)
                if await signalled(self._due, IDLE_SECONDS if deadline is None else deadline - self._clock()):
                    self._feed(draining.Judged(self._standing))
                else:
                    self._feed(draining.Woken())

    async def _follow_orders(self) -> None:
        prefix = self._keys.drains()
        async with aclosing(mirror(self._store, prefix)) as views:
            async for view in views:
                targets = {key.removeprefix(prefix) for key in view}
                self._feed(draining.Ordered(not self._own.isdisjoint(targets)))
                self.known.set()

    def _feed(self, event: draining.Event) -> bool:
        """Steps the machine; returns whether it says that this node leaves now."""
        stepped = draining.step(self._drain, event, self._clock())
        self._drain = stepped.state
        for command in stepped.commands:
            if isinstance(command, draining.Announce):
                self._announce(command.draining)
            elif isinstance(command, draining.Resign):
                self._resign()
                self._out.set()
        return any(isinstance(command, draining.Leave) for command in stepped.commands)
