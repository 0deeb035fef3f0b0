"""Drives core/granting/allocation: which seats of all limits this node sits on, against the store.

Invariant: the machine's commands are carried out in their order, and none behind a Save that has not reached the disk.
An answer of the store becomes one event, and one that is lost counts as no. The values of limits are `limit_values`'.

What a node may spend while the store is away, and after a cold start without it, is on its disk: the cut, its home
seats, and the values.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from meridian.control import seating
from meridian.control.disk import SnapshotDisk
from meridian.control.limit_values import LimitValues
from meridian.control.seating import Epoch, View
from meridian.control.waiting import signalled
from meridian.core.granting import allocation
from meridian.core.granting.allocation import Allocation
from meridian.core.granting.seats import (
    Acknowledge,
    AskLease,
    Command,
    Confirmed,
    Event,
    Free,
    Freed,
    KeepLease,
    Leased,
    LeaseFailed,
    NotTaken,
    Save,
    Seat,
    Take,
    Taken,
    Tell,
    Woke,
    WorkerStarted,
)
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import (
    Absent,
    Compare,
    Delete,
    LeaseLost,
    ModifiedAt,
    Op,
    Put,
    Store,
    StoreError,
    ValueIs,
)

AGAIN_SECONDS = 1.0  # after the store or the disk failed
IDLE_SECONDS = 3600.0
WRITTEN_PER_SEAT = 4  # records of takes remembered: what is older was listed since, or never came to be
WAKE_SECONDS_MIN = 0.01  # a deadline that stays where it is must not hold the loop

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Saved:
    """On disk. `home` seats are this node's for good, whether the store is there or not."""

    cut: Cut
    home: frozenset[int]
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class _First:
    """Whether a home seat is taken for the first time ever; what must hold for that, and what is to be written."""

    is_fresh: bool
    holds: Compare
    then: tuple[Op, ...]


_saved = msgspec.json.Decoder(Saved)


class Grants:
    """One node's seats. `told(cut, allowance, values, slot)`: what workers may spend (of one slot, or of all)."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        name: str,
        boot_id: str,
        wanted: Cut,
        disk: SnapshotDisk,
        clock: Callable[[], float],
        *,
        workers: int,
        sits: bool = True,
        generation: int = 0,
        fence: Callable[[], int | None],
        told: Callable[[Cut, Tell], None],
        seated: Callable[[], None],
    ) -> None:
        """`boot_id` is of this agent and never used twice; `generation` is that of a store that is still empty. Who
        does not sit (a witness) only changes limits, while it leads.

        `seated` is called when anybody's seats changed.
        """
        self._problem = "not asked yet" if sits else ""
        self._away = ""  # why the store did not answer
        self.view: View | None = None
        self.state: Allocation | None = None
        self._store, self._keys, self._name, self._boot_id = store, keys, name, boot_id
        self._wanted, self._disk, self._clock, self._workers = wanted, disk, clock, workers
        self._generation, self._sits = generation, sits
        self._told, self._seated = told, seated
        self._values = LimitValues(store, keys, name, fence=fence, view=lambda: self.view)
        self._members: tuple[str, ...] = ()
        self._commands: deque[Command] = deque()
        self._commanded = asyncio.Event()
        self._woken = asyncio.Event()
        self._written: dict[str, bytes] = {}  # seats' records as put by this agent, by nonce
        self._machines = 0
        self._requests: asyncio.TaskGroup

    async def load(self) -> None:
        """Goes on with the home seats that this node had before; they are no other's, the store being there or not."""
        try:
            content = await self._disk.load("seat") if self._sits else None
            if content is not None:
                saved = _saved.decode(content)
                self._begin(saved.cut, saved.home, saved.values)
                self._problem = "held from before; not confirmed by the store yet"
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("the seats on disk cannot be read: %s", error)

    async def run(self) -> None:
        """Takes and keeps seats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._requests = tasks
            for part in (self._follow(), self._execute(), self._wake(), self._values.run()):
                tasks.create_task(part)

    # What the node says

    def set_members(self, names: Iterable[str]) -> None:
        """The nodes that are there: all seats are divided among them."""
        members = tuple(sorted(names))
        if members != self._members:
            self._members = members
            self._list()

    def set_rules(self, rules: Mapping[str, Rule]) -> None:
        """What the document in force here says of limits: a leader makes it so."""
        self._values.set_rules(rules)

    def worker_started(self, slot: int) -> None:
        """A gateway worker is there (again), and no worker before it in this slot runs any more."""
        self._feed(WorkerStarted(slot))

    def worker_confirmed(self, slot: int, agent: str, sequence: int) -> None:
        """A worker keeps to this allowance, with all that it lent."""
        self._feed(Confirmed(slot, agent, sequence))

    @property
    def detail(self) -> str:
        """What keeps this node from spending its part; "" if nothing does."""
        away = f"the store is away; home seats are kept ({self._away})" if self._away else ""
        restored = self.view is not None and self.view.epoch.frozen
        waits = "the store was restored: no seat and no value moves until `meridian limits settle`" if restored else ""
        return "; ".join(text for text in (self._problem, away, waits) if text)

    @property
    def home(self) -> frozenset[int]:
        """This node's home seats, as its workers were told."""
        return self.state.told.home if self.state is not None else frozenset()

    @property
    def leased(self) -> frozenset[int]:
        """Its leased seats, while they may be spent."""
        told = self.state.told if self.state is not None else None
        return told.leased if told is not None and self._clock() < told.until else frozenset()

    # The machine

    def _begin(self, cut: Cut, home: frozenset[int], values: Mapping[str, Value]) -> None:
        self._machines += 1
        self._commands.clear()
        incarnation = f"{self._boot_id}.{self._machines}"
        self.state = allocation.started(cut, self._name, incarnation, home, values)
        for slot in range(self._workers, cut.slices):  # no process, so nothing that it might still spend or have lent
            self.state = allocation.step(self.state, Confirmed(slot, incarnation, 2**63), self._clock()).state
        self._feed(Woke())

    def _feed(self, event: Event) -> None:
        if self.state is None:
            return
        step = allocation.step(self.state, event, self._clock())
        self.state = step.state
        self._commands.extend(step.commands)
        if step.commands:
            self._commanded.set()
        self._woken.set()

    async def _wake(self) -> None:
        while True:
            deadline = allocation.deadline(self.state) if self.state is not None else None
            wait = IDLE_SECONDS if deadline is None else min(deadline - self._clock(), IDLE_SECONDS)
            if wait <= 0:
                self._feed(Woke())
                await asyncio.sleep(WAKE_SECONDS_MIN)
            elif not await signalled(self._woken, wait):
                self._feed(Woke())

    async def _execute(self) -> None:
        while True:
            while self._commands:
                state, command = self.state, self._commands.popleft()
                assert state is not None
                if isinstance(command, Save):
                    await self._save(state, command)
                elif self.state is not None and self.state.incarnation == state.incarnation:
                    self._perform(state, command)
            await signalled(self._commanded, IDLE_SECONDS)

    async def _save(self, state: Allocation, command: Save) -> None:
        content = msgspec.json.encode(Saved(state.cut, command.home, command.values))
        while True:
            try:
                await self._disk.save("seat", content)
                return
            except OSError as error:
                self._problem = f"no change of seats or limits takes effect: the disk cannot be written ({error})"
                _log.error("seats could not be saved, and nothing changes until they are: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)

    def _perform(self, state: Allocation, command: Command) -> None:
        match command:
            case Tell(allowance):
                if allowance.sequence >= 0:
                    self._told(state.cut, command)
            case AskLease():
                self._spawn(self._ask_lease(int(state.cut.lease_seconds)))
            case KeepLease(lease):
                self._spawn(self._keep_lease(lease))
            case Take():
                self._spawn(self._take(command))
            case Free():
                self._spawn(self._free(command))
            case Acknowledge(limit, order):
                self._values.acknowledge(limit, order)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A request beside the others; at most a lease's and CHANGES_MAX seats' are under way."""
        self._requests.create_task(work)

    # The store

    async def _follow(self) -> None:
        async with aclosing(mirror(self._store, self._keys.limits())) as views:
            async for items in views:
                try:
                    self.view = seating.read(items, self._keys)
                except (msgspec.MsgspecError, ValueError) as error:
                    self._problem = f"what the store holds about limits cannot be read: {error}"
                    _log.error("%s", self._problem)
                    continue
                self._list()
                self._values.look()
                self._seated()
                if self.view is None and self._sits:
                    await self._found()

    async def _found(self) -> None:
        """The first node cuts the limits, for all.

        One that has a home already saw a store that is gone: who sits where is known to the nodes only, as after a
        restore, and homes must go back to those who go on spending them. Stores that do not outlive a node are numbered
        by generations, and are nobody else's.
        """
        key = self._keys.limit_epoch()
        epoch = Epoch(self._wanted, self._generation, frozen=bool(self.home) and self._generation == 0)
        try:
            await self._store.txn([Absent(key)], [Put(key, seating.encode(epoch))])
        except StoreError as error:
            self._problem = f"the limits are not cut yet: the store is away ({error})"
            self._spawn(self._found_again())

    async def _found_again(self) -> None:
        await asyncio.sleep(AGAIN_SECONDS)
        if self.view is None:
            await self._found()

    def _list(self) -> None:
        view = self.view
        if view is None or not self._sits:
            return
        cut = view.epoch.cut
        if self.state is None or self.state.cut != cut:
            if self.state is not None:
                _log.error("limits were cut anew: %s; seats of the former cut are void", cut)
            self._begin(cut, frozenset(), {})
        self._problem = "" if cut == self._wanted else self._differs(cut)
        self._feed(view.listed(self._members))
        if not (self.home or self.leased) and len({s.node for s in view.seats.values()}) >= cut.seats:
            self._problem = f"all {cut.seats} seats are taken: limits admit nothing here; see --limit-nodes"

    def _differs(self, cut: Cut) -> str:
        wanted = self._wanted
        return (
            f"limits are cut for {cut.homes} nodes of {cut.slices} workers; this node's configuration says "
            f"{wanted.homes} of {wanted.slices}, which is not applied"
        )

    async def _ask_lease(self, seconds: int) -> None:
        asked = self._clock()
        try:
            lease = await self._store.grant_lease(seconds)
        except StoreError as error:
            self._away = str(error)
            self._feed(LeaseFailed(0, gone=False))
        else:
            self._away = ""
            self._feed(Leased(lease.id, asked))

    async def _keep_lease(self, lease: int) -> None:
        asked = self._clock()
        try:
            await self._store.keep_alive(lease)
        except LeaseLost:
            self._feed(LeaseFailed(lease, gone=True))
        except StoreError as error:
            self._away = str(error)
            self._feed(LeaseFailed(lease, gone=False))
        else:
            self._away = ""
            self._feed(Leased(lease, asked))

    async def _take(self, take: Take) -> None:
        """Stamps the seat, then reads the values: whoever switches a limit after this sees who sits here."""
        key = self._keys.limit_seat(take.seat)
        record = seating.encode(Seat(self._name, take.nonce, take.home))
        held: Compare | None = Absent(key)
        if take.expected is not None:
            held = self._bears(take.seat, take.expected)
        view = self.view
        if held is None or view is None or view.epoch.generation != take.generation:
            self._feed(NotTaken(take.seat, take.nonce))
            return
        first = self._first(take, view) if take.home else None
        epoch = self._keys.limit_epoch()
        self._written[take.nonce] = record
        while len(self._written) > WRITTEN_PER_SEAT * view.epoch.cut.seats:
            del self._written[next(iter(self._written))]
        try:
            when: list[Compare] = [held, ModifiedAt(epoch, view.items[epoch].mod_revision)]
            then: list[Op] = [Put(key, record, lease=take.lease)]
            if first is not None:
                when.append(first.holds)
                then += first.then
            result = await self._store.txn(when, then)
            if not result.succeeded:
                self._feed(NotTaken(take.seat, take.nonce))
                return
            listing = await self._store.list(self._keys.limit_values())
            values = seating.read_values({item.key: item for item in listing.items}, self._keys)
        except (StoreError, msgspec.MsgspecError):
            self._feed(NotTaken(take.seat, take.nonce))
        else:
            self._feed(Taken(take.seat, take.nonce, values, fresh=first is not None and first.is_fresh))

    def _first(self, take: Take, view: View) -> "_First":
        """Whether nobody had a home seat before this boot of this agent. One that has a nonce and no mark was taken
        by an older node; and a store that was restored may have lost marks."""
        key, own = self._keys.limit_held(take.seat), self._boot_id.encode()
        mark = view.items.get(key)
        if mark is not None:
            return _First(mark.value == own, ValueIs(key, mark.value), ())
        fresh = take.expected is None and view.epoch.generation == self._generation
        return _First(fresh, Absent(key), (Put(key, own if fresh else b"before"),))

    async def _free(self, free: Free) -> None:
        held = self._bears(free.seat, free.nonce)
        if held is not None:
            try:
                await self._store.txn([held], [Delete(self._keys.limit_seat(free.seat))])
            except StoreError as error:
                _log.info("whether seat %d was given back is not known: %s", free.seat, error)
            self._written.pop(free.nonce, None)
        self._feed(Freed(free.seat))

    def _bears(self, seat: int, nonce: str) -> Compare | None:
        """The condition that a seat still bears a nonce; None: nobody has seen it there."""
        key = self._keys.limit_seat(seat)
        record = self._written.get(nonce)
        if record is None and self.view is not None:
            found = self.view.seats.get(seat)
            record = self.view.items[key].value if found is not None and found.nonce == nonce else None
        return ValueIs(key, record) if record is not None else None
