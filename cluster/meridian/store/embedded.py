"""A store in memory, with etcd's semantics: for `meridian serve`, for tests and for the simulation.

Invariant: whatever the contract suite can see of etcd it sees of this one too: revisions, atomic transactions, leases,
watches that resume exactly, compaction. What keeps it: every change goes through `_change`, which counts one revision,
appends one record to the history and wakes the watches; nothing awaits in between, so that each call is atomic.

Time is the `clock` given. Every call first ends the leases that have lapsed by it, and a waiting watch wakes itself at
the next lease's end by the loop's timer. Whoever moves a clock by hand calls `expire()` after it.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from meridian.store.port import (
    Absent,
    Batch,
    Compacted,
    Compare,
    CreatedAt,
    Delete,
    Event,
    Item,
    Lease,
    LeaseLost,
    Listing,
    ModifiedAt,
    Op,
    Present,
    Put,
    Refused,
    StoreHealth,
    StoreUnavailable,
    TxnResult,
    ValueIs,
    check_lease,
    check_txn,
    prefix_end,
)

# Of a store without any change, as in etcd: the first change is revision 2.
FIRST_REVISION = 1
ERA = 1  # a store in memory is never another one
# A watch that lags further behind must list again, as with etcd's periodic compaction. Bounds the memory of history.
HISTORY_REVISIONS_MAX = 10_000


@dataclass(slots=True)
class _Promise:
    """A lease as the store keeps it."""

    ttl_seconds: int
    ends_at: float
    keys: set[str] = field(default_factory=set)


class EmbeddedStore:
    """One process's store. `clock` gives monotonic seconds, for example the running loop's `time`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._items: dict[str, Item] = {}
        self._revision = FIRST_REVISION
        # One record for each revision from `_forgotten` + 1 to `_revision`, so that a revision is an index.
        self._forgotten = FIRST_REVISION
        self._history: deque[tuple[Event, ...]] = deque()
        self._leases: dict[int, _Promise] = {}
        self._last_lease = 0
        self._waiting: dict[asyncio.Event, None] = {}  # in the order in which they came, not of their addresses
        self._closed = False

    async def get(self, key: str) -> Item | None:
        self._begin()
        return self._items.get(key)

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        self._begin()
        prefix_end(prefix)
        keys = sorted(key for key in self._items if key.startswith(prefix))
        found = [self._items[key] for key in (keys[:limit] if limit else keys)]
        if keys_only:
            found = [Item(i.key, b"", i.create_revision, i.mod_revision, i.lease) for i in found]
        return Listing(tuple(found), self._revision, ERA)

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        check_txn(when, then, otherwise)
        self._begin()
        succeeded = all(_holds(compare, self._items.get(compare.key)) for compare in when)
        self._change(then if succeeded else otherwise)
        return TxnResult(succeeded, self._revision)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
        prefix_end(prefix)
        if era not in (0, ERA):
            raise Compacted(f"the embedded store is another one than {era}: list again", self._revision)
        changed = asyncio.Event()
        self._waiting[changed] = None
        try:
            position = max(after_revision, FIRST_REVISION)
            while True:
                self._begin()
                if position < self._forgotten:
                    oldest = self._forgotten + 1
                    raise Compacted(f"the embedded store's history begins at {oldest}: list again", oldest)
                if position >= self._revision:
                    changed.clear()
                    await self._wait(changed)
                    continue
                position += 1
                recorded = self._history[position - self._forgotten - 1]
                events = tuple(event for event in recorded if event.key.startswith(prefix))
                if events:
                    yield Batch(events, position)
        finally:
            self._waiting.pop(changed, None)

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        self._begin()
        check_lease(ttl_seconds)
        self._last_lease += 1
        self._leases[self._last_lease] = _Promise(ttl_seconds, self._clock() + ttl_seconds)
        self._wake()  # a waiting watch must learn that something ends earlier now
        return Lease(self._last_lease, ttl_seconds)

    async def keep_alive(self, lease_id: int) -> float:
        self._begin()
        promise = self._promise(lease_id)
        promise.ends_at = self._clock() + promise.ttl_seconds
        return promise.ttl_seconds

    async def revoke_lease(self, lease_id: int) -> None:
        self._begin()
        if lease_id in self._leases:
            self._end(lease_id)

    async def compact(self, revision: int) -> None:
        self._begin()
        if revision > self._revision:
            raise Refused(f"revision {revision} does not exist yet; the newest is {self._revision}")
        self._forget(revision - 1)

    async def health(self) -> StoreHealth:
        return StoreHealth(not self._closed, not self._closed, "embedded", f"in memory, revision {self._revision}")

    async def defragment(self, endpoint: str) -> None:
        """Has no file."""

    async def disarm(self) -> None:
        """Knows no alarm."""

    async def close(self) -> None:
        self._closed = True
        self._wake()

    def expire(self) -> None:
        """Ends every lease that has lapsed by the clock, oldest end first. Each call of the store does it by itself."""
        now = self._clock()
        lapsed = [(promise.ends_at, id_) for id_, promise in self._leases.items() if promise.ends_at <= now]
        for _, lease_id in sorted(lapsed):
            self._end(lease_id)

    def _begin(self) -> None:
        if self._closed:
            raise StoreUnavailable("the embedded store is closed")
        self.expire()

    def _promise(self, lease_id: int) -> _Promise:
        promise = self._leases.get(lease_id)
        if promise is None:
            raise LeaseLost(f"the embedded store knows no lease {lease_id}: grant a new one")
        return promise

    def _end(self, lease_id: int) -> None:
        self._change([Delete(key) for key in sorted(self._leases[lease_id].keys)])
        del self._leases[lease_id]

    def _change(self, ops: Sequence[Op]) -> None:
        """Does all of `ops` in one revision, or, when a lease is missing, none of them."""
        for op in ops:
            if isinstance(op, Put) and op.lease:
                self._promise(op.lease)
        revision = self._revision + 1
        events: list[Event] = []
        for op in ops:
            if isinstance(op, Put):
                events.append(self._write(op, revision))
            elif isinstance(op, Delete):
                events += self._remove([op.key], revision)
            else:
                events += self._remove(sorted(key for key in self._items if key.startswith(op.prefix)), revision)
        if not events:
            return  # a change that changes nothing has no revision
        self._revision = revision
        self._history.append(tuple(events))
        self._forget(revision - HISTORY_REVISIONS_MAX)
        self._wake()

    def _write(self, op: Put, revision: int) -> Event:
        old = self._items.get(op.key)
        self._unbind(old)
        if op.lease:
            self._leases[op.lease].keys.add(op.key)
        item = Item(op.key, op.value, revision if old is None else old.create_revision, revision, op.lease)
        self._items[op.key] = item
        return Event(item.key, item.value, revision, item.create_revision, item.lease)

    def _remove(self, keys: Sequence[str], revision: int) -> Sequence[Event]:
        removed = [self._items.pop(key) for key in keys if key in self._items]
        for item in removed:
            self._unbind(item)
        return [Event(item.key, None, revision) for item in removed]

    def _unbind(self, item: Item | None) -> None:
        if item is not None and item.lease:
            self._leases[item.lease].keys.discard(item.key)

    def _forget(self, revision: int) -> None:
        while self._forgotten < revision:
            self._history.popleft()
            self._forgotten += 1

    async def _wait(self, changed: asyncio.Event) -> None:
        """Returns when something changed, or when the next lease's end is due."""
        ends_at = min((promise.ends_at for promise in self._leases.values()), default=math.inf)
        try:
            async with asyncio.timeout(None if ends_at == math.inf else max(0.0, ends_at - self._clock())):
                await changed.wait()
        except TimeoutError:
            pass

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()


def _holds(compare: Compare, item: Item | None) -> bool:
    match compare:
        case Absent():
            return item is None
        case Present():
            return item is not None
        case CreatedAt(_, revision):
            return (item.create_revision if item else 0) == revision
        case ModifiedAt(_, revision):
            return (item.mod_revision if item else 0) == revision
        case ValueIs(_, value):
            return item is not None and item.value == value
