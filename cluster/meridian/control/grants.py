"""This node's seat for limits: which part of every limit it may spend. (First form of design/limits.md.)

Invariant: no two nodes ever hold one seat. What keeps it: the number of seats and of slices in a seat is written once,
create-if-absent; a seat is taken create-if-absent and bears the node's name, without a lease, so that it is this node's
for good: over restarts, and while the store is away (its floor). A node without a seat spends nothing and says so.

Every seat is cut into slices, one for each worker, the same number on all nodes, because shares must add up: slice w of
seat s is spender w * seats + s of seats * slices. In this order the odd tokens of a limit go to different nodes first.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from meridian.control.disk import SnapshotDisk
from meridian.store.keys import Keys
from meridian.store.port import Absent, Item, Put, Store, StoreError

AGAIN_SECONDS = 1.0  # while the store is away
CHECK_SECONDS = 10.0  # a seat may be freed, or taken away, by an operator

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Cut:
    """Into how many seats and slices all limits are cut. Written by the first node, for good."""

    seats: int
    slices: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat held by this node."""

    index: int
    cut: Cut

    @property
    def spenders(self) -> int:
        """How many spenders share each limit."""
        return self.cut.seats * self.cut.slices

    @property
    def indexes(self) -> tuple[int, ...]:
        """This node's spenders among them, one for each slice."""
        return tuple(slice_ * self.cut.seats + self.index for slice_ in range(self.cut.slices))


@dataclass(frozen=True, slots=True)
class Found:
    """Decision: the limits have not been cut yet; write the cut."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Decision: take this seat."""

    index: int


@dataclass(frozen=True, slots=True)
class Full:
    """Decision: every seat is another node's."""

    cut: Cut


_cut_decoder = msgspec.json.Decoder(Cut)
_seat_decoder = msgspec.json.Decoder(Seat)


def decide(view: Mapping[str, Item], keys: Keys, name: str) -> Seat | Claim | Found | Full:
    """Returns what follows for node `name` from the content of keys.limits(). Raises msgspec.MsgspecError."""
    item = view.get(keys.limit("cut"))
    if item is None:
        return Found()
    cut = _cut_decoder.decode(item.value)
    holders = [view.get(keys.limit("seats", str(index))) for index in range(cut.seats)]
    names = [holder.value.decode(errors="replace") if holder is not None else None for holder in holders]
    if name in names:
        return Seat(names.index(name), cut)
    return Claim(names.index(None)) if None in names else Full(cut)


class Grants:
    """Finds or takes the seat, tells it by `granted` (None: spend nothing), and keeps a copy on disk."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        name: str,
        wanted: Cut,
        disk: SnapshotDisk,
        granted: Callable[[Seat | None], None],
    ) -> None:
        self.seat: Seat | None = None
        self.detail = "not asked yet"
        self._store = store
        self._keys = keys
        self._name = name
        self._wanted = wanted
        self._disk = disk
        self._granted = granted

    async def load(self) -> None:
        """Takes the seat that this node had before it was restarted; it is no other's, the store being there or not."""
        try:
            content = await self._disk.load("seat")
            if content is not None:
                self._hold(_seat_decoder.decode(content), "held from before; not confirmed by the store yet")
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("the seat on disk cannot be read: %s", error)

    async def run(self) -> None:
        """Takes and keeps the seat until cancelled."""
        while True:
            seconds = await self._step()
            await asyncio.sleep(seconds)

    async def _step(self) -> float:
        """Asks the store, acts, and returns the seconds after which to do it again."""
        try:
            listing = await self._store.list(self._keys.limits())
            decision = decide({item.key: item for item in listing.items}, self._keys, self._name)
            match decision:
                case Found():
                    key = self._keys.limit("cut")
                    await self._store.txn([Absent(key)], [Put(key, msgspec.json.encode(self._wanted))])
                    return 0.0
                case Claim(index):
                    key = self._keys.limit("seats", str(index))
                    await self._store.txn([Absent(key)], [Put(key, self._name.encode())])
                    return 0.0
                case Full(cut):
                    self._hold(None, f"all {cut.seats} seats are taken: limits admit nothing here; see --limit-nodes")
                case Seat(cut=cut) as seat:
                    await self._keep(seat, "" if cut == self._wanted else self._differs(cut))
        except msgspec.MsgspecError as error:
            self.detail = f"what the store holds about limits cannot be read: {error}"
        except StoreError as error:
            self.detail = f"the store is away; {'the seat is kept' if self.seat else 'no seat yet'} ({error})"
            return AGAIN_SECONDS
        return CHECK_SECONDS

    async def _keep(self, seat: Seat, detail: str) -> None:
        if seat != self.seat:
            try:
                await self._disk.save("seat", msgspec.json.encode(seat))
            except OSError as error:
                _log.warning("the seat could not be saved; a cold start without the store would have none: %s", error)
        self._hold(seat, detail)

    def _hold(self, seat: Seat | None, detail: str) -> None:
        self.detail = detail
        if seat != self.seat:
            self.seat = seat
            self._granted(seat)

    def _differs(self, cut: Cut) -> str:
        return (
            f"limits are cut for {cut.seats} nodes of {cut.slices} workers; this node's configuration says "
            f"{self._wanted.seats} of {self._wanted.slices}, which is not applied"
        )
