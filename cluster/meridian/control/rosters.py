"""The members of all regions, where each region keeps its own members in an etcd of its own.

In the global store stands one *roster* for each region: what its regional store says of its members, byte for byte, so
that nothing that a newer node wrote of itself is lost on the way. The oldest member of a region writes it.

Invariant: a region that cannot reach its regional store, or the global one, stays on the roster as it was: losing a
store withdraws nobody (invariant 4). A roster has no lease; who is gone is found out by silence, as everywhere.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing

import msgspec

from meridian.control.members import MemberRecord, oldest, read_members
from meridian.control.waiting import signalled
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Absent, Delete, Item, ModifiedAt, Put, Store, StoreError

LOOK_SECONDS = 30.0  # a write that was lost is tried again after it, if nothing else happens
AGAIN_SECONDS = 0.5

_log = logging.getLogger("meridian.control")


class Rosters:
    """`others` are the members of all other regions, by name; `changed()` is called when they change."""

    def __init__(self, store: Store, keys: Keys, region: str, node_id: str, changed: Callable[[], None]) -> None:
        self.others: Mapping[str, MemberRecord] = {}
        self._store = store
        self._prefix = keys.rosters()
        self._key = keys.roster(region)
        self._own = keys.member(node_id)
        self._changed = changed
        self._view: Mapping[str, Item] = {}
        self._stored: Item | None = None
        self._known = False
        self._news = asyncio.Event()

    def note(self, view: Mapping[str, Item]) -> None:
        """Takes the regional store's view of the members."""
        self._view = view
        self._news.set()

    async def run(self) -> None:
        """Reads and writes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._publish())

    async def leave(self) -> None:
        """Removes the roster if this node is the last on it: a region that is left on purpose is not mourned."""
        if self._stored is not None and set(self._view) <= {self._own}:
            try:
                await self._store.txn([ModifiedAt(self._key, self._stored.mod_revision)], [Delete(self._key)])
            except StoreError as error:
                _log.warning("the roster of this region stays behind: %s", error)

    async def _follow(self) -> None:
        async with aclosing(mirror(self._store, self._prefix)) as views:
            async for view in views:
                self._stored, self._known = view.get(self._key), True
                self._news.set()
                others: dict[str, MemberRecord] = {}
                for key, item in view.items():
                    if key != self._key:
                        others |= read_roster(item)
                if others != self.others:
                    self.others = others
                    self._changed()

    async def _publish(self) -> None:
        while True:
            await signalled(self._news, LOOK_SECONDS)
            if oldest(self._view) != self._own or not self._known:
                continue
            value = write_roster(self._view)
            if self._stored is not None and self._stored.value == value:
                continue
            held = self._stored
            unchanged = Absent(self._key) if held is None else ModifiedAt(self._key, held.mod_revision)
            try:
                # A lost answer is as good as a lost write: the mirror tells, and the comparison forbids a second.
                await self._store.txn([unchanged], [Put(self._key, value)])
            except StoreError as error:
                _log.info("the roster of this region waits for the global store: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)
                self._news.set()


def write_roster(view: Mapping[str, Item]) -> bytes:
    """Returns a region's roster: its members' records as they are, in the order in which they joined."""
    items = sorted(view.values(), key=lambda item: item.create_revision)
    return b"[" + b",".join(item.value for item in items if _is_json(item.value)) + b"]"


def read_roster(item: Item) -> dict[str, MemberRecord]:
    """Returns the members on a roster by name; what cannot be read is left out and logged."""
    try:
        records = msgspec.json.decode(item.value, type=list[msgspec.Raw])
    except msgspec.MsgspecError as error:
        _log.warning("%s cannot be read and is left out: %s", item.key, error)
        return {}
    view = {str(n): Item(f"{item.key}[{n}]", bytes(raw), n, n) for n, raw in enumerate(records)}
    return read_members(view)


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except msgspec.MsgspecError:
        return False
    return True
