"""Keeps this node's member record in the store, on a lease.

Invariant: while the store can be reached, it holds exactly one record of this boot, equal to `record`, within a moment.
A lease that was lost is replaced, with a new key of the same name. Losing the store stops nothing here: it is tried
again, and the node serves on (invariant 4).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from meridian.control.members import MemberRecord, encode, read_members
from meridian.control.waiting import Pause, signalled
from meridian.core.speech import why_not_join
from meridian.store.keys import Keys
from meridian.store.port import Item, LeaseLost, Store, StoreError, StoreUnavailable

# As long as the leader's: a member that is gone is gone from listings as quickly as it is gone from the verdict.
LEASE_SECONDS = 2
RENEWALS = 3
AGAIN_SECONDS = 0.2  # after a keep-alive that got no answer: twice more before the lease ends
LEAVE_SECONDS = 1.0
REFUSED_SECONDS = 1.0  # between two looks at a cluster that this node may not join: the others may be upgraded


class NotAdmitted(Exception):
    """This node and the members have no protocol in common; the message says which, and the remedy."""


_log = logging.getLogger("meridian.control")


class Membership:
    """One node's record. `epoch` is the greatest create revision of its key, 0 before the store was reached.

    `refused` says why the cluster has no place for this node's version, "" if it has. Without a record it is not
    judged, not answered by DNS, and gets no seat; it tries again, since the others may be upgraded meanwhile.
    """

    def __init__(self, store: Store, keys: Keys, record: MemberRecord, clock: Callable[[], float]) -> None:
        self.record = record
        self.epoch = 0
        self.refused = ""
        self._store = store
        self._members = keys.members()
        self._key = keys.member(record.node_id)
        self._clock = clock
        self._changed = asyncio.Event()
        self._written = b""
        self._revision = 0
        self._lease = 0
        self._leaving = False

    def update(self, **changes: Any) -> None:
        """Replaces fields of the record; the store follows."""
        record = replace(self.record, **changes)
        if record != self.record:
            self.record = record
            self._changed.set()

    def observe(self, item: Item | None) -> None:
        """Takes the store's view of the own key: a late write of ours may have put an older record, or an older lease,
        over a newer one.
        """
        if item is None or item.mod_revision <= self._revision:
            return
        if item.lease != self._lease or item.value != encode(self.record):
            self._written = b""
            self._changed.set()

    async def run(self) -> None:
        """Registers, keeps alive and rewrites, until `leave`."""
        pause = Pause(0.1, 1.0)
        while not self._leaving:
            try:
                await self._register()
                pause.reset()
                await self._keep()
            except LeaseLost:
                _log.warning("the lease of member key %s was lost; taking a new one", self._key)
            except StoreUnavailable:
                await pause()
            except NotAdmitted as error:
                if str(error) != self.refused:
                    _log.error("this node does not join: %s", error)
                self.refused = str(error)
                await asyncio.sleep(REFUSED_SECONDS)

    async def leave(self) -> None:
        """Removes the record. If the store is away, the lease's end will do it."""
        self._leaving = True
        self._changed.set()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                if self._lease:
                    await self._store.revoke_lease(self._lease)
        except (TimeoutError, StoreError) as error:
            _log.warning("member key %s could not be removed and goes with its lease: %s", self._key, error)

    async def _admit(self) -> None:
        """Raises NotAdmitted. Only before the first record: who is in has been read by those who came after."""
        view = {item.key: item for item in (await self._store.list(self._members)).items}
        others = [member.speaker for name, member in read_members(view).items() if name != self.record.name]
        why = why_not_join(self.record.speaker, others)
        if why is not None:
            raise NotAdmitted(why)
        self.refused = ""

    async def _register(self) -> None:
        if not self.epoch:
            await self._admit()
        lease = await self._store.grant_lease(LEASE_SECONDS)
        self._lease, self._ttl = lease.id, lease.ttl_seconds
        self._alive_at = self._clock()
        await self._write()
        # Never lower within one boot: revisions of a store that was lost and began anew do, and those who heard this
        # node's reports before would take all further ones for older.
        self.epoch = max(self.epoch, self._revision)

    async def _keep(self) -> None:
        """Returns when leaving; raises LeaseLost, or StoreUnavailable when a write got no answer."""
        due = self._alive_at + self._ttl / RENEWALS
        while not self._leaving:
            changed = await signalled(self._changed, due - self._clock())
            if changed and not self._leaving and self._written != encode(self.record):
                await self._rewrite()
            if not self._leaving and self._clock() >= due:
                due = self._clock() + await self._prolong()

    async def _rewrite(self) -> None:
        try:
            await self._write()
        except LeaseLost:
            raise
        except StoreUnavailable:
            self._changed.set()  # this key has no other writer: repeating is safe, and `observe` sees a late one
            await asyncio.sleep(AGAIN_SECONDS)

    async def _prolong(self) -> float:
        """Returns the seconds until the next keep-alive."""
        try:
            return await self._store.keep_alive(self._lease) / RENEWALS
        except LeaseLost:
            raise
        except StoreUnavailable:
            return AGAIN_SECONDS

    async def _write(self) -> None:
        value = encode(self.record)
        self._revision = await self._store.put(self._key, value, lease=self._lease)
        self._written = value
