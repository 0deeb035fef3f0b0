"""What only an operator can say of seats of limits, because no node can know it.

A home seat stays a machine's for good, so that it may go on spending while it is cut off: only somebody who saw that
the machine is off may give its seat to another. And a restored store does not know who sits where: only somebody who
knows the machines may say that all are back.
"""

from collections.abc import Collection
from dataclasses import replace

import msgspec

from meridian.control import seating
from meridian.store.keys import Keys
from meridian.store.port import Delete, ModifiedAt, Put, Store, StoreError


class SeatsDamaged(StoreError):
    """What the store holds of limits cannot be read; the message says what to do."""


class SeatsRefused(Exception):
    """The order does not fit who sits where; the message says why."""


async def settle(store: Store, keys: Keys) -> None:
    """Ends the wait after a restore: every node of before is back or off for good, and seats and values move again.

    Raises SeatsRefused if nothing waits, StoreError.
    """
    item = await store.get(keys.limit_epoch())
    try:
        epoch = seating.read_epoch(item.value) if item is not None else None
    except msgspec.MsgspecError as error:
        raise _damaged(error) from None
    if item is None or epoch is None or not epoch.frozen:
        raise SeatsRefused("limits do not wait for anybody: the store was not restored, or this was said already")
    thawed = seating.encode(replace(epoch, frozen=False))
    await _write_if_unchanged(store, [ModifiedAt(item.key, item.mod_revision)], [Put(item.key, thawed)])


async def free(store: Store, keys: Keys, node: str, present: Collection[str]) -> int:
    """Takes the home seats of a machine that is off for good, so that others may sit there; returns how many.

    `present` are the nodes that are there: they give their seats back by themselves. Raises SeatsRefused, StoreError.
    """
    if node in present:
        raise SeatsRefused(f"node {node} is there and may be spending: stop it for good first")
    items = {item.key: item for item in (await store.list(keys.limits())).items}
    try:
        view = seating.read(items, keys)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(error) from None
    seats = view.seats.items() if view is not None else ()
    named = [keys.limit_seat(index) for index, seat in seats if seat.home and seat.node == node]
    if view is None or not named:
        raise SeatsRefused(f"no home seat is held by a node {node!r}")
    guards = [ModifiedAt(key, view.items[key].mod_revision) for key in named]
    await _write_if_unchanged(store, guards, [Delete(key) for key in named])
    return len(named)


def _damaged(error: Exception) -> SeatsDamaged:
    return SeatsDamaged(
        f"what the store holds of limits cannot be read ({error}): nodes keep the seats they have; restore a backup"
    )


async def _write_if_unchanged(store: Store, when: list[ModifiedAt], then: list[Put] | list[Delete]) -> None:
    if not (await store.txn(when, then)).succeeded:
        raise SeatsRefused("somebody changed the seats meanwhile: look at meridian status, then try again")
