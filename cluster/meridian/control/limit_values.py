"""The values of limits in the store: a leader moves them to what the document says, and every node acknowledges them.

Invariant: every write of a value is under the leader's fence, and over the value that it was made from
(`seating.next_value`). What is to be acknowledged is written until the store has it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from meridian.control import seating
from meridian.control.fences import revision_of
from meridian.control.seating import View
from meridian.control.waiting import signalled
from meridian.core.granting.shares import Rule, Value
from meridian.store.keys import Keys
from meridian.store.port import Absent, Compare, CreatedAt, ModifiedAt, Put, Store, StoreError

AGAIN_SECONDS = 1.0  # after the store failed
LOOK_SECONDS = 0.5  # how soon a leader sees that a limit's change may be completed
IDLE_SECONDS = 3600.0

_log = logging.getLogger("meridian.control")


class LimitValues:
    """`view()` is what the store holds of limits, as last read; `name` is this node's."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        name: str,
        *,
        fence: Callable[[], int | None],
        view: Callable[[], View | None],
    ) -> None:
        self._store, self._keys, self._name, self._fence, self._view = store, keys, name, fence, view
        self._rules: Mapping[str, Rule] | None = None
        self._looked = asyncio.Event()
        self._acks: dict[str, tuple[int, int]] = {}  # to be written
        self._ack = asyncio.Event()

    def set_rules(self, rules: Mapping[str, Rule]) -> None:
        """What the document in force here says of limits: a leader makes it so."""
        self._rules = dict(rules)
        self._looked.set()

    def look(self) -> None:
        """The view has changed."""
        self._looked.set()

    def acknowledge(self, limit: str, order: tuple[int, int]) -> None:
        """All workers of this node keep to the value of this order."""
        self._acks[limit] = order
        self._ack.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._acknowledge())
            tasks.create_task(self._rule())

    async def _acknowledge(self) -> None:
        while True:
            for limit, order in list(self._acks.items()):
                view = self._view()
                if view is None or view.acknowledged.get(limit, {}).get(self._name) != order:
                    try:
                        await self._store.put(self._keys.limit_ack(limit, self._name), seating.encode(order))
                    except StoreError:
                        break
                if self._acks.get(limit) == order:
                    del self._acks[limit]
            await signalled(self._ack, AGAIN_SECONDS if self._acks else IDLE_SECONDS)

    async def _rule(self) -> None:
        while True:
            await signalled(self._looked, LOOK_SECONDS)
            fence, view = self._fence(), self._view()
            if fence is None or view is None or self._rules is None or view.epoch.frozen:
                continue
            for limit, wanted in self._rules.items():
                value = seating.next_value(view, limit, wanted)
                if value is not None:
                    await self._write(view, fence, limit, value)

    async def _write(self, view: View, fence: int, limit: str, value: Value) -> None:
        key, epoch = self._keys.limit_value(limit), self._keys.limit_epoch()
        item = view.items.get(key)
        when: list[Compare] = [
            CreatedAt(self._keys.leader(), revision_of(fence)),
            ModifiedAt(epoch, view.items[epoch].mod_revision),
            Absent(key) if item is None else ModifiedAt(key, item.mod_revision),
        ]
        try:
            await self._store.txn(when, [Put(key, seating.encode(value))])
        except StoreError as error:
            _log.info("limit %s could not be changed, again soon: %s", limit, error)
