"""Drives core/election on the store: the mirror of the leader key, campaigns, renewals, and stepping down.

It decides nothing. Events go in one at a time; while a command is at the store no other is. That may take seconds when
the store is away, and is harmless: `fence` asks the machine's own clock each time, and a leader whose time is up is
none, whatever this driver waits for.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from meridian.control.fences import make_fence, read_generation
from meridian.control.waiting import signalled
from meridian.core import election
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import (
    Absent,
    Compare,
    Item,
    LeaseLost,
    Put,
    Store,
    StoreError,
    StoreUnavailable,
    ValueIs,
)

LEASE_SECONDS = 2  # etcd grants no less with an election timeout of 1 s
IDLE_SECONDS = 3600.0  # a follower has no deadline; this is one

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """The value of the leader key."""

    name: str
    node_id: str


_decoder = msgspec.json.Decoder(LeaderRecord)
_NOBODY = LeaderRecord("", "")


class Leadership:
    """One node's part in the election. `leader` is the name in the leader key, as last seen."""

    def __init__(self, store: Store, keys: Keys, name: str, node_id: str, clock: Callable[[], float]) -> None:
        self.leader = ""
        self.state: election.State = election.Follower()
        self._store = store
        self._key = keys.leader()
        self._generation_key = keys.generation()
        self._generation: Item | None = None  # as last seen
        self._under = 0  # the generation in which this node campaigned last
        self._me = LeaderRecord(name, node_id)
        self._clock = clock
        self._news = asyncio.Event()
        self._seen: election.KeySeen | None = None
        self._resign: election.Resign | None = None

    def fence(self) -> int | None:
        """Returns the fence if this node may act as leader right now, else None."""
        revision = election.leads(self.state, self._clock())
        return None if revision is None else make_fence(self._under, revision)

    def resign(self, *, for_good: bool = False) -> None:
        """Gives the leadership up, so that another takes it within a moment; `for_good` before a planned stop."""
        self._resign = election.Resign(for_good)
        self._news.set()

    async def run(self) -> None:
        """Takes part until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._drive())

    async def _watch(self) -> None:
        async with aclosing(mirror(self._store, self._key)) as views:
            async for view in views:
                item = view.get(self._key)
                self._generation = view.get(self._generation_key)
                record = _read(item) if item is not None else _NOBODY
                self.leader = record.name
                self._seen = election.KeySeen(record.node_id, item.create_revision if item is not None else 0)
                self._news.set()

    async def _drive(self) -> None:
        while True:
            deadline = election.deadline(self.state)
            seconds = IDLE_SECONDS if deadline is None else deadline - self._clock()
            if not await signalled(self._news, seconds):
                await self._feed(election.Woken())
            if (seen := self._seen) is not None:
                self._seen = None
                await self._feed(seen)
            if (resign := self._resign) is not None:
                self._resign = None
                await self._feed(resign)

    async def _feed(self, event: election.Event) -> None:
        led = isinstance(self.state, election.Leader)
        stepped = election.step(self.state, event, self._clock())
        self.state = stepped.state
        if led != isinstance(self.state, election.Leader):
            _log.info("%s %s", self._me.name, "follows" if led else "leads")
        for command in stepped.commands:
            outcome = await self._perform(command)
            if outcome is not None:
                await self._feed(outcome)

    async def _perform(self, command: election.Command) -> election.Event | None:
        match command:
            case election.Campaign():
                return await self._campaign()
            case election.Renew(lease):
                return await self._renew(lease)
            case election.Release(lease):
                await self._release(lease)
                return None

    async def _campaign(self) -> election.Event:
        asked = self._clock()
        lease_id = 0
        generation = self._generation
        when: list[Compare] = [Absent(self._key)]
        when.append(
            Absent(self._generation_key) if generation is None else ValueIs(self._generation_key, generation.value)
        )
        try:
            lease = await self._store.grant_lease(LEASE_SECONDS)
            lease_id = lease.id
            value = msgspec.json.encode(self._me)
            result = await self._store.txn(when, [Put(self._key, value, lease_id)])
        except StoreError as error:
            # If the create was sent and its answer lost, revoking its lease undoes it or keeps it from happening; if
            # even that fails, the key ends with its lease, and nobody acts under it.
            _log.info("campaign of %s failed: %s", self._me.name, error)
            await self._release(lease_id)
            return election.Failed()
        if not result.succeeded:
            await self._release(lease_id)
            return election.Failed()
        self._under = read_generation(generation)
        return election.Won(self._me.node_id, result.revision, lease_id, asked, lease.ttl_seconds)

    async def _renew(self, lease: int) -> election.Event:
        asked = self._clock()
        try:
            ttl_seconds = await self._store.keep_alive(lease)
        except LeaseLost:
            return election.LeaseEnded()
        except StoreUnavailable:
            return election.Failed()
        return election.Renewed(asked, ttl_seconds)

    async def _release(self, lease: int) -> None:
        if not lease:
            return
        try:
            await self._store.revoke_lease(lease)
        except StoreError as error:
            _log.info("lease of the leader key goes by itself: %s", error)


def _read(item: Item) -> LeaderRecord:
    """A key that holds something else is held, by nobody we know: it is not for us to take."""
    try:
        return _decoder.decode(item.value)
    except msgspec.MsgspecError:
        return LeaderRecord("?", "?")
